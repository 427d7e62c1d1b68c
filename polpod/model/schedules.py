"""Schedules: when a mission is carried out by itself, and what became of that.

Everything that later behaviour depends on is here, so that a daemon that was away goes on from it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from polpod.model.tasks import Count, Instant

Misfire = Literal["skip", "once", "all"]
"""What becomes of times at which no daemon was there: nothing, one execution for all of them, or one for each."""
Overlap = Literal["skip", "queue", "allow"]
"""What becomes of a time at which the mission is being carried out: nothing, an execution after that, or one beside it."""


class Schedule(Struct, frozen=True, kw_only=True):
    mission_id: str
    expression: str
    """Cron, of five fields, or an instant."""
    timezone: str
    """By whose clock; a name of the IANA database."""
    recurring: bool
    enabled: bool = True
    reason: str | None = None
    """Why it is not enabled."""
    end_date: Instant | None = None
    """From then on nothing is carried out."""
    misfire: Misfire = "once"
    overlap: Overlap = "skip"
    next_at: Instant | None = None
    """The next time of the expression; None: there is none."""
    counted_from: Instant
    """`next_at` is the first time after this."""
    owed: Count = 0
    """Executions that wait for the one that goes on to end."""
    owed_at: Instant | None = None
    """When it ended."""
    last_at: Instant | None = None
    last_execution: str | None = None
    last_outcome: str | None = None
    """A status of executions, or `refused`: none could be made."""
    last_reason: str | None = None
    created_by: int
    version: int = 1
    created_at: Instant
    updated_at: Instant

    @property
    def wake_at(self) -> datetime | None:
        """When to look at it next."""
        times = (self.next_at, self.owed_at, self.end_date)
        return min((at for at in times if at is not None), default=None) if self.enabled else None
