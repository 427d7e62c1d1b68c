"""Looks at deadlines when one of them is close, has passed, or was met, and only then (polpo-behaviour §8.9).

Rules:

1. What was found is stored with what it is about, in the transaction of its event: nothing is found twice, also across
   restarts.  What is to be found next, and when, is a column with an index.
2. A task that shall fail at its deadline is failed in that transaction.  One that runs is marked as to be ended in it;
   its run is ended then, by whichever daemon is there, and the task fails when that is over (W37).
"""

from __future__ import annotations

from datetime import datetime

import trio
from msgspec import structs

from polpod import crash
from polpod.config import Sla as Settings
from polpod.model.changes import Change
from polpod.model.executions import Execution, ExecutionStatus
from polpod.model.runs import Reason
from polpod.model.tasks import Sla, SlaState, Task, TaskStatus, changed
from polpod.rules import deadlines as rules
from polpod.rules.deadlines import BY_DEADLINE
from polpod.rules.tasks import event, walk
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.killer import Killer
from polpod.services.missions.executing import note
from polpod.store import changes
from polpod.store.missions import Executions
from polpod.store.records import Tx
from polpod.store.tables import Events, Tasks

BATCH = 256
FALLBACK = 60.0

EVENTS = {SlaState.WARNED: "sla:warning", SlaState.VIOLATED: "sla:violated", SlaState.MET: "sla:met"}

S = TaskStatus
TO_FAILED = {
    S.DRAFT: (S.PENDING, S.AWAITING_APPROVAL, S.FAILED),
    S.PENDING: (S.AWAITING_APPROVAL, S.FAILED),
    S.AWAITING_APPROVAL: (S.FAILED,),
    S.REVIEW: (S.FAILED,),
}
"""The way of a task that does not run."""


async def serve(instance: Instance, killer: Killer) -> None:
    """Look at deadlines for as long as the daemon lives."""
    await instance.recovered.wait()
    settings = instance.config.settings.sla
    while True:
        first = await insist_read(instance.tasks, next_look)
        wait = FALLBACK if first is None else min(FALLBACK, (first - now()).total_seconds())
        if wait > 0:
            await instance.journal.deadlines.wait(trio.current_time() + wait)
            continue
        runs = await insist(instance.tasks, lambda tx: look(tx, settings, now()))
        if runs:
            crash.point("deadline.failed")
            await killer.request(runs, Reason.TIMEOUT, BY_DEADLINE)


def next_look(tx: Tx) -> datetime | None:
    """When there is something to find next."""
    tasks = tx[Tasks].find(Tasks.sla_at.is_set(), order_by=(Tasks.sla_at.asc(), Tasks.seq.asc()), limit=1)
    order = (Executions.sla_at.asc(), Executions.seq.asc())
    executions = tx[Executions].find(Executions.sla_at.is_set(), order_by=order, limit=1)
    times = [Tasks.sla_at.get(t) for t in tasks] + [Executions.sla_at.get(x) for x in executions]
    return min((at for at in times if at is not None), default=None)


def look(tx: Tx, settings: Settings, at: datetime) -> list[int]:
    """One batch of what is due; the live runs that have to be ended for it."""
    runs = []
    order = (Tasks.sla_at.asc(), Tasks.seq.asc())
    for task in tx[Tasks].find(Tasks.sla_at.le(at), order_by=order, limit=BATCH):
        runs += _look_at_task(tx, task, settings, at)
    earliest = (Executions.sla_at.asc(), Executions.seq.asc())
    for execution in tx[Executions].find(Executions.sla_at.le(at), order_by=earliest, limit=BATCH):
        _look_at_execution(tx, execution, settings, at)
    return runs


def _look_at_task(tx: Tx, task: Task, settings: Settings, at: datetime) -> list[int]:
    assert task.deadline is not None  # of the column
    done_at = (task.finished_at or task.updated_at) if task.status is S.DONE else None
    sla = rules.look(task.deadline, task.sla, task.created_at, done_at, at, settings.warning_threshold)
    found = structs.replace(task, sla=sla)
    tx[Tasks].save(found)  # no other version: who edits the task meanwhile is in nobody's way
    if not _is_news(sla, task.sla):
        return []
    fails = settings.violation_action == "fail" and sla.state is SlaState.VIOLATED and done_at is None
    body = rules.body(sla, task.created_at, done_at, at) | ({"action": "fail"} if fails else {})
    tx.append(Events, event(found, EVENTS[sla.state], at, **body))
    if not fails:
        return []
    if not task.occupies:
        changes.apply(
            tx, walk(found, at, *TO_FAILED[task.status], why="its deadline has passed", cancelled_by=BY_DEADLINE)
        )
        return []
    if task.cancelled_by is None:
        asked = changed(found, at, cancelled_by=BY_DEADLINE)
        noted = event(asked, "task:updated", at, fields=["cancelled_by"], by=BY_DEADLINE)
        changes.apply(tx, Change(asked, (noted,)))
    return [] if task.run_id is None else [task.run_id]


def _look_at_execution(tx: Tx, execution: Execution, settings: Settings, at: datetime) -> None:
    assert execution.deadline is not None  # of the column
    began_at = execution.started_at
    done_at = execution.finished_at if execution.status is ExecutionStatus.COMPLETED else None
    sla = rules.look(execution.deadline, execution.sla, began_at, done_at, at, settings.warning_threshold)
    tx[Executions].save(structs.replace(execution, sla=sla))
    if _is_news(sla, execution.sla):
        note(tx, at, execution, EVENTS[sla.state], **rules.body(sla, began_at, done_at, at))


def _is_news(sla: Sla, before: Sla | None) -> bool:
    known = before.state if before is not None and before.deadline == sla.deadline else SlaState.OPEN
    return sla.state is not known
