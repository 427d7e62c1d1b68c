"""Rows that mean nothing are moved aside: what is kept of them, and what is put back in their place (F10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from kit.samples import NOW, a_task
from msgspec.structs import replace

from polpod.errors import Undecodable
from polpod.model.agents import Queue
from polpod.model.events import Event
from polpod.model.organisation.money import CostRecord
from polpod.model.tasks import Dependency, TaskStatus
from polpod.store import quarantine
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit
from polpod.store.organisation import CostRecords, StoredCost
from polpod.store.records import Tx
from polpod.store.sqlite import Connection, open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.tables import Dependencies, Events, Quarantine, Queues, Tasks

X = TypeVar("X")

COST = CostRecord(
    agent_id="a", task_id="7", provider="p", model="m", input_tokens=1, output_tokens=1, cost_usd=0.5, timestamp=NOW
)


@pytest.fixture
def db(tmp_path: Path) -> Connection:
    return open_writer(str(tmp_path / "state.db"), TASKS.schema)


@pytest.fixture
def store(db: Connection) -> Iterator[GroupCommit[Tx]]:
    made = GroupCommit(SqliteWriter(db), TASKS)
    yield made
    made.close()


def met(store: GroupCommit[Tx], body: Callable[[Tx], object]) -> list[str]:
    """What is told about the rows that the body meets, which are set aside; after that it meets none."""
    with pytest.raises(Undecodable) as bad:
        store.write(body)
    told = store.write(lambda tx: quarantine.set_aside(tx, bad.value))
    store.write(body)
    assert store.write(lambda tx: quarantine.set_aside(tx, bad.value)) == [], "once more changes nothing"
    return told


def test_a_row_is_kept_as_it_was_found(store: GroupCommit[Tx], db: Connection) -> None:
    task = a_task(idempotency_key="k", created_by=5)
    store.write(lambda tx: tx[Tasks].add(task))
    db.execute("UPDATE tasks SET doc = CAST(x'7b22ff' AS TEXT)")
    (told,) = met(store, lambda tx: tx[Tasks].find())
    assert told.startswith("task/7 does not decode: ")
    assert told.endswith("; it is kept in the table quarantine (1)")
    (kept,) = store.write(lambda tx: tx[Quarantine].find())
    assert (kept.subject, kept.table, kept.columns, kept.doc) == ("task/7", "tasks", Tasks.row(task).columns, '{"\\xff')
    (event,) = store.write(lambda tx: tx[Events].find())
    assert (event.kind, event.subject) == ("task:quarantined", "task/7")
    assert event.body == {"problem": kept.problem, "quarantine": 1, "status": "pending", "queue": "default"}
    assert store.write(lambda tx: quarantine.of_task(tx, "7")) == kept
    assert store.write(lambda tx: quarantine.of_task(tx, "8")) is None
    assert store.write(lambda tx: quarantine.by_idempotency_key(tx, 5, "k")) == kept
    assert store.write(lambda tx: quarantine.by_idempotency_key(tx, 6, "k")) is None


def test_what_refers_to_a_row_goes_with_it(store: GroupCommit[Tx], db: Connection) -> None:
    """Whether the database would let the row go without it or not."""

    def fill(tx: Tx) -> None:
        tx[Tasks].add(a_task())
        tx[Tasks].add(a_task(id="8", seq=8))
        for n in ("7", "8"):
            tx.append(CostRecords, StoredCost(0, replace(COST, task_id=n)))
        tx[Dependencies].add(Dependency(task_id="7", on_id="8"))

    store.write(fill)
    db.execute("UPDATE tasks SET doc = '{' WHERE id = '7'")
    met(store, lambda tx: tx[Tasks].find())
    assert [cost.record.task_id for cost in store.write(lambda tx: tx[CostRecords].find())] == ["8"]
    assert store.write(lambda tx: tx[Dependencies].count()) == 0
    kept = {row.subject: row.problem for row in store.write(lambda tx: tx[Quarantine].find())}
    assert kept.pop("task/7")
    assert kept == dict.fromkeys(("dependency/7/8", "cost_record/1"), "it went with task/7")


def test_a_row_that_was_mended_meanwhile_stays(store: GroupCommit[Tx]) -> None:
    store.write(lambda tx: tx[Tasks].add(a_task()))
    bad = Undecodable("", "tasks", [("7",), ("8",)])
    assert store.write(lambda tx: quarantine.set_aside(tx, bad)) == []
    assert store.write(lambda tx: tx[Tasks].count()) == 1


@pytest.mark.parametrize("status", [TaskStatus.DONE, TaskStatus.FAILED])
def test_a_dependency_is_made_anew(store: GroupCommit[Tx], db: Connection, status: TaskStatus) -> None:
    wanted = Dependency(task_id="8", on_id="7", met=status is TaskStatus.DONE)

    def fill(tx: Tx) -> None:
        tx[Tasks].add(a_task(status=status))
        tx[Tasks].add(a_task(id="8", seq=8))
        tx[Dependencies].add(wanted)

    store.write(fill)
    db.execute("UPDATE dependencies SET doc = '[]'")
    met(store, lambda tx: tx[Dependencies].find())
    assert store.write(lambda tx: tx[Dependencies].find()) == [wanted]
    assert [e.subject for e in store.write(lambda tx: tx[Events].find())] == ["dependency/8/7"]


def test_a_queue_is_made_anew_and_paused(store: GroupCommit[Tx], db: Connection) -> None:
    store.write(lambda tx: tx[Queues].add(Queue(name="q", slots=1)))
    db.execute("UPDATE queues SET doc = '[]'")
    met(store, lambda tx: tx[Queues].find())
    assert store.write(lambda tx: tx[Queues].find()) == [Queue(name="q", paused=True)]


def test_the_journal_goes_on_after_an_event_that_means_nothing(store: GroupCommit[Tx], db: Connection) -> None:
    def say(tx: Tx) -> int:
        return tx.append(Events, Event(at=NOW, kind="x", subject="y")).seq

    store.write(say)
    store.write(say)
    db.execute("UPDATE events SET doc = '[]' WHERE seq = 2")
    assert store.write(say) == 3, "nobody had to read it"
    met(store, lambda tx: tx[Events].find())
    journal = store.write(lambda tx: tx[Events].find())
    assert [(e.seq, e.kind) for e in journal] == [(1, "x"), (2, "event:quarantined"), (3, "x")]


def test_a_row_of_the_quarantine_itself_is_kept_there(store: GroupCommit[Tx], db: Connection) -> None:
    store.write(lambda tx: tx[Queues].add(Queue(name="q")))
    db.execute("UPDATE queues SET doc = '[]'")
    met(store, lambda tx: tx[Queues].find())
    db.execute("UPDATE quarantine SET doc = '{'")
    met(store, lambda tx: tx[Quarantine].find())
    (kept,) = store.write(lambda tx: tx[Quarantine].find())
    assert (kept.seq, kept.subject, kept.doc) == (2, "quarantine/1", "{")


def test_what_names_a_row_goes_with_it(store: GroupCommit[Tx], db: Connection) -> None:
    """Costs refer to tasks, and nothing removes them by itself: they are kept, and not in the way."""
    costs = [
        CostRecord(agent_id="a", task_id=name, provider="p", model="m", input_tokens=1, output_tokens=1, cost_usd=1.0, timestamp=NOW)
        for name in ("8", "7")
    ]  # fmt: skip
    for task_id, seq in (("7", 7), ("8", 8)):
        store.write(lambda tx: tx[Tasks].add(a_task(id=task_id, seq=seq)))
    for cost in costs:
        store.write(lambda tx: tx.append(CostRecords, StoredCost(0, cost)))
    db.execute("UPDATE tasks SET doc = '{' WHERE id = '7'")
    met(store, lambda tx: tx[Tasks].find())
    assert [entry.record for entry in store.write(lambda tx: tx[CostRecords].find())] == costs[:1]
    assert [row.subject for row in store.write(lambda tx: tx[Quarantine].find())] == ["task/7", "cost_record/2"]
