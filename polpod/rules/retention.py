"""What of the past may go: tasks, runs and events (DESIGN §8, F60).

Rules:

1. A finished task goes as a whole, with its runs and their logs; while it is kept, so is its newest run.  One of a mission
   goes with its execution, and the last execution with its mission.
2. Nothing goes that is live, that is not collected yet, or that belongs to a task that is not finished.
3. The journal loses its oldest events only, one after another, so that a gap is seen from its first `seq`; the newest
   event stays, since the next one is numbered after it.  The records of notifications go in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto

from polpod.model.executions import Execution
from polpod.model.runs import Run
from polpod.model.tasks import Task

OWNER = "polpod"


class Fate(Enum):
    KEEP = auto()
    GO = auto()
    GO_WITH_TASK = auto()
    """It is the newest of a finished task: it goes if that goes."""


def task_may_go(task: Task) -> bool:
    """Whether a task may be forgotten by itself when its time has come."""
    return task.owner == OWNER and task.finished and task.mission_id is None


def execution_may_go(execution: Execution, last: Execution, before: datetime) -> bool:
    """Whether an execution goes with its tasks; `last` is the newest of its mission, which stays as long as that."""
    return execution.finished_at is not None and execution.finished_at <= before and execution.id != last.id


def fate_of(run: Run, task: Task | None) -> Fate:
    """What may become of a run that is too old, or one too many; `task` is None where it is gone."""
    if run.live or run.collected_at is None:
        return Fate.KEEP
    if task is None:
        return Fate.GO
    if not task.finished:
        return Fate.KEEP
    if run.id >= (task.run_id or 0):
        return Fate.GO_WITH_TASK if task_may_go(task) else Fate.KEEP
    return Fate.GO


def last_to_go(oldest: Sequence[tuple[int, datetime]], newest: int, before: datetime, most: int) -> int | None:
    """The `seq` up to which the journal goes: events from before `before`, and those beyond `most`; None: none goes.

    `oldest` are the `seq` and instant of the journal's first events, or of some that follow those that go anyway;
    `newest` is the last `seq`.
    """
    last = None
    for seq, at in oldest:
        if seq >= newest or (at > before and newest - seq < most):
            break
        last = seq
    return last
