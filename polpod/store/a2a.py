"""The table of A2A tasks, and what is asked of it beyond get and find."""

from __future__ import annotations

from polpod.model.a2a import KeptTask
from polpod.store.records import Tx
from polpod.store.table import Columns, Index, Table, Unique, Where

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


TABLES = (A2ATasks,)
