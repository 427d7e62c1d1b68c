"""Missions and their executions: which status follows which, when a barrier opens, and how an execution ends.

Rule 1: pure functions of rows and of `now`; services/missions/ reads and stores the rows.  Rule 2: an execution is judged
by its own tasks and barriers alone: one mission's fate never depends on another's (invariant 12).  Rule 3: what was
opened stays open, and what is over stays over, however often it is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto

from msgspec import structs

from polpod.errors import InvalidTransition
from polpod.model.executions import Barrier, BarrierKind, BarrierState, ExecutionStatus
from polpod.model.polpo.missions import MissionStatus
from polpod.model.tasks import Task, TaskStatus

M = MissionStatus
X = ExecutionStatus

EDGES: Mapping[MissionStatus, tuple[MissionStatus, ...]] = {
    M.DRAFT: (M.SCHEDULED, M.RECURRING, M.ACTIVE),
    M.SCHEDULED: (M.DRAFT, M.RECURRING, M.ACTIVE, M.COMPLETED),
    M.RECURRING: (M.DRAFT, M.SCHEDULED, M.ACTIVE, M.COMPLETED),
    M.ACTIVE: (M.PAUSED, M.COMPLETED, M.FAILED, M.CANCELLED, M.SCHEDULED, M.RECURRING),
    M.PAUSED: (M.ACTIVE, M.COMPLETED, M.FAILED, M.CANCELLED, M.SCHEDULED, M.RECURRING),
    M.COMPLETED: (M.ACTIVE, M.SCHEDULED, M.RECURRING),
    M.FAILED: (M.ACTIVE, M.SCHEDULED, M.RECURRING),
    M.CANCELLED: (M.ACTIVE, M.SCHEDULED, M.RECURRING),
}
"""Polpo's edges (polpo-behaviour §8.3), made explicit: a paused mission can end, a completed one be carried out again."""

EXECUTION_EDGES: Mapping[ExecutionStatus, tuple[ExecutionStatus, ...]] = {
    X.ACTIVE: (X.PAUSED, X.CANCELLING, X.COMPLETED, X.FAILED, X.CANCELLED),
    X.PAUSED: (X.ACTIVE, X.CANCELLING, X.COMPLETED, X.FAILED, X.CANCELLED),
    X.CANCELLING: (X.CANCELLED,),
    X.COMPLETED: (),
    X.FAILED: (X.ACTIVE,),
    X.CANCELLED: (),
}
"""A failed one may be resumed: what failed in it is tried again."""


def require_edge(frm: MissionStatus | ExecutionStatus, to: MissionStatus | ExecutionStatus) -> None:
    """Raises InvalidTransition for an edge that is not in the table."""
    edges: Sequence[object] = EDGES[frm] if isinstance(frm, MissionStatus) else EXECUTION_EDGES[frm]
    if to not in edges:
        raise InvalidTransition(f"Invalid transition: {frm} → {to} (allowed: {', '.join(map(str, edges)) or 'none'})")


def reached(barrier: Barrier, before: Sequence[Task], now: datetime) -> Barrier:
    """The barrier when the last of the tasks `before` it is over: open, or holding for its own reason."""
    assert barrier.state is BarrierState.WAITING
    held = structs.replace(barrier, state=BarrierState.HOLDING, reached_at=now)
    match barrier.kind:
        case BarrierKind.CHECKPOINT:
            return held
        case BarrierKind.DELAY:
            return structs.replace(held, until=now + timedelta(seconds=barrier.duration or 0.0))
        case BarrierKind.GATE:
            reason = refused(barrier, before)
            return structs.replace(held, reason=reason) if reason else opened(held, now)


def opened(barrier: Barrier, now: datetime, by: str | None = None) -> Barrier:
    return structs.replace(barrier, state=BarrierState.OPEN, opened_at=now, opened_by=by, reason=None)


def refused(gate: Barrier, before: Sequence[Task]) -> str | None:
    """Why the gate does not open behind these tasks, which are over; None: it does."""
    bad = [task for task in before if task.status is not TaskStatus.DONE]
    if gate.require_all_passed and bad:
        names = ", ".join(f"{task.title} ({task.status})" for task in bad[:5])
        return f"not all passed: {names}" + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    if gate.min_score is None:
        return None
    mean = weighted([(value, 1.0) for task in before if (value := score(task)) is not None])
    if mean is None:
        return f"no scores, and {gate.min_score:g} is asked for"
    return None if mean >= gate.min_score else f"the mean score is {mean:.2f}, below {gate.min_score:g}"


def score(task: Task) -> float | None:
    """The score, 1 to 5, that the checks of the task's work gave last."""
    assessment = task.result.assessment if task.result is not None else None
    value = assessment.get("globalScore") if assessment is not None else None
    return float(value) if isinstance(value, int | float) else None


def _weight(task: Task) -> float:
    """Of its score: its priority, where that is a weight."""
    return float(task.priority) if task.priority > 0 else 1.0


def weighted(values: Sequence[tuple[float, float]]) -> float | None:
    """The mean of (value, weight); None where nothing weighs anything."""
    weight = sum(w for _, w in values)
    return sum(v * w for v, w in values) / weight if weight > 0 else None


class Verdict(Enum):
    GOES_ON = auto()
    DEADLOCK = auto()
    """All that is left waits for what failed for good."""
    OVER = auto()


def judge(*, blocked: bool, held: bool) -> Verdict:
    """An execution none of whose tasks runs, may start, or waits for a person or a clock.

    `blocked`: some wait for others; `held`: a barrier waits for a person or a clock, or did not let them through.
    """
    if not blocked:
        return Verdict.OVER
    return Verdict.GOES_ON if held else Verdict.DEADLOCK


def ending(tasks: Sequence[Task], threshold: float | None, *, aborted: bool) -> tuple[ExecutionStatus, str | None]:
    """How an execution ends whose tasks are all over, and why."""
    if aborted:
        return X.CANCELLED, "aborted"
    if bad := [task for task in tasks if task.status is not TaskStatus.DONE]:
        first = ", ".join(f"{task.title} ({task.status})" for task in bad[:3])
        return X.FAILED, f"{len(bad)} of {len(tasks)} tasks were not done: {first}{', …' if len(bad) > 3 else ''}"
    mean = weighted([(value, _weight(task)) for task in tasks if (value := score(task)) is not None])
    if threshold is not None and mean is not None and mean < threshold:
        return X.FAILED, f"the mean score is {mean:.2f}, below {threshold:g}"
    return X.COMPLETED, None


AFTER: Mapping[tuple[MissionStatus, ExecutionStatus], MissionStatus] = {
    (M.RECURRING, status): M.RECURRING for status in (X.COMPLETED, X.FAILED)
}
"""What a mission is after an execution of it, by what it was before; else what the execution is."""


def mission_after(before: MissionStatus, ended: ExecutionStatus) -> MissionStatus:
    return AFTER.get((before, ended), MissionStatus(ended.value))
