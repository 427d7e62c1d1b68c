"""How often a task is tried again by itself, and after how long (DESIGN §5, §7)."""

from __future__ import annotations

from datetime import datetime

from polpod.model.runs import Reason
from polpod.model.tasks import Backoff, Task

AGENT_MAX_RETRIES = 3
"""For work given to an agent when nobody said otherwise; a plain command is not repeated behind its user's back."""

LAUNCH_BACKOFF = Backoff(delay=1.0, factor=2.0, limit=60.0, jitter=0.0)
"""Between attempts that never started; they spend neither a retry nor a recovery."""

LAUNCH_FAILURES_UNTIL_PARKED = 10
LAUNCH_FAILURES_UNTIL_PAUSED = 3
"""Of different tasks in a row: then it is the host that is ill, and the launcher pauses."""


def allowed(task: Task, reason: Reason) -> bool:
    """Whether a failure for this reason is followed by another attempt."""
    limit = task.max_retries
    if limit is None:
        # What cannot be executed will not be there a second later either: only who asked gets another try.
        limit = AGENT_MAX_RETRIES if task.assigned_to and reason is not Reason.SPAWN_FAILED else 0
    return task.retries - task.manual_retries < limit


def resumed(task: Task, now: datetime) -> datetime | None:
    """When a delay is over that began later than `now`: the wall clock went back behind its beginning (F64).

    It is as long again, from now.  None: it stands.  Only between attempts: an instant that a person chose for the first
    one is what their clock will say.
    """
    if task.not_before is None or not task.attempts or task.updated_at <= now:
        return None
    return now + (task.not_before - task.updated_at)


def delay(backoff: Backoff, tries: int, roll: float) -> float:
    """Seconds to wait before the attempt that follows `tries` earlier ones; `roll` in [0, 1) spreads it."""
    grown = min(backoff.limit, backoff.delay)
    # Step by step within the limit: a power would overflow; and 64 doublings reach any limit.
    for _ in range(min(tries, 64)):
        grown = min(backoff.limit, grown * backoff.factor)
    return grown * (1 + backoff.jitter * (2 * roll - 1))
