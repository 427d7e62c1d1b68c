"""The gate, on trio and on asyncio: answers, leadership, cancellation, subscribers, doubt.

Bodies run in threads: a test holds one there by a `threading.Event`, so that what happens meanwhile is certain.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from polpod.errors import AlreadyExists, CommitInDoubt, StoreError
from polpod.model.events import Event
from polpod.store.databases import RUNS, TASKS
from polpod.store.gate import Gate, open_gate
from polpod.store.group import GroupCommit
from polpod.store.records import Tx
from polpod.store.sqlite import Connection, open_reader, open_writer
from polpod.store.tables import Events, Setting, Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUND = 20.0

Test = Callable[[Gate[Tx]], Awaitable[None]]


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Test], None]:
    """Runs an async function on a gate, within BOUND seconds."""

    async def main(test: Test) -> None:
        with anyio.fail_after(BOUND):
            gate = await open_gate(str(tmp_path / "state.db"), TASKS)
            try:
                await test(gate)
            finally:
                await gate.close()

    return lambda test: anyio.run(main, test, backend=request.param)


def put(name: str) -> Callable[[Tx], str]:
    def body(tx: Tx) -> str:
        tx[Settings].add(Setting(name, "v"))
        tx.append(Events, Event(at=NOW, kind="set", subject=name))
        return name

    return body


class Held:
    """A body that stops in the writer's thread until it is let go."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.go = threading.Event()
        self._begun = threading.Event()

    def __call__(self, tx: Tx) -> str:
        self._begun.set()
        assert self.go.wait(BOUND)
        return put(self.name)(tx)

    async def begun(self) -> None:
        assert await anyio.to_thread.run_sync(self._begun.wait, BOUND)


class Caller:
    """Somebody who writes one body, and may be cancelled."""

    def __init__(self, gate: Gate[Tx], body: Callable[[Tx], str]) -> None:
        self.scope = anyio.CancelScope()
        self.answer: str | None = None
        self.ended = anyio.Event()
        self._gate = gate
        self._body = body

    async def run(self) -> None:
        with self.scope:
            self.answer = await self._gate.write(self._body)
        self.ended.set()


@asynccontextmanager
async def calling(gate: Gate[Tx], *bodies: Callable[[Tx], str]) -> AsyncIterator[list[Caller]]:
    """Callers of these bodies, queued in this order; they have ended when the block has.

    Where the first body is a held one, it is alone in its group.
    """
    callers = [Caller(gate, body) for body in bodies]
    async with anyio.create_task_group() as tasks:
        for number, (caller, body) in enumerate(zip(callers, bodies, strict=True)):
            tasks.start_soon(caller.run)
            if number == 0 and isinstance(body, Held):
                await body.begun()
            await anyio.wait_all_tasks_blocked()
        yield callers


async def names(gate: Gate[Tx]) -> set[str]:
    return {setting.name for setting in await gate.read(lambda tx: tx[Settings].find())}


def test_everybody_is_answered(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        wanted = [str(number) for number in range(300)]
        first = Held("first")
        callers = [Caller(gate, put(name)) for name in wanted]
        async with calling(gate, first), anyio.create_task_group() as tasks:
            for caller in callers:
                tasks.start_soon(caller.run)
            await anyio.wait_all_tasks_blocked()
            first.go.set()
        assert [caller.answer for caller in callers] == wanted
        assert await names(gate) == {"first", *wanted}

    run(test)


def test_a_caller_gets_what_its_body_raised(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))
        with pytest.raises(AlreadyExists):
            await gate.write(put("a"))
        assert await gate.write(put("b"), durable=False) == "b"

    run(test)


def test_each_of_several_bodies_has_its_own_answer(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        wanted = [str(number % 299) for number in range(300)]
        answers = await gate.write_each([put(name) for name in wanted])
        assert answers[:299] == wanted[:299]
        assert isinstance(answers[299], AlreadyExists)
        assert await gate.write_each([]) == []

    run(test)


def test_subscribers_hear_of_a_group_before_its_writers_do(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        heard: list[list[str]] = []
        gate.subscribe(lambda events: heard.append([event.subject for event in events]))
        loop = threading.get_ident()
        gate.subscribe(
            lambda events: None if threading.get_ident() == loop else pytest.fail("not in the loop's thread")
        )
        first = Held("first")

        async def write(name: str) -> None:
            await gate.write(put(name))
            assert name in heard[-1]

        async with calling(gate, first), anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(write, name)
                await anyio.wait_all_tasks_blocked()
            first.go.set()
        assert heard == [["first"], ["a", "b", "c"]]
        await gate.write(lambda tx: tx[Settings].delete("a"))
        assert len(heard) == 2, "a group without events is none of theirs"

    run(test)


def test_a_body_that_was_not_taken_is_withdrawn(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        async with calling(gate, first, put("a"), put("b")) as (_, a, _b):
            a.scope.cancel()
            await a.ended.wait()
            first.go.set()
        assert await names(gate) == {"first", "b"}

    run(test)


def test_a_body_that_was_taken_finishes(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first, leader = Held("first"), Held("leader")
        async with calling(gate, first, leader, put("a")) as (_, _l, a):
            first.go.set()
            await leader.begun()
            a.scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert not a.ended.is_set(), "its body is in a transaction: it is carried out, whatever its caller wants"
            leader.go.set()
        assert a.scope.cancelled_caught
        assert await names(gate) == {"first", "leader", "a"}

    run(test)


def test_a_cancelled_leader_finishes_its_group(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        async with calling(gate, first, put("a"), put("b")) as (leader, a, b):
            leader.scope.cancel()
            await anyio.wait_all_tasks_blocked()
            first.go.set()
        assert (a.answer, b.answer) == ("a", "b")
        assert await names(gate) == {"first", "a", "b"}

    run(test)


def test_the_lead_is_not_lost_with_who_is_next(run: Callable[[Test], None]) -> None:
    """Cancelled in the turn of the loop in which the lead would be handed to it."""

    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        async with calling(gate, first, put("a"), put("b"), put("c")) as (_, a, b, c):
            gate.subscribe(lambda _: a.scope.cancel())
            first.go.set()
        assert (b.answer, c.answer) == ("b", "c")
        assert await names(gate) == {"first", "b", "c"}

    run(test)


def test_the_lead_is_not_lost_with_who_just_got_it(run: Callable[[Test], None]) -> None:
    """Cancelled after the lead was handed to it, and before it runs: trio lets it lead, asyncio cancels it."""

    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        victim: list[Caller] = []

        async def write_first() -> None:
            await gate.write(first)
            victim[0].scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_first)
            await first.begun()
            async with calling(gate, put("a"), put("b")) as (a, b):
                victim.append(a)
                first.go.set()
        assert b.answer == "b"
        assert {"first", "b"} <= await names(gate)

    run(test)


def test_several_bodies_are_withdrawn_together(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        scope = anyio.CancelScope()

        async def write_each() -> None:
            with scope:
                await gate.write_each([put(str(number)) for number in range(5)])

        async with anyio.create_task_group() as tasks, calling(gate, first):
            tasks.start_soon(write_each)
            await anyio.wait_all_tasks_blocked()
            async with calling(gate, put("a")):
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
                first.go.set()
        assert await names(gate) == {"first", "a"}

    run(test)


def test_a_cancelled_caller_does_not_begin(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await gate.write(put("a"))
        assert await names(gate) == set()

    run(test)


def test_reads_see_what_is_committed_and_wait_for_nobody(run: Callable[[Test], None]) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))

        def half(tx: Tx) -> None:
            put("b")(tx)
            held(tx)

        held = Held("c")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.write, half)
            await held.begun()
            assert await names(gate) == {"a"}
            held.go.set()
        assert await names(gate) == {"a", "b", "c"}
        with pytest.raises(StoreError, match="readonly"):
            await gate.read(put("d"))
        with pytest.raises(ZeroDivisionError):
            await gate.read(lambda tx: 1 // 0)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(names, gate)

    run(test)


def test_a_closed_gate_refuses(run: Callable[[Test], None], tmp_path: Path) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))
        await gate.close()
        assert os.listdir(tmp_path) == ["state.db"], "the WAL is in the database"
        with pytest.raises(StoreError, match="closed"):
            await gate.write(put("b"))
        with pytest.raises(StoreError, match="closed"):
            await names(gate)

    run(test)


# Gates put together by hand.


class Doubtful(Connection):
    """Its next COMMIT ends in an input/output error, after it is done."""

    doubt = False

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        cursor = super().execute(statement, values)
        if statement == "COMMIT" and self.doubt:
            error = sqlite3.OperationalError("planted")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return cursor


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_commit_in_doubt_is_answered_to_nobody(tmp_path: Path, backend: str) -> None:
    async def test() -> None:
        db = open_writer(str(tmp_path / "state.db"), TASKS.schema, factory=Doubtful)
        assert isinstance(db, Doubtful)
        gate = Gate(TASKS, GroupCommit(db, TASKS), [open_reader(db.path)])
        first, leader = Held("first"), Held("leader")
        async with calling(gate, first, leader, put("taken")) as callers:
            first.go.set()
            await leader.begun()
            async with calling(gate, put("waiting")) as more:
                db.doubt = True
                leader.go.set()
                assert isinstance(await gate.broken.wait(), CommitInDoubt)
                async with calling(gate, put("late")) as late:
                    await anyio.wait_all_tasks_blocked()
                    for caller in (*callers[1:], *more, *late):
                        assert not caller.ended.is_set()
                        caller.scope.cancel()
        assert [c.answer for c in (*callers, *more, *late)] == ["first", None, None, None, None]
        assert gate.broken.is_set()
        await gate.close()

    async def bounded() -> None:
        with anyio.fail_after(BOUND):
            await test()

    anyio.run(bounded, backend=backend)


class Told(GroupCommit[Tx]):
    """Says when it emptied the WAL."""

    truncated: threading.Event

    def truncate(self) -> bool:
        done = super().truncate()
        self.truncated.set()
        return done


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_wal_is_emptied_when_nothing_goes_on(tmp_path: Path, backend: str) -> None:
    async def test() -> None:
        path = str(tmp_path / "state.db")
        engine = Told(open_writer(path, TASKS.schema), TASKS)
        gate = Gate(TASKS, engine, [open_reader(path)])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.truncate_when_idle, 0.01)
            for name in "ab":
                engine.truncated = threading.Event()
                await gate.write(put(name))
                assert await anyio.to_thread.run_sync(engine.truncated.wait, BOUND)
                assert await anyio.to_thread.run_sync(os.path.getsize, f"{path}-wal") == 0
            tasks.cancel_scope.cancel()
        await gate.close()

    anyio.run(test, backend=backend)


def test_runs_have_the_same_gate(tmp_path: Path) -> None:
    async def test() -> None:
        gate = await open_gate(str(tmp_path / "runs.db"), RUNS)
        heard: list[object] = []
        gate.subscribe(heard.append)
        await gate.write(lambda tx: tx.mark_seen([1], "2026-01-01T00:00:00.000000Z"))
        assert await gate.read(lambda tx: tx.live()) == []
        assert heard == []
        await gate.close()

    anyio.run(test, backend="trio")
