"""Deadlines: when one is close, when it has passed, and when it was met (polpo-behaviour §8.9).

Rules:

1. Pure: services/deadlines.py stores what they say.  2. Of one deadline, each finding is made once, however often it is
looked at; another deadline is looked at anew.  3. A deadline is an instant of the clock on the wall.
"""

from __future__ import annotations

from datetime import datetime

from polpod.model.deadlines import FINAL
from polpod.model.tasks import Sla, SlaState, Task, TaskStatus

BY_DEADLINE = "its deadline"
"""Who asked for the end of a task that shall fail at its deadline."""


def look(
    deadline: datetime, sla: Sla | None, began_at: datetime, done_at: datetime | None, now: datetime, threshold: float
) -> Sla:
    """What is found now.  `threshold`: the part of the time from `began_at` on after which it is close."""
    if sla is not None and sla.deadline != deadline:
        sla = None
    if sla is not None and sla.state in FINAL:
        return sla
    if now >= deadline if done_at is None else done_at > deadline:
        return Sla(deadline, SlaState.VIOLATED)
    if done_at is not None:
        return Sla(deadline, SlaState.MET)
    warn_at = began_at + (deadline - began_at) * threshold
    if (sla is not None and sla.state is SlaState.WARNED) or now >= warn_at:
        return Sla(deadline, SlaState.WARNED, deadline)
    return Sla(deadline, SlaState.OPEN, warn_at)


def kept(task: Task) -> SlaState | None:
    """Whether a task that is over met its deadline; None: it had none."""
    if task.deadline is None:
        return None
    met = task.status is TaskStatus.DONE and task.finished_at is not None and task.finished_at <= task.deadline
    return SlaState.MET if met else SlaState.VIOLATED


def body(sla: Sla, began_at: datetime, done_at: datetime | None, now: datetime) -> dict[str, object]:
    """What the event of a finding says; times are seconds."""
    passed, whole = ((done_at or now) - began_at).total_seconds(), (sla.deadline - began_at).total_seconds()
    match sla.state:
        case SlaState.WARNED:
            used = round(100 * passed / whole, 1) if whole > 0 else None
            about = {"elapsed": passed, "remaining": whole - passed, "percent_used": used}
        case SlaState.VIOLATED:
            about = {"overdue": passed - whole}
        case _:
            about = {"margin": whole - passed}
    return {"deadline": sla.deadline, **about}
