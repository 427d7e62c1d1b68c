"""Group commit: savepoints, what SQLite rolls back by itself, commits that fail, durability (DESIGN §8, B9, F49)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kit.disk import small_disk

from polpod.errors import AlreadyExists, CommitInDoubt, DiskFull, StoreError, Unavailable
from polpod.model.events import Event
from polpod.store.databases import RUNS, TASKS
from polpod.store.group import GROUP_MAX, Group, GroupCommit, Ticket
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.store.sqlite import Connection, open_reader, open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.tables import Events, Setting, Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BIG = "x" * 200_000
"""More than `nearly_full` leaves room for."""


class Watched(Connection):
    """Keeps the statements that open and close transactions, and fails those it is told to, once each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []
        self.faults: dict[str, int] = {}
        """Statement → the result code that it fails with."""
        self.levels: list[int] = []
        """`PRAGMA synchronous` at each BEGIN."""

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        if statement == "BEGIN IMMEDIATE":
            self.levels.append(super().execute("PRAGMA synchronous").fetchone()[0])
        if statement.split()[0] in ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"):
            self.seen.append(statement)
        if code := self.faults.pop(statement, None):
            error = sqlite3.OperationalError("planted")
            error.sqlite_errorcode = code
            raise error
        return super().execute(statement, values)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Watched]:
    made = open_writer(str(tmp_path / "state.db"), TASKS.schema, factory=Watched)
    assert isinstance(made, Watched)
    made.seen.clear()
    made.levels.clear()
    yield made
    made.close()


@pytest.fixture
def engine(db: Watched) -> GroupCommit[Tx]:
    return GroupCommit(SqliteWriter(db), TASKS)


def put(name: str, value: str = "v") -> Callable[[Tx], str]:
    def body(tx: Tx) -> str:
        tx[Settings].add(Setting(name, value))
        tx.append(Events, Event(at=NOW, kind="set", subject=name))
        return name

    return body


def drained(
    engine: GroupCommit[Tx], *bodies: Callable[[Tx], object], durable: bool = True
) -> tuple[list[object], Group[Tx]]:
    """One group of these bodies: what each gave or raised, and the group."""
    tickets = [Ticket(body, durable=durable) for body in bodies]
    for ticket in tickets:
        engine.submit(ticket)
    group = engine.drain()
    return [ticket.result if ticket.error is None else type(ticket.error) for ticket in tickets], group


def stored(db: Connection) -> list[str]:
    """What is committed, as another connection sees it; the journal must say the same."""
    reader = open_reader(db.path)
    names = [name for (name,) in reader.execute("SELECT name FROM settings ORDER BY name")]
    journal = reader.execute("SELECT seq, subject FROM events ORDER BY seq").fetchall()
    reader.close()
    assert sorted(subject for _, subject in journal) == names
    assert [seq for seq, _ in journal] == list(range(1, len(journal) + 1))
    return names


def nearly_full(db: Connection) -> None:
    """Leaves room for ten pages: SQLite then answers SQLITE_FULL as on a disk without space, for any user."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 10}")


def test_a_group_is_one_transaction(engine: GroupCommit[Tx], db: Watched) -> None:
    answers, group = drained(engine, put("a"), put("b"), put("c"))
    assert answers == ["a", "b", "c"]
    assert [s for s in db.seen if "part" not in s] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert [(e.seq, e.subject) for e in group.events] == [(1, "a"), (2, "b"), (3, "c")]
    assert stored(db) == ["a", "b", "c"]


def test_a_body_that_raises_hurts_nobody_else(engine: GroupCommit[Tx], db: Watched) -> None:
    def half(tx: Tx) -> None:
        put("half")(tx)
        raise KeyError("mine")

    answers, group = drained(engine, put("a"), half, put("a"), put("b"))
    assert answers == ["a", KeyError, AlreadyExists, "b"]
    assert [e.subject for e in group.events] == ["a", "b"]
    assert stored(db) == ["a", "b"]


def test_a_group_has_an_end(engine: GroupCommit[Tx]) -> None:
    for number in range(GROUP_MAX + 1):
        engine.submit(Ticket(put(str(number)), durable=True))
    assert len(engine.drain().tickets) == GROUP_MAX
    assert len(engine.drain().tickets) == 1
    assert engine.drain().tickets == []


def test_a_withdrawn_body_is_never_carried_out(engine: GroupCommit[Tx], db: Watched) -> None:
    ticket = Ticket(put("a"), durable=True)
    engine.submit(ticket)
    assert engine.withdraw(ticket)
    assert not engine.withdraw(ticket)
    assert drained(engine, put("b"))[0] == ["b"]
    assert stored(db) == ["b"]


def test_disk_full_in_one_body_costs_the_others_nothing(engine: GroupCommit[Tx], db: Watched) -> None:
    nearly_full(db)
    ran: list[str] = []

    def noted(name: str, value: str = "v") -> Callable[[Tx], str]:
        def body(tx: Tx) -> str:
            ran.append(name)
            return put(name, value)(tx)

        return body

    answers, group = drained(engine, noted("a"), noted("big", BIG), noted("b"))
    assert answers == ["a", DiskFull, "b"]
    assert ran == ["a", "big", "a", "big", "b"], "SQLite rolled back the group; then each ran alone, once, in order"
    assert db.seen.count("COMMIT") == 2
    assert [(e.seq, e.subject) for e in group.events] == [(1, "a"), (2, "b")]
    assert stored(db) == ["a", "b"]


def test_disk_full_in_the_first_body_lets_nothing_slip_out(engine: GroupCommit[Tx], db: Watched) -> None:
    """B9: a savepoint after the rollback would commit by itself."""
    nearly_full(db)
    db.faults["COMMIT"] = sqlite3.SQLITE_FULL
    answers, _ = drained(engine, put("big", BIG), put("a"), put("b"))
    assert answers == [DiskFull, DiskFull, "b"], "the planted fault meets the commit of `a`, alone"
    assert stored(db) == ["b"]


def test_after_disk_full_the_wal_is_the_first_to_give_room(engine: GroupCommit[Tx], db: Watched) -> None:
    for number in range(20):
        engine.write(put(str(number), "x" * 20_000))
    wal = Path(f"{db.path}-wal")
    before = wal.stat().st_size
    nearly_full(db)
    with pytest.raises(DiskFull):
        engine.write(put("big", BIG))
    engine.write(put("small"))
    assert wal.stat().st_size < before / 2


@pytest.mark.root
def test_where_space_is_scarce_what_is_committed_has_its_own_in_the_database(tmp_path: Path) -> None:
    """F49: so that a WAL which fills the disk can be emptied."""
    with small_disk(str(tmp_path), "48m"):
        db = open_writer(str(tmp_path / "state.db"), TASKS.schema)
        engine = GroupCommit(SqliteWriter(db), TASKS)
        for number in range(20):
            engine.write(put(str(number), BIG))
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            assert os.stat(db.path).st_blocks * 512 >= pages * 4096
        assert os.path.getsize(f"{db.path}-wal") > 20 * len(BIG), "nothing of it was copied yet"
        assert engine.truncate()
        assert os.path.getsize(db.path) == pages * 4096
        engine.close()


def test_where_there_is_space_nothing_is_taken_in_advance(engine: GroupCommit[Tx], db: Watched) -> None:
    before = os.path.getsize(db.path)
    engine.write(put("1", BIG))
    assert os.path.getsize(db.path) == before


def test_a_body_that_goes_on_after_disk_full_does_not_succeed(tmp_path: Path) -> None:
    db = open_writer(str(tmp_path / "runs.db"), RUNS.schema)
    engine = GroupCommit(SqliteWriter(db), RUNS)
    db.execute("CREATE TABLE filler (x)")
    nearly_full(db)

    def body(tx: RunTx) -> str:
        try:
            db.execute("INSERT INTO filler VALUES (?)", (BIG,))
        except sqlite3.OperationalError:
            return "stored"
        return "not full"

    with pytest.raises(StoreError, match="rolled back"):
        engine.write(body)
    engine.close()


@pytest.mark.parametrize(("code", "error"), [(sqlite3.SQLITE_FULL, DiskFull), (sqlite3.SQLITE_BUSY, Unavailable)])
def test_a_commit_that_failed_for_sure_is_answered(
    engine: GroupCommit[Tx], db: Watched, code: int, error: type[Exception]
) -> None:
    db.faults["COMMIT"] = code
    answers, group = drained(engine, put("a"), put("b"))
    assert answers == [error, error]
    assert group.events == ()
    assert stored(db) == []
    assert drained(engine, put("a"))[0] == ["a"], "and the next group is a new one"


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT])
def test_a_commit_in_doubt_is_answered_to_nobody(engine: GroupCommit[Tx], db: Watched, code: int) -> None:
    db.faults["COMMIT"] = code
    committed: list[None] = []
    engine.after_commit = lambda: committed.append(None)
    with pytest.raises(CommitInDoubt, match=r"state\.db"):
        drained(engine, put("a"))
    assert isinstance(engine.broken, CommitInDoubt)
    with pytest.raises(CommitInDoubt):
        drained(engine, put("b"))
    assert committed == []


@pytest.mark.parametrize(
    ("code", "error"),
    [(sqlite3.SQLITE_BUSY, Unavailable), (sqlite3.SQLITE_FULL, DiskFull), (sqlite3.SQLITE_IOERR, StoreError)],
)
def test_no_transaction_no_body(engine: GroupCommit[Tx], db: Watched, code: int, error: type[Exception]) -> None:
    db.faults["BEGIN IMMEDIATE"] = code
    ran: list[None] = []
    answers, _ = drained(engine, lambda tx: ran.append(None), put("a"))
    assert answers == [error, error]
    assert ran == []
    assert drained(engine, put("a"))[0] == ["a"]


def test_a_group_is_as_durable_as_its_most_demanding_body(engine: GroupCommit[Tx], db: Watched) -> None:
    normal, full = 1, 2

    def group(*durables: bool) -> None:
        for number, durable in enumerate(durables):
            engine.submit(Ticket(put(f"{len(db.levels)}.{number}"), durable=durable))
        engine.drain()

    group(True)
    group(False)
    group(False, False)
    group(False, True, False)
    assert db.levels == [full, normal, normal, full]


def test_after_commit_is_called_when_it_is_committed(engine: GroupCommit[Tx], db: Watched) -> None:
    seen: list[list[str]] = []
    engine.after_commit = lambda: seen.append(stored(db))
    drained(engine, put("a"), put("b"))
    db.faults["COMMIT"] = sqlite3.SQLITE_FULL
    drained(engine, put("c"))
    assert seen == [["a", "b"]]


def test_the_journal_goes_on_where_another_process_left_it(engine: GroupCommit[Tx], db: Watched) -> None:
    engine.write(put("a"))
    other = GroupCommit(SqliteWriter(open_writer(db.path, TASKS.schema)), TASKS)
    other.write(put("b"))
    other.close()
    engine.write(put("c"))
    assert stored(db) == ["a", "b", "c"]
