"""Agents: named ways to carry out tasks; and queues: named shares of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct


class Agent(Struct, frozen=True, kw_only=True, rename="camel"):
    """As it stands in polpo.json.  `command` is an argument vector in which `{prompt}` is replaced."""

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
    command: tuple[str, ...] = ()
    role: str = ""
    cwd: str | None = None
    env: dict[str, str] = {}
    max_concurrency: Annotated[int, Meta(ge=1)] | None = None
    reports_to: str | None = None
    """The agent that takes over what it does not get done."""


class Queue(Struct, frozen=True, kw_only=True):
    """`slots`: how many of its tasks may run at once; None is limited by the daemon's `maxConcurrency` alone."""

    name: str
    slots: Annotated[int, Meta(ge=0)] | None = None
    paused: bool = False


class Busy(Struct, frozen=True):
    """Slots that are taken, by queue and by agent: always counted from rows, never beside them (invariant 13)."""

    queues: Mapping[str, int]
    agents: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.queues.values())
