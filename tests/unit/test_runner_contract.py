"""The frozen statements and records that runner and daemon agree on (DESIGN §6)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from polpod.runner import contract

KEY = {"id": 1, "nonce": "n"}
MARKS = KEY | dict.fromkeys(contract.IDENTITY, 1)
OUTCOME = KEY | dict.fromkeys(contract.OUTCOME) | {"status": "completed", "reason": "exited", "exit_code": 0}
ENDED = {"id": 1, "error": "because", "ended_at": "now"}
KILL = dict.fromkeys(("kill_by", "kill_at", "kill_mono", "kill_boot", "kill_grace")) | {
    "id": 1,
    "kill_reason": "cancelled",
}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for script in contract.MIGRATIONS:
            db.executescript(script)
        insert(db)
        yield db


def insert(db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT INTO runs (task_id, attempt, queue, nonce, token_hash, status, created_at, boot_id, claim_until_mono, "
        "containment, log_path) VALUES ('t', 1, 'q', 'n', '-', 'starting', 'now', 'boot', 0, 'session', '/log')"
    )


def status(db: sqlite3.Connection) -> Any:
    return db.execute("SELECT status, reason FROM runs").fetchone()


def test_a_life(db: sqlite3.Connection) -> None:
    assert db.execute(contract.CLAIM, MARKS).rowcount == 1
    assert db.execute(contract.HEARTBEAT, KEY | {"heartbeat_at": "now"}).rowcount == 1
    assert db.execute(contract.FINISH, OUTCOME).rowcount == 1
    assert status(db) == ("completed", "exited")


@pytest.mark.parametrize("first", ["claim", "never_started"])
def test_whoever_decides_first_wins(db: sqlite3.Connection, first: str) -> None:
    """W9."""
    decide = [(contract.CLAIM, MARKS), (contract.NEVER_STARTED, ENDED)]
    if first == "never_started":
        decide.reverse()
    assert [db.execute(*statement).rowcount for statement in decide] == [1, 0]
    assert status(db) == (("running", None) if first == "claim" else ("lost", "never_started"))


@pytest.mark.parametrize("statement", ["CLAIM", "FINISH", "KILL_REQUEST", "HEARTBEAT"])
def test_another_nonce_moves_nothing(db: sqlite3.Connection, statement: str) -> None:
    if statement != "CLAIM":
        db.execute(contract.CLAIM, MARKS)
    values = MARKS | OUTCOME | {"heartbeat_at": "now", "nonce": "another"}
    cursor = db.execute(getattr(contract, statement), values)
    assert cursor.fetchone() is None
    assert cursor.rowcount in (0, -1)
    assert status(db) == ("starting" if statement == "CLAIM" else "running", None)


def test_a_second_end_changes_nothing(db: sqlite3.Connection) -> None:
    db.execute(contract.CLAIM, MARKS)
    db.execute(contract.LOST, ENDED)
    assert db.execute(contract.FINISH, OUTCOME).rowcount == 0
    assert db.execute(contract.CLAIM, MARKS).rowcount == 0
    assert status(db) == ("lost", "lost")


@pytest.mark.parametrize("column", [*contract.OUTCOME[:-3], "pid", "start_ticks", "nonce", "boot_id"])
def test_an_outcome_is_final(db: sqlite3.Connection, column: str) -> None:
    """W10."""
    db.execute(contract.CLAIM, MARKS)
    db.execute(contract.FINISH, OUTCOME)
    with pytest.raises(sqlite3.IntegrityError, match="final"):
        db.execute(f"UPDATE runs SET {column} = {column}")
    db.execute("UPDATE runs SET seen_at = 'now', collected_at = 'now'")
    db.execute("DELETE FROM runs")


def test_the_first_kill_wins_and_none_comes_after_the_end(db: sqlite3.Connection) -> None:
    assert db.execute(contract.REQUEST_KILL, KILL).rowcount == 1
    assert db.execute(contract.REQUEST_KILL, KILL | {"kill_reason": "shutdown"}).rowcount == 0
    assert db.execute(contract.KILL_REQUEST, KEY).fetchone() == ("cancelled", None)
    db.execute(contract.NEVER_STARTED, ENDED)
    insert(db)
    db.execute("DELETE FROM runs WHERE id = 2")
    assert db.execute(contract.REQUEST_KILL, KILL).rowcount == 0


def test_one_live_run_a_task(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(db)
    db.execute(contract.NEVER_STARTED, ENDED)
    insert(db)


def test_connect_refuses_what_is_not_there_or_not_in_wal_mode(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        contract.connect(str(tmp_path / "nowhere.db"))
    path = str(tmp_path / "plain.db")
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("CREATE TABLE t (a)")
    with pytest.raises(RuntimeError, match="delete, not wal"):
        contract.connect(path)


PAYLOAD = KEY | dict.fromkeys(contract.OUTCOME) | {"error": 'é "quoted"', "ended_at": contract.timestamp(0)}


def test_exit_json_comes_back() -> None:
    data = contract.encode_exit(PAYLOAD)
    assert len(data) == contract.EXIT_SIZE
    assert contract.decode_exit(data) == PAYLOAD


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[:100],
        lambda data: data.replace(b"quoted", b"quotes"),
        lambda data: b"[]",
        lambda data: contract.encode_exit({"id": 1}),
    ],
)
def test_a_damaged_exit_json_is_refused(damage: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- of several causes
        contract.decode_exit(damage(contract.encode_exit(PAYLOAD)))


@pytest.mark.parametrize("ended_at", [None, 5, "x", "2026-02-31T00:00:00.000000Z", "2026-02-01T00:00:00"])
def test_exit_json_with_no_instant_is_damaged(ended_at: object) -> None:
    with pytest.raises(ValueError, match=r"instant|day|format"):
        contract.decode_exit(contract.encode_exit(PAYLOAD | {"ended_at": ended_at}))


def test_timestamps_sort_as_time_does() -> None:
    assert contract.timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert contract.timestamp(1.25) == "1970-01-01T00:00:01.250000Z"
    assert contract.timestamp() <= contract.timestamp()


def test_the_mark_is_of_the_nonce_and_does_not_tell_it() -> None:
    marks = {contract.run_mark(f"{n:032x}") for n in range(1000)}
    assert len(marks) == 1000
    assert {len(mark) for mark in marks} == {8}
