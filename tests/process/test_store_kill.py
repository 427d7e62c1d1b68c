"""Stores under real processes: killed in a migration, killed while writing, and kept waiting for a lock (F55, F59)."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polpod.errors import Unavailable
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, Ticket
from polpod.store.migrate import Schema, version_of
from polpod.store.records import Tx
from polpod.store.sqlite import open_reader, open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.tables import Setting, Settings

BOUND = 60

ONE = "CREATE TABLE a (x TEXT) STRICT;\nINSERT INTO a VALUES ('kept');\n"
TWO = "ALTER TABLE a ADD COLUMN y TEXT;\nUPDATE a SET y = 'new';\nCREATE TABLE b (z TEXT);\n"

MIGRATE = """
import os, signal, sys
from polpod.store.migrate import Schema
from polpod.store.sqlite import Connection, open_writer
from polpod.store.sqlite_session import SqliteWriter

class Dying(Connection):
    left = int(sys.argv[2])

    def execute(self, statement, values=()):
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.left -= 1
        return super().execute(statement, values)

open_writer(sys.argv[1], Schema("test store", tuple(sys.argv[3:])), factory=Dying).close()
"""
"""Opens a database, and dies before its n-th statement."""

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""

WRITE = """
import sys
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit
from polpod.store.sqlite import open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.tables import Setting, Settings

engine = GroupCommit(SqliteWriter(open_writer(sys.argv[1], TASKS.schema)), TASKS)
number = 0
while True:
    number += 1
    engine.write(lambda tx: tx[Settings].add(Setting(f"{number:06}", "v")))
    print(number, flush=True)
"""


def found(path: Path) -> tuple[int, list[tuple[str, ...]]]:
    db = sqlite3.connect(path)
    version = version_of(db)
    rows = db.execute("SELECT * FROM a").fetchall() if version else []
    db.close()
    return version, rows


@pytest.mark.parametrize("start", [0, 1])
def test_a_migration_that_is_killed_leaves_the_old_schema_or_the_new(tmp_path: Path, start: int) -> None:
    scripts = (ONE, TWO)
    wanted = {0: [], 1: [("kept",)], 2: [("kept", "new")]}
    original = tmp_path / "original.db"
    if start:
        open_writer(str(original), Schema("test store", scripts[:start])).close()
    ends: list[int] = []
    for number in range(100):
        directory = tmp_path / str(number)
        directory.mkdir()
        path = directory / "state.db"
        if start:
            shutil.copy(original, path)
        command = [sys.executable, "-c", MIGRATE, str(path), str(number), *scripts]
        code = subprocess.run(command, timeout=BOUND, check=False).returncode
        assert code in (0, -signal.SIGKILL)
        version, rows = found(path)
        ends.append(version)
        assert rows == wanted[version]
        backup = directory / "state.db.v1.bak"
        if start and version == 2:
            assert found(backup) == (1, wanted[1])
        open_writer(str(path), Schema("test store", scripts)).close()
        assert found(path) == (2, wanted[2]), "the next start finishes it"
        if backup.exists():
            assert found(backup) == (1, wanted[1])
        if code == 0:
            break
    assert ends == sorted(ends)
    assert set(ends) == set(range(start, 3))


@contextmanager
def process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=BOUND)


def count(tx: Tx) -> int:
    return tx[Settings].count()


def test_a_lock_that_is_held_too_long_is_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    engine = GroupCommit(SqliteWriter(open_writer(str(path), TASKS.schema, timeout=0.05)), TASKS)
    engine.write(lambda tx: tx[Settings].add(Setting("a", "v")))
    with process(HOLD, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        tickets = [Ticket(count, durable=True) for _ in range(2)]
        for ticket in tickets:
            engine.submit(ticket)
        engine.drain()
        for ticket in tickets:
            with pytest.raises(Unavailable, match=r"state\.db"):
                ticket.answer()
        reader = open_reader(str(path))
        assert reader.execute("SELECT name FROM settings").fetchall() == [("a",)], "reads wait for nobody"
        reader.close()
    assert engine.write(count) == 1
    engine.close()


def test_what_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with process(WRITE, path) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            answered = int(writer.stdout.readline())
        writer.kill()
        answered = max(answered, *map(int, writer.stdout.read().split()), 0)
    engine = GroupCommit(SqliteWriter(open_writer(str(path), TASKS.schema)), TASKS)
    names = [int(setting.name) for setting in engine.write(lambda tx: tx[Settings].find())]
    engine.close()
    assert names == list(range(1, len(names) + 1))
    assert answered <= len(names) <= answered + 1
