"""Memories: a text that agents share, and one of each agent's own."""

from __future__ import annotations

from polpod.model.entity import Entity


class Memory(Entity, frozen=True, kw_only=True):
    scope: str
    content: str = ""
