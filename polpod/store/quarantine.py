"""Rows of the task store that mean nothing, and where they are kept instead (F10).

Rules:

1. Nothing is thrown away: a row is moved, with all its columns and its document, into the table `quarantine`, and so
   are the rows that have to go with it.
2. The same transaction writes the event: `task:quarantined` about `task/12`, and so on by the noun of the table.
3. What others stand on is put back, as far as the key alone tells what it must be: a queue, paused, since nobody knows
   how it was set; a dependency; an event's place in the journal, which then says that it was quarantined.

A task is gone from all lists, cannot be started, and holds up what depends on it; its run goes on, and is collected.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from polpod.errors import Undecodable
from polpod.model.agents import Queue
from polpod.model.events import Event
from polpod.model.executions import BarrierState
from polpod.model.tasks import Dependency, TaskStatus
from polpod.store.missions import Barriers
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.table import AnyTable, Row
from polpod.store.tables import Dependencies, Events, Quarantine, Quarantined, Queues, Tasks

_BY_NAME: dict[str, AnyTable] = {table.name: table for table in TABLES}


def set_aside(tx: Tx, bad: Undecodable) -> list[str]:
    """Move those of the named rows that are still there and still do not decode; a sentence about each."""
    table = _BY_NAME[bad.table]
    told = []
    for key in bad.keys:
        for row in tx[table].stored(*table.with_key(key)):
            if (problem := table.problem(row.doc)) is not None:
                kept = move(tx, table, row, problem)
                told.append(
                    f"{kept.subject} does not decode: {problem}; it is kept in the table quarantine ({kept.seq})"
                )
    return told


def of_task(tx: Tx, task_id: str) -> Quarantined | None:
    """The row of that task, where it was set aside."""
    found = tx[Quarantine].find(Quarantine.subject.eq(f"{Tasks.noun}/{task_id}"), limit=1)
    return found[0] if found else None


def of_tasks(tx: Tx) -> list[Quarantined]:
    """The rows of all tasks that were set aside."""
    return tx[Quarantine].find(Quarantine.subject.glob(f"{Tasks.noun}/*"))


def by_idempotency_key(tx: Tx, created_by: int, key: str) -> Quarantined | None:
    """The row of the task that this user submitted under this key, where it was set aside."""
    found = tx[Quarantine].find(Quarantine.idempotency_key.eq(key))
    return next((row for row in found if row.columns[Tasks.created_by.name] == created_by), None)


def move(tx: Tx, table: AnyTable, row: Row, problem: str) -> Quarantined:
    """Keep this row, with what refers to it, and put in its place what has to be there; whether it is still there or not."""
    key = table.key_of(row)
    kept, note = _kept_and_noted(tx, table, row, problem)
    _take_along(tx, table, key, kept)
    tx[table].delete_where(*table.with_key(key))
    if table is Events:
        note = msgspec.structs.replace(note, seq=key[0])
        tx[Events].add(note)
        tx.appended.append(note)
    else:
        tx.append(Events, note)
    if (stand_in := _stand_in(tx, table, key)) is not None:
        tx[table].add(stand_in)
    return kept


def keep_nameless(tx: Tx, table: AnyTable, row: Row, problem: str) -> Quarantined:
    """Keep what may have been a row of this table, whose key nobody knows; in `row`, something stands for it."""
    kept, note = _kept_and_noted(tx, table, row, problem)
    tx.append(Events, note)
    return kept


def _kept_and_noted(tx: Tx, table: AnyTable, row: Row, problem: str) -> tuple[Quarantined, Event]:
    at = datetime.now(UTC)
    kept = _keep(tx, table, row, problem, at)
    body = {"problem": problem, "quarantine": kept.seq}
    if table is Tasks:
        body |= {column.name: row.columns[column.name] for column in (Tasks.status, Tasks.queue)}
    return kept, Event(at=at, kind=f"{table.noun}:quarantined", subject=kept.subject, body=body)


def _take_along(tx: Tx, table: AnyTable, key: tuple[Any, ...], of: Quarantined) -> None:
    for other in TABLES:
        for ref in other.refs:
            if ref.table is table:
                for row in tx[other].stored(ref.column.eq(key[0])):
                    kept = _keep(tx, other, row, f"it went with {of.subject}", of.at)
                    _take_along(tx, other, other.key_of(row), kept)
                    tx[other].delete_where(*other.with_key(other.key_of(row)))


def _keep(tx: Tx, table: AnyTable, row: Row, problem: str, at: datetime) -> Quarantined:
    subject = "/".join((table.noun, *map(str, table.key_of(row))))
    doc = (row.doc or b"").decode(errors="backslashreplace")
    entry = Quarantined(at=at, subject=subject, table=table.name, problem=problem, columns=row.columns, doc=doc)
    return tx.append(Quarantine, entry)


def _stand_in(tx: Tx, table: AnyTable, key: tuple[Any, ...]) -> Queue | Dependency | None:
    if table is Queues:
        return Queue(name=key[0], paused=True)
    if table is Dependencies and tx[Tasks].count(Tasks.id.eq(key[0])):
        barrier = tx[Barriers].get(key[1])
        if barrier is not None:
            opened = barrier.state is BarrierState.OPEN
            return Dependency(task_id=key[0], on_id=key[1], met=opened, barrier=True)
        met = tx[Tasks].count(Tasks.id.eq(key[1]), Tasks.status.eq(TaskStatus.DONE))
        return Dependency(task_id=key[0], on_id=key[1], met=bool(met))
    return None
