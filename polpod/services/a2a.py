"""A2A tasks in the task store: the rules of rules/a2a.py, applied to what is stored.

Rules:

1. One function, one transaction: the task, and the event that says so without what is in it.
2. A member has to do with the tasks that its own user made, a run with those that it made itself, the owner with all.
   For whoever has nothing to do with a task there is none; only that its id is taken cannot be hidden.
3. A call that names itself (`Once`) is carried out once: again, it finds the task as it is.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from polpod.errors import PermissionDenied
from polpod.model.a2a import Changes, KeptTask, Once, SendParams, StoredTask
from polpod.rules import a2a as rules
from polpod.services.rpc.method import Caller, Right
from polpod.store import a2a as stored
from polpod.store import changes as journal
from polpod.store.a2a import A2ATasks
from polpod.store.records import Tx

CLIENTS = 32
"""Of so many clients that changed a task last, the last call is known."""


def upsert(
    tx: Tx,
    by: Caller,
    params: SendParams,
    now: datetime,
    *,
    is_streaming: bool = False,
    caller_id: str | None = None,
    once: Once | None = None,
) -> StoredTask:
    """Begin the task with this message, or add it.  Raises PermissionDenied, TooLarge."""
    kept = tx[A2ATasks].get(params.id)
    if kept is not None and not _concerns(kept, by):
        raise PermissionDenied(f"task {params.id!r} is another user's")
    if kept is not None and _carried_out(kept, once):
        return kept.stored
    known = None if kept is None else kept.stored
    task = rules.upsert(known, params, now, is_streaming=is_streaming, caller_id=caller_id)
    if kept is None:
        kept = KeptTask(stored=task, seq=stored.next_seq(tx), created_by=by.uid, created_run=by.run_id)
    return _keep(tx, by, kept, task, once, now, "a2a:created" if known is None else "a2a:updated")


def update(
    tx: Tx, by: Caller, task_id: str, changes: Changes, now: datetime, *, once: Once | None = None
) -> StoredTask:
    """Change the task.  Raises NotFound, PermissionDenied, Conflict, TooLarge."""
    kept = require(tx, by, task_id)
    if _carried_out(kept, once):
        return kept.stored
    task = rules.update(kept.stored, task_id, changes, now)
    return _keep(tx, by, kept, task, once, now, "a2a:updated")


def require(tx: Tx, by: Caller, task_id: str) -> KeptTask:
    """The task.  Raises NotFound: there is none for this caller."""
    kept = _of(tx, by, task_id)
    if kept is None:
        raise rules.absent(task_id)
    return kept


def get(
    tx: Tx, by: Caller, task_id: str, *, caller_id: str | None = None, history_length: int | None = None
) -> StoredTask | None:
    """The task, if there is one for this caller.  Raises InvalidRequest for a length below 0."""
    kept = _of(tx, by, task_id)
    known = None if kept is None else kept.stored
    return rules.shown(known, caller_id=caller_id, history_length=history_length)


def page(tx: Tx, by: Caller, *, before: int | None = None, limit: int = 100) -> list[KeptTask]:
    """Its tasks, the newest first; those from before the place `before` on."""
    match by.right:
        case Right.OWNER | Right.OPERATOR:
            return stored.page(tx, before=before, limit=limit)
        case Right.MEMBER:
            return stored.page(tx, A2ATasks.created_by.eq(by.uid), before=before, limit=limit)
        case Right.RUN:
            own = A2ATasks.created_run.is_set(), A2ATasks.created_run.eq(by.run_id)
            return stored.page(tx, *own, before=before, limit=limit)


def remove(tx: Tx, by: Caller, task_id: str, now: datetime) -> None:
    """Forget the task.  Raises NotFound."""
    require(tx, by, task_id)
    tx[A2ATasks].delete(task_id)
    journal.note(tx, now, "a2a:removed", _subject(task_id), by=by.name)


def _of(tx: Tx, by: Caller, task_id: str) -> KeptTask | None:
    kept = tx[A2ATasks].get(task_id)
    return kept if kept is not None and _concerns(kept, by) else None


def _concerns(kept: KeptTask, by: Caller) -> bool:
    """Rule 2."""
    match by.right:
        case Right.OWNER | Right.OPERATOR:
            return True
        case Right.MEMBER:
            return kept.created_by == by.uid
        case Right.RUN:
            return by.run_id is not None and kept.created_run == by.run_id


def _carried_out(kept: KeptTask, once: Once | None) -> bool:
    """Rule 3."""
    return once is not None and kept.calls.get(once.client, 0) >= once.number


def _keep(
    tx: Tx, by: Caller, kept: KeptTask, task: StoredTask, once: Once | None, now: datetime, kind: str
) -> StoredTask:
    calls = kept.calls
    if once is not None:
        others = [(client, number) for client, number in calls.items() if client != once.client]
        calls = dict([*others, (once.client, once.number)][-CLIENTS:])
    tx[A2ATasks].save(replace(kept, stored=task, calls=calls))
    journal.note(tx, now, kind, _subject(task.id), state=task.task.status.state, by=by.name)
    return task


def _subject(task_id: str) -> str:
    return f"{A2ATasks.noun}/{task_id}"
