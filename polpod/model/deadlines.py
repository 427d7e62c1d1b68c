"""When a deadline is looked at next; what is found then is decided in rules/deadlines.py."""

from __future__ import annotations

from datetime import UTC, datetime

from polpod.model.tasks import Sla, SlaState

AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
FINAL = frozenset({SlaState.VIOLATED, SlaState.MET})


def look_at(deadline: datetime | None, sla: Sla | None, *, done: bool, dropped: bool) -> datetime | None:
    """When to look at the deadline of what is `done`, or was given up (`dropped`), or goes on; None: never.

    AT_ONCE where it was not looked at yet, and where what is done was not judged.
    """
    if deadline is None or dropped:
        return None
    if sla is None or sla.deadline != deadline:
        return AT_ONCE
    if done:
        return None if sla.state in FINAL else AT_ONCE
    return sla.look_at
