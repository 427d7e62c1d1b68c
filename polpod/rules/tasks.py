"""The task state machine (DESIGN §5).

Rule 1: a task's status changes here and nowhere else.  Rule 2: this file reads no clock and performs no I/O.  Rule 3: every
edge that is walked is one event; whoever stores the task stores the events in the same transaction.

Three ways lead from one status to another: `walk` along the edges of the table, `requeue` after an attempt that says
nothing about the work, and `unsafe_set_status` for those who must overrule the machine and say why.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from polpod.errors import InvalidTransition
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.tasks import FINISHED, Task, TaskStatus, changed

S = TaskStatus

EDGES: Mapping[TaskStatus, tuple[TaskStatus, ...]] = {
    S.DRAFT: (S.PENDING, S.CANCELLED),
    S.PENDING: (S.ASSIGNED, S.AWAITING_APPROVAL, S.CANCELLED),
    S.AWAITING_APPROVAL: (S.ASSIGNED, S.FAILED, S.DONE, S.PENDING, S.CANCELLED),
    S.ASSIGNED: (S.IN_PROGRESS, S.AWAITING_APPROVAL, S.CANCELLED),
    S.IN_PROGRESS: (S.REVIEW, S.FAILED, S.AWAITING_APPROVAL, S.CANCELLED),
    S.REVIEW: (S.DONE, S.FAILED, S.AWAITING_APPROVAL, S.CANCELLED),
    S.FAILED: (S.PENDING,),
    S.CANCELLED: (S.PENDING,),
    S.DONE: (),
}

RequeueReason = Literal["never_started", "lost", "shutdown"]
REQUEUED_FROM = frozenset({S.ASSIGNED, S.IN_PROGRESS, S.REVIEW})


def event(task: Task, kind: str, now: datetime, **body: object) -> Event:
    """An event about the task; it says what execution and what A2A task it is part of, and until when it should be done."""
    if task.execution_id is not None:
        body["execution_id"] = task.execution_id
    if task.deadline is not None:
        body.setdefault("deadline", task.deadline)
    if task.a2a_id is not None:
        body["a2a_id"] = task.a2a_id
    return Event(at=now, kind=kind, subject=f"task/{task.id}", body=body)


def walk(task: Task, now: datetime, *path: TaskStatus, why: str | None = None, **values: object) -> Change:
    """Walk the edges of `path` in order; `values` are set with the last of them, `why` is kept in each event.

    Raises InvalidTransition, with nothing done, when one of the edges is not in the table.
    """
    events = []
    retries = task.retries
    status = task.status
    for to in path:
        if to not in EDGES[status]:
            allowed = ", ".join(EDGES[status]) or "none"
            raise InvalidTransition(f"Invalid transition: {status} → {to} (allowed: {allowed})")
        retries += (status, to) == (S.FAILED, S.PENDING)
        events.append(_moved(task, status, to, now, why))
        status = to
    if status in FINISHED:
        values.setdefault("finished_at", now)
    elif task.status in FINISHED:
        values.setdefault("finished_at", None)
    return Change(changed(task, now, status=status, retries=retries, **values), tuple(events))


def requeue(task: Task, now: datetime, reason: RequeueReason, *, park: bool, **values: object) -> Change:
    """Back to pending (`park`: to awaiting_approval) without spending a retry, after an attempt that decided nothing.

    Raises InvalidTransition unless the task was on its way (DESIGN §5).
    """
    to = S.AWAITING_APPROVAL if park else S.PENDING
    if task.status not in REQUEUED_FROM:
        raise InvalidTransition(f"Invalid transition: {task.status} → {to} (only work on its way is requeued)")
    recoveries = task.recoveries + (reason == "lost")
    moved = changed(task, now, status=to, recoveries=recoveries, **values)
    recovered = event(task, "task:recovered", now, previous=task.status, reason=reason)
    return Change(moved, (recovered, _moved(task, task.status, to, now, reason)))


def unsafe_set_status(task: Task, to: TaskStatus, reason: str, now: datetime) -> Change:
    """Overrule the machine; the reason is mandatory and kept in the journal (`polpo-stores`: TaskStore.unsafeSetStatus).

    Raises ValueError when the reason is empty.
    """
    if not reason.strip():
        raise ValueError("unsafe_set_status needs a reason")
    moved = _moved(task, task.status, to, now, reason)
    finished_at = (task.finished_at or now) if to in FINISHED else None
    overruled = changed(task, now, status=to, finished_at=finished_at)
    return Change(overruled, (msgspec.structs.replace(moved, body=moved.body | {"unsafe": True}),))


def _moved(task: Task, status: TaskStatus, to: TaskStatus, now: datetime, why: str | None) -> Event:
    body = {"from": status, "to": to, "queue": task.queue} | ({"reason": why} if why else {})
    return event(task, "task:transition", now, **body)
