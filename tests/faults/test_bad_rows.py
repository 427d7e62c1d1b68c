"""Databases that are damaged, too new or somebody else's, and single rows that mean nothing (F10, F53, F59)."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from kit.host import Host
from kit.starting import polpod
from kit.waiting import until

DATABASES = ("state.db", "runs.db")


def used(host: Host) -> None:
    """Some work was done and the daemon was stopped: all is in the database files themselves."""
    host.start()
    for _ in range(20):
        host.submit("true", hold=True)
    assert host.finished(host.submit("true"))["status"] == "done"
    assert host.stop() == 0


def refused(host: Host, path: Path, why: str, *commands: str) -> None:
    """No daemon starts on this file, which stays as it is; it is told which commands help."""
    before = path.read_bytes()
    status, output = polpod("--root", str(host.root))
    assert (status, "Traceback" in output) == (1, False), output
    assert str(path) in output
    assert why in output, output
    assert path.read_bytes() == before
    assert not Path(host.socket).exists()
    for words in commands:
        assert f"polpoctl --root {host.root} {words} " in output


# Files


@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_database_is_refused_by_name_and_left_as_it_is(host: Host, name: str) -> None:
    used(host)
    path = Path(host.paths.path, name)
    good = path.read_bytes()
    for damaged in (
        b"no database at all" * 400,
        bytes(len(good)),
        b"\0" * 100 + good[100:],
        good[:8192] + bytes(len(good) - 8192),
        good[:5000],
    ):
        path.write_bytes(damaged)
        refused(host, path, "", "store check", "store restore BACKUP", "store salvage")
    path.write_bytes(good)
    host.start()
    assert len(host.call("task.list", select={"status": ["pending"]})["tasks"]) == 20


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_of_a_later_version_is_refused(host: Host, name: str) -> None:
    used(host)
    path = Path(host.paths.path, name)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    refused(host, path, "later polpod", "store check", "store restore BACKUP")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    host.start()


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_of_another_program_is_refused(host: Host, name: str) -> None:
    path = Path(host.paths.path, name)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE precious (x)")
        db.commit()
    refused(host, path, "not a", "store check")


@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("empty", [False, True], ids=["gone", "empty"])
def test_a_database_that_is_gone_is_not_made_anew_beside_the_other(host: Host, name: str, empty: bool) -> None:
    used(host)
    path = Path(host.paths.path, name)
    good = path.read_bytes()
    path.unlink()
    if empty:
        path.touch()
    status, output = polpod("--root", str(host.root))
    assert (status, "Traceback" in output) == (1, False), output
    assert f"polpoctl --root {host.root} store restore BACKUP " in output
    assert (path.read_bytes() == b"") if empty else not path.exists()
    path.write_bytes(good)
    host.start()


# Rows of runs.db


def poison_run(host: Host, run_id: int, **columns: object) -> None:
    """Write what no polpod would write into the row of a run."""
    with closing(sqlite3.connect(host.paths.runs_db, isolation_level=None)) as db:
        ((trigger,),) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'runs_outcome_is_final'").fetchall()
        db.execute("DROP TRIGGER runs_outcome_is_final")
        db.execute("PRAGMA ignore_check_constraints = ON")
        marks = ", ".join(f"{name} = ?" for name in columns)
        assert db.execute(f"UPDATE runs SET {marks} WHERE id = ?", (*columns.values(), run_id)).rowcount == 1
        db.execute(trigger)


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "exploded", "reason": "exited", "collected_at": None},
        {"reason": "boredom", "collected_at": None},
        {"status": "exploded", "reason": None, "collected_at": None},
    ],
    ids=["status", "reason", "neither"],
)
def test_a_run_that_means_nothing_is_quarantined_and_the_others_go_on(host: Host, columns: dict[str, object]) -> None:
    host.start()
    bad, good, held = host.submit("true"), host.submit(shell="exit 4"), host.submit(shell="exit 5", hold=True)
    for task_id in (bad, good):
        host.finished(task_id)
    (run,) = host.runs(bad)
    assert host.stop() == 0
    poison_run(host, run["id"], **columns)

    host.start()
    (event,) = until(
        lambda: host.call("event.list", after=0, kinds=["run:quarantined"])["events"], "recovery has met the row"
    )
    assert event["subject"] == f"run/{run['id']}"
    assert event["body"]["problem"]
    assert host.task(bad)["status"] == "done"
    assert [r["exit_code"] for r in host.runs(good)] == [4]
    host.call("task.release", select={"ids": [held]})
    assert host.finished(held)["result"]["exit_code"] == 5
    assert host.call("run.list", limit=100)["runs"]
    assert "Traceback" not in host.log(), host.log()


def test_a_task_whose_run_means_nothing_does_not_keep_the_others_waiting(host: Host) -> None:
    host.configure(maxConcurrency=2)
    host.start()
    lost = host.submit("sleep", "1000")
    run = host.running(lost)
    host.kill()
    os.kill(run["pid"], signal.SIGKILL)
    poison_run(host, run["id"], status="exploded", reason="exited")

    host.start()
    assert host.finished(host.submit(shell="exit 5"))["result"]["exit_code"] == 5
    until(lambda: host.call("event.list", after=0, kinds=["run:quarantined"])["events"], "recovery has met the row")
    # Nobody knows what became of it, so nobody repeats it: a person decides.
    assert host.task(lost)["status"] == "awaiting_approval"
    assert host.call("task.why", id=lost)["sentences"]
    assert lost in [t["id"] for t in host.call("task.list")["tasks"]]
    host.call("task.cancel", select={"ids": [lost]})
    assert host.task(lost)["status"] == "cancelled"
    assert "Traceback" not in host.log(), host.log()
