"""Several at once: cancellation on both event loops, writers of two processes, and failures that must not spread
(A.11.2, A.9 no. 3 and 4)."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from kit.organisation import (
    T0,
    a_checkpoint,
    a_cost,
    a_definition,
    a_heartbeat,
    a_message,
    a_task,
    a_user,
    fill,
)
from store_makers import CONFIGS

from polpod import persistence as p
from polpod.contracts.persistence.runtime import Heartbeats
from polpod.errors import CommitInDoubt
from polpod.store import organisation as stored
from polpod.store.databases import TASKS
from polpod.store.gate import Gate
from polpod.store.group import GroupCommit
from polpod.store.records import Tx
from polpod.store.sqlite import Connection, open_reader, open_writer
from polpod.store.sqlite_session import SqliteSession, SqliteWriter

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])
BOUND = 30.0
SHARED = ["sqlite"]
"""Stores that several processes may have open: a directory of files and a database of PostgreSQL are one's alone."""


class Held:
    """A body that stays in its transaction until it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self, tx: Tx) -> None:
        self.begun.set()
        assert self.let_go.wait(BOUND)


# Both event loops.


@BOTH
async def test_everything_works_on_either_event_loop(backend: p.PersistenceBackend) -> None:
    await fill(backend)
    assert await backend.tasks.get("t1") == a_task()
    assert await backend.cost_records.aggregate() == 0.5
    assert await backend.settings.set("n", "k", "w", "2", expected_updated_at="1")
    with pytest.raises(p.QueryError):
        await backend.tasks.delete("t1")
    assert await backend.health_check()


@BOTH
async def test_content_works_on_either_event_loop(tmp_path: Path, anyio_backend: str) -> None:
    storage = p.FileSystemArtifactStorage(tmp_path)
    assert await storage.store("a", b"x") == 1
    assert await storage.retrieve("a") == b"x"


# Cancellation.


@BOTH
async def test_a_write_that_is_cancelled_while_it_waits_never_happens(backend: p.PersistenceBackend) -> None:
    """A.11.2: cancellation during a write leaves no open transaction."""
    held = Held()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.get_db().write, held)
            await anyio.to_thread.run_sync(held.begun.wait, BOUND)
            async with anyio.create_task_group() as writers:
                writers.start_soon(backend.tasks.save, a_task())
                await anyio.wait_all_tasks_blocked()
                writers.cancel_scope.cancel()
            held.let_go.set()
        assert await backend.tasks.get("t1") is None
        await backend.tasks.save(a_task(title="Later"))
        assert await backend.tasks.get("t1") == a_task(title="Later")


@BOTH
async def test_a_write_that_is_cancelled_under_way_happens_whole(backend: p.PersistenceBackend) -> None:
    """A.11.2: what was begun is finished before the cancellation is."""
    held, gate = Held(), backend.get_db()

    def body(tx: Tx) -> None:
        tx[stored.Heartbeats].add(a_heartbeat())
        held(tx)
        tx[stored.Checkpoints].add(a_checkpoint())

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.write, body)
            await anyio.to_thread.run_sync(held.begun.wait, BOUND)
            tasks.cancel_scope.cancel()
            held.let_go.set()
        assert await backend.heartbeats.get("x1") == a_heartbeat()
        assert await backend.checkpoints.get_latest(task_id="t1") == a_checkpoint()
        await backend.tasks.save(a_task())


@BOTH
async def test_whoever_is_cancelled_others_are_served(backend: p.PersistenceBackend) -> None:
    """A.9 no. 4: one caller's fate is not another's."""
    held = Held()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.get_db().write, held)
            await anyio.to_thread.run_sync(held.begun.wait, BOUND)
            async with anyio.create_task_group() as others:
                cancelled = anyio.CancelScope()

                async def one() -> None:
                    with cancelled:
                        await backend.tasks.save(a_task(id="one"))

                others.start_soon(one)
                others.start_soon(backend.tasks.save, a_task(id="other"))
                await anyio.wait_all_tasks_blocked()
                cancelled.cancel()
                held.let_go.set()
        assert [task.id for task in await backend.tasks.list_tasks()] == ["other"]


# A failure spreads to nobody.


async def test_a_write_that_failed_leaves_nothing_of_itself(backend: p.PersistenceBackend) -> None:
    """A.9 no. 3, 4: of writes at the same time, the good ones are stored, the bad ones not at all."""
    await backend.users.save(a_user())
    failed = []

    async def save(call: Any, *arguments: Any) -> None:
        try:
            await call(*arguments)
        except p.QueryError:
            failed.append(call)

    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(save, backend.users.save, a_user(id=f"b{n}"))
            tasks.start_soon(save, backend.cost_records.save, a_cost(task_id="nobody"))
            tasks.start_soon(save, backend.messages.save, a_message())
            tasks.start_soon(save, backend.workflow_definitions.save, a_definition(id=str(n)))
    assert len(failed) == 20
    assert await backend.users.count() == 1
    assert await backend.cost_records.query() == ()
    assert len(await backend.messages.get_history("#home")) == 10
    assert len(await backend.workflow_definitions.list_definitions()) == 10


async def test_a_write_that_failed_does_not_block_another_process(tmp_path: Path) -> None:
    """A.9 no. 3, A.11.2: no transaction stays open, and no lock."""
    config = CONFIGS["sqlite"](tmp_path)
    backend = p.create_backend(config)
    await backend.connect()
    with pytest.raises(p.QueryError):
        await backend.cost_records.save(a_cost())
    with closing(sqlite3.connect(config.sqlite.path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    await backend.disconnect()


class Doubtful(Connection):
    """Asked to, it says after a commit that it could not."""

    doubt = False

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        cursor = super().execute(statement, values)
        if statement == "COMMIT" and self.doubt:
            error = sqlite3.OperationalError("planted")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return cursor


@BOTH
async def test_who_waits_for_a_commit_in_doubt_is_told(tmp_path: Path, anyio_backend: str) -> None:
    """A library cannot end its process to recover: QueryError, for this write and every later one."""
    path = str(tmp_path / "a.db")
    kind = msgspec.structs.replace(TASKS, doubt_is_told=True)
    db = open_writer(path, kind.schema, factory=Doubtful)
    gate = Gate(kind, GroupCommit(SqliteWriter(db), kind), [SqliteSession(open_reader(path))])
    assert isinstance(db, Doubtful)
    db.doubt = True
    heartbeats = Heartbeats(gate, stored.Heartbeats)
    with anyio.fail_after(BOUND):
        for _ in range(2):
            with pytest.raises(p.QueryError) as raised:
                await heartbeats.save(a_heartbeat())
            assert isinstance(raised.value.__cause__, CommitInDoubt)
        assert await heartbeats.get("x1") == a_heartbeat()
    await gate.close()


@BOTH
async def test_after_a_commit_in_doubt_a_backend_has_to_connect_anew(backend: p.PersistenceBackend) -> None:
    await backend.heartbeats.save(a_heartbeat())
    backend.get_db().broken.set(CommitInDoubt("planted"))
    with anyio.fail_after(BOUND):
        with pytest.raises(p.QueryError, match="planted"):
            await backend.heartbeats.save(a_heartbeat(agent_id="else"))
        assert await backend.heartbeats.get("x1") == a_heartbeat()
        assert await backend.health_check() is False
        await backend.disconnect()
        await backend.connect()
        assert await backend.health_check() is True
        await backend.heartbeats.save(a_heartbeat())


# Two processes.

INCREMENTS = """
import sys, trio
from polpod.persistence import PersistenceConfig, create_backend

async def main():
    backend = create_backend(PersistenceConfig.from_json(sys.argv[1]))
    await backend.connect()
    print("ready", flush=True)
    sys.stdin.readline()
    done = lost = 0
    while done < 25:
        value, at = await backend.settings.get("n", "k")
        new = str(int(value) + 1)
        if await backend.settings.set("n", "k", new, f"{sys.argv[2]} {new}", expected_updated_at=at):
            done += 1
        else:
            lost += 1
    await backend.disconnect()
    print(lost, flush=True)

trio.run(main)
"""


def race(config: p.PersistenceConfig) -> None:
    argv = [sys.executable, "-c", INCREMENTS, config.to_json().decode()]
    with ExitStack() as ended:
        processes = [
            subprocess.Popen([*argv, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
            for who in "ab"
        ]
        for process in processes:
            ended.enter_context(process)
            ended.callback(process.kill)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=60)
            assert process.returncode == 0


@pytest.mark.parametrize("name", SHARED)
async def test_compare_and_set_of_two_processes(name: str, tmp_path: Path) -> None:
    """A.11.2: CAS races from two processes: every one that was told it won did."""
    config = CONFIGS[name](tmp_path)
    backend = p.create_backend(config)
    await backend.connect()
    await backend.settings.set("n", "k", "0", "start")
    await anyio.to_thread.run_sync(race, config)
    found = await backend.settings.get("n", "k")
    assert found is not None
    assert found[0] == "50"
    await backend.disconnect()


async def test_of_many_who_expect_the_same_one_wins(backend: p.PersistenceBackend) -> None:
    """A.6: in one process, too; definitions and executions have their versions."""
    won = []

    async def insert(n: int) -> None:
        if await backend.settings.set("n", "k", str(n), str(n), expected_updated_at=""):
            won.append(n)

    async def define(n: int) -> None:
        try:
            await backend.workflow_definitions.save(a_definition(version=2, name=str(n)))
        except p.VersionConflictError:
            return
        won.append(n)

    await backend.workflow_definitions.save(a_definition())
    for contend in (insert, define):
        won.clear()
        async with anyio.create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(contend, n)
        assert len(won) == 1


async def test_sums_are_of_what_is_stored(backend: p.PersistenceBackend) -> None:
    """A.5.2 aggregate: while others write, it is the sum of some that are stored, and in the end of all."""
    await backend.tasks.save(a_task())
    sums = []

    async def add() -> None:
        for _ in range(10):
            await backend.cost_records.save(a_cost(cost_usd=0.25, timestamp=T0))

    async def read() -> None:
        for _ in range(10):
            sums.append(await backend.cost_records.aggregate())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add)
        tasks.start_soon(read)
    assert sums == sorted(sums)
    assert all(math.isclose(total % 0.25, 0.0) for total in sums)
    assert await backend.cost_records.aggregate() == 2.5
