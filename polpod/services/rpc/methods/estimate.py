"""task.estimate: how far tasks are, and how long they will take."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from polpod.model.submissions import Id
from polpod.model.tasks import Task
from polpod.rules.estimates import RECENT, Estimate, estimate, left
from polpod.rules.metrics import work_of
from polpod.services.instance import now
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.changes import require
from polpod.store.organisation import TaskMetrics
from polpod.store.records import Tx

MOST = 100
"""Tasks of one call: each is a look into an index, and a reading of RECENT records."""


class Of(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MOST)]


class Outlook(Struct, frozen=True, kw_only=True):
    id: str
    status: str
    percent: float | None
    """What its run says of itself, as `text`."""
    text: str | None
    elapsed: float | None
    """Seconds since its run was started; null: it does not run."""
    usual: Estimate | None
    left: float | None
    """Seconds; 0: it takes longer than usual."""


class Outlooks(Struct, frozen=True):
    tasks: list[Outlook]


async def tasks(call: Call, params: Of) -> Outlooks:
    at = now()
    return await call.desk.instance.tasks.read(
        lambda tx: Outlooks([_outlook(tx, require(tx, task_id), at) for task_id in params.ids])
    )


def _outlook(tx: Tx, task: Task, at: datetime) -> Outlook:
    usual = None if task.finished else estimate(_durations(tx, task))
    said = task.progress if task.occupies and task.progress and task.progress.run_id == task.run_id else None
    elapsed = max(0.0, (at - task.started_at).total_seconds()) if task.occupies and task.started_at else None
    percent = None if said is None else said.percent
    return Outlook(
        id=task.id,
        status=task.status,
        percent=percent,
        text=None if said is None else said.text,
        elapsed=elapsed,
        usual=usual,
        left=left(usual, elapsed, percent),
    )


def _durations(tx: Tx, task: Task) -> list[float]:
    """Of earlier runs of the same work, the newest first."""
    newest = (TaskMetrics.completed_at.desc(),)
    same = [] if task.spec_id is None else [TaskMetrics.spec_id.eq(task.spec_id)]
    for which in (*same, TaskMetrics.work.eq(work_of(task))):
        if found := tx[TaskMetrics].find(which, order_by=newest, limit=RECENT):
            return [record.duration_seconds for record in found]
    return []


METHODS = (Method("task.estimate", Of, Outlooks, tasks, "How far tasks are, and how long they will take.", Right.RUN),)
