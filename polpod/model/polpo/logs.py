"""Log sessions: what an orchestrator noted while it was up, entry by entry."""

from __future__ import annotations

from polpod.model.entity import Entity
from polpod.model.tasks import Count, Instant


class LogEntry(Entity, frozen=True, kw_only=True):
    ts: Instant | None = None
    """None: when it is stored."""
    event: str
    data: object = None
    session_id: str = ""
    seq: int = 0
    """Order of all entries; the store gives it."""


class LogSession(Entity, frozen=True, kw_only=True):
    session_id: str
    started_at: Instant
    entries: Count = 0
    seq: int
