"""The tables of A2A tasks and of who works on them, and what is asked of it beyond get and find."""

from __future__ import annotations

from polpod.model.a2a import A2AAssignment, KeptTask
from polpod.store.records import Tx
from polpod.store.table import Columns, Index, Ref, Table, Unique, Where

_t = Columns[KeptTask]()


class A2ATasks(Table[KeptTask, str]):
    name = "a2a_tasks"
    noun = "a2a"
    entity = KeptTask
    id = _t.text("id", lambda t: t.stored.id)
    seq = _t.integer("seq", lambda t: t.seq)
    created_by = _t.integer("created_by", lambda t: t.created_by)
    created_run = _t.integer("created_run", lambda t: t.created_run)
    key = (id,)
    order = (seq.desc(),)
    unique = (Unique((seq,)),)
    indexes = (
        Index((created_by.asc(), seq.desc())),
        Index((created_run.asc(), seq.desc()), where_not_null=created_run),
    )


def next_seq(tx: Tx) -> int:
    """A place after all tasks that there are."""
    newest = tx[A2ATasks].stored(limit=1)
    return int(newest[0].columns[A2ATasks.seq.name] or 0) + 1 if newest else 1


def page(tx: Tx, *where: Where[KeptTask], before: int | None, limit: int) -> list[KeptTask]:
    """The newest tasks of which this holds, those from before the place `before` on."""
    older = () if before is None else (A2ATasks.seq.lt(before),)
    return tx[A2ATasks].find(*where, *older, limit=limit)


_w = Columns[A2AAssignment]()


class A2AAssignments(Table[A2AAssignment, str]):
    name = "a2a_assignments"
    noun = "a2a_assignment"
    entity = A2AAssignment
    task_id = _w.text("task_id", lambda w: w.task_id)
    a2a_id = _w.text("a2a_id", lambda w: w.a2a_id)
    message = _w.integer("message", lambda w: w.message)
    behind = _w.text("behind", lambda w: w.task_id if w.behind else None)
    key = (task_id,)
    unique = (Unique((a2a_id, message)),)
    indexes = (Index((behind.asc(),), where_not_null=behind),)
    refs = (Ref(a2a_id, A2ATasks, on_delete="cascade"),)


def newest_assignment(tx: Tx, a2a_id: str) -> A2AAssignment | None:
    """Who works, or worked, on what was said last of all that was assigned."""
    here = A2AAssignments.a2a_id.eq(a2a_id)
    return next(iter(tx[A2AAssignments].find(here, order_by=(A2AAssignments.message.desc(),), limit=1)), None)


TABLES = (A2ATasks, A2AAssignments)
