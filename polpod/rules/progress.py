"""What a run says about how far it is, kept on its task: the newest word of the newest run.

Rule: a job may say it as often as it likes; the journal tells of it once in TOLD_EVERY at most.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from polpod.errors import Conflict
from polpod.model.changes import Change
from polpod.model.tasks import Progress, Task, changed
from polpod.rules.tasks import event

TOLD_EVERY = timedelta(seconds=1)


def reported(task: Task, run_id: int, percent: float | None, text: str | None, at: datetime) -> Change:
    """What is None is as that run said it before.  Raises Conflict: the task does not run, or in another run."""
    if task.run_id != run_id or not task.occupies:
        raise Conflict(f"run {run_id} of task {task.id} is over")
    before = task.progress if task.progress is not None and task.progress.run_id == run_id else None
    if before is not None:
        percent = before.percent if percent is None else percent
        text = before.text if text is None else text
    tells = before is None or abs(at - before.told_at) >= TOLD_EVERY  # either way, since the clock may have been set
    told_at = at if before is None or tells else before.told_at
    progress = Progress(run_id=run_id, percent=percent, text=text, at=at, told_at=told_at)
    told = (event(task, "task:progress", at, run_id=run_id, percent=percent, text=text),) if tells else ()
    return Change(changed(task, at, progress=progress), told)
