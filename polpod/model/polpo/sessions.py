"""Sessions: conversations between a person and an agent, message by message."""

from __future__ import annotations

from typing import Literal

from polpod.model.entity import Entity
from polpod.model.tasks import Count, Instant

Role = Literal["user", "assistant"]


class ToolCall(Entity, frozen=True, kw_only=True):
    id: str
    name: str
    arguments: dict[str, object] | None = None
    result: str | None = None
    state: Literal["preparing", "calling", "completed", "error", "interrupted"]


class Message(Entity, frozen=True, kw_only=True):
    id: str
    seq: int
    session_id: str
    role: Role
    content: str
    ts: Instant
    tool_calls: tuple[ToolCall, ...] = ()


class Session(Entity, frozen=True, kw_only=True):
    id: str
    title: str | None = None
    agent: str | None = None
    message_count: Count = 0
    created_at: Instant
    updated_at: Instant
    touched: int
    """Order of the last updates of all sessions: clocks have ties, and go backwards."""
