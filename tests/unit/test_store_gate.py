"""The gate, on trio and on asyncio: answers, leadership, cancellation, subscribers, doubt.

Bodies run in threads: a test holds one there by a `threading.Event`, so that what happens meanwhile is certain.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from kit.waiting import BOUND

from polpod.errors import AlreadyExists, CommitInDoubt, Conflict, StoreError, Undecodable
from polpod.model.events import Event
from polpod.store.databases import RUNS, TASKS
from polpod.store.gate import ROUNDS, Gate, open_gate
from polpod.store.group import GroupCommit
from polpod.store.location import Files, Location, Memory, Sqlite, open_sessions
from polpod.store.records import Tx
from polpod.store.sqlite import Connection, open_reader, open_writer
from polpod.store.sqlite_session import SqliteSession, SqliteWriter
from polpod.store.tables import Events, Quarantine, Setting, Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Test = Callable[[Gate[Tx]], Awaitable[None]]


Runner = Callable[[Test], None]

LOCATIONS: dict[str, Callable[[Path], Location]] = {
    "sqlite": lambda path: Sqlite(str(path / "state.db")),
    "memory": lambda path: Memory(),
    "file": lambda path: Files(str(path)),
}
ONE_SESSION = ("memory", "file")
"""Those whose writer is their only reader."""


def runner(backend: str, location: Location) -> Runner:
    """Runs an async function on a gate, within BOUND seconds."""

    async def main(test: Test) -> None:
        with anyio.fail_after(BOUND):
            gate = await open_gate(location, TASKS)
            try:
                await test(gate)
            finally:
                await gate.close()

    return lambda test: anyio.run(main, test, backend=backend)


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=LOCATIONS)
def run(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return runner(backend, LOCATIONS[request.param](tmp_path))


@pytest.fixture
def run_sqlite(backend: str, tmp_path: Path) -> Runner:
    return runner(backend, LOCATIONS["sqlite"](tmp_path))


@pytest.fixture(params=ONE_SESSION)
def run_one_session(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return runner(backend, LOCATIONS[request.param](tmp_path))


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


def test_everybody_is_answered(run: Runner) -> None:
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


def test_a_caller_gets_what_its_body_raised(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))
        with pytest.raises(AlreadyExists):
            await gate.write(put("a"))
        assert await gate.write(put("b"), durable=False) == "b"

    run(test)


def test_each_of_several_bodies_has_its_own_answer(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        def refused(tx: Tx) -> str:
            put("half")(tx)
            raise Conflict("mine")

        heard: list[list[str]] = []
        gate.subscribe(lambda events: heard.append([event.subject for event in events]))
        many = [str(number) for number in range(300)]
        answers = await gate.write_each([put("a"), refused, put("b"), *map(put, many)])
        assert (answers[0], type(answers[1]), answers[2:]) == ("a", Conflict, ["b", *many])
        assert heard == [["a", "b", *many]], "one commit for all of them"
        assert await names(gate) == {"a", "b", *many}
        assert await gate.write_each([]) == []

    run(test)


def test_an_error_that_is_no_refusal_undoes_all_of_several_bodies_and_nothing_else(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first, errors = Held("first"), []

        async def write_each(*bodies: Callable[[Tx], str]) -> None:
            try:
                await gate.write_each(bodies)
            except (AlreadyExists, ZeroDivisionError) as error:
                errors.append(type(error))

        async with calling(gate, first), anyio.create_task_group() as tasks:
            tasks.start_soon(gate.write, put("before"))
            tasks.start_soon(write_each, put("a"), lambda tx: str(1 // 0))
            tasks.start_soon(write_each, put("b"), put("c"), put("b"))
            tasks.start_soon(gate.write, put("after"))
            await anyio.wait_all_tasks_blocked()
            first.go.set()
        assert await names(gate) == {"first", "before", "after"}
        assert sorted(errors, key=str) == [ZeroDivisionError, AlreadyExists]

    run(test)


def test_subscribers_hear_of_a_group_before_its_writers_do(run: Runner) -> None:
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


def test_a_body_that_was_not_taken_is_withdrawn(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        async with calling(gate, first, put("a"), put("b")) as (_, a, _b):
            a.scope.cancel()
            await a.ended.wait()
            first.go.set()
        assert await names(gate) == {"first", "b"}

    run(test)


@pytest.mark.parametrize("location", LOCATIONS)
def test_who_abandons_a_read_does_not_wait_for_a_store_that_hangs(location: str, tmp_path: Path) -> None:
    async def test(gate: Gate[Tx]) -> None:
        begun, go, over = threading.Event(), threading.Event(), threading.Event()

        def hangs(tx: Tx) -> None:
            begun.set()
            go.wait(60)
            over.set()

        async def ask() -> None:
            await gate.read(hangs, abandon=True)

        closed = anyio.Event()

        async def close() -> None:
            await gate.close()
            closed.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            assert await anyio.to_thread.run_sync(begun.wait, 60)
            tasks.cancel_scope.cancel()
        assert not over.is_set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            with anyio.move_on_after(0.3):
                await closed.wait()
            assert not closed.is_set(), "its session would be closed under its hands"
            go.set()
        assert over.is_set()

    runner("trio", LOCATIONS[location](tmp_path))(test)


def test_a_body_that_was_taken_finishes(run: Runner) -> None:
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


def test_a_cancelled_leader_finishes_its_group(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        async with calling(gate, first, put("a"), put("b")) as (leader, a, b):
            leader.scope.cancel()
            await anyio.wait_all_tasks_blocked()
            first.go.set()
        assert (a.answer, b.answer) == ("a", "b")
        assert await names(gate) == {"first", "a", "b"}

    run(test)


def test_the_lead_is_not_lost_with_who_is_next(run: Runner) -> None:
    """Cancelled in the turn of the loop in which the lead would be handed to it."""

    async def test(gate: Gate[Tx]) -> None:
        first = Held("first")
        async with calling(gate, first, put("a"), put("b"), put("c")) as (_, a, b, c):
            gate.subscribe(lambda _: a.scope.cancel())
            first.go.set()
        assert (b.answer, c.answer) == ("b", "c")
        assert await names(gate) == {"first", "b", "c"}

    run(test)


def test_the_lead_is_not_lost_with_who_just_got_it(run: Runner) -> None:
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


def test_several_bodies_are_withdrawn_together(run: Runner) -> None:
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


def test_a_cancelled_caller_does_not_begin(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await gate.write(put("a"))
        assert await names(gate) == set()

    run(test)


def test_reads_see_what_is_committed_and_wait_for_nobody(run_sqlite: Runner) -> None:
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

    run_sqlite(test)


def test_with_one_session_reads_and_writes_take_turns(run_one_session: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))
        held, found = Held("b"), []

        async def look() -> None:
            found.append(await names(gate))

        async with calling(gate, held), anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await anyio.wait_all_tasks_blocked()
            assert found == []
            held.go.set()
        assert found == [{"a", "b"}]
        with pytest.raises(StoreError, match="readonly"):
            await gate.read(put("c"))
        with pytest.raises(ZeroDivisionError):
            await gate.read(lambda tx: 1 // 0)
        assert await gate.write(put("c")) == "c", "who reads leaves nothing behind"
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(gate.write, put(str(number)))
                tasks.start_soon(names, gate)
        await gate.close()
        for late in (gate.write(put("d")), names(gate)):
            with pytest.raises(StoreError, match="closed"):
                await late

    run_one_session(test)


def test_a_closed_gate_refuses(run_sqlite: Runner, tmp_path: Path) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))
        await gate.close()
        assert os.listdir(tmp_path) == ["state.db"], "the WAL is in the database"
        with pytest.raises(StoreError, match="closed"):
            await gate.write(put("b"))
        with pytest.raises(StoreError, match="closed"):
            await names(gate)

    run_sqlite(test)


# Records that do not decode (F10).


def spoil(path: Path, **names: str) -> None:
    """Write these documents into the settings of these names."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for name, doc in names.items():
            db.execute("UPDATE settings SET doc = ? WHERE name = ?", (doc, name))


def test_a_body_that_meets_bad_rows_runs_again_without_them(
    run_sqlite: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(gate: Gate[Tx]) -> None:
        path = tmp_path / "state.db"
        for name in "abcdef":
            await gate.write(put(name))
        heard: list[str] = []
        gate.subscribe(lambda events: heard.extend(event.subject for event in events))
        spoil(path, a="{", b="[]")
        assert await names(gate) == set("cdef")
        assert heard == ["setting/a", "setting/b"]
        spoil(path, c="{")
        assert await gate.write(lambda tx: tx[Settings].get("c")) is None
        spoil(path, d="{")
        ran: list[str] = []

        def reads(tx: Tx) -> object:
            return tx[Settings].get("d")

        def counts(tx: Tx) -> int:
            ran.append("x")
            return tx[Settings].count()

        assert await gate.write_each([counts, reads, put("g")]) == [2, None, "g"]
        assert len(ran) == 3, "in a group, alone since another body of it failed, and without the bad row"
        assert heard == [f"setting/{name}" for name in "abcd"] + ["g"]
        assert [record.getMessage().split()[1] for record in caplog.records] == heard[:-1]

    run_sqlite(test)


def test_those_who_meet_a_bad_row_at_once_set_it_aside_once(run_sqlite: Runner, tmp_path: Path) -> None:
    async def test(gate: Gate[Tx]) -> None:
        await gate.write(put("a"))
        await gate.write(put("b"))
        spoil(tmp_path / "state.db", a="{")
        found: list[set[str]] = []

        async def look() -> None:
            found.append(await names(gate))

        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(look)
        assert found == [{"b"}] * 9
        assert await gate.read(lambda tx: tx[Quarantine].count()) == 1

    run_sqlite(test)


def test_running_again_has_an_end(run: Runner) -> None:
    async def test(gate: Gate[Tx]) -> None:
        times: list[int] = []

        def body(tx: Tx) -> None:
            times.append(1)
            raise Undecodable("a row that is not there", "settings", [("nobody",)])

        with pytest.raises(Undecodable):
            await gate.read(body)
        assert len(times) == ROUNDS + 1

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
        gate = Gate(TASKS, GroupCommit(SqliteWriter(db), TASKS), [SqliteSession(open_reader(db.path))])
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
    """Says when it emptied the log."""

    truncated: threading.Event

    def truncate(self) -> bool:
        done = super().truncate()
        self.truncated.set()
        return done


@pytest.mark.parametrize(("location", "log"), [("sqlite", "state.db-wal"), ("file", "redo.log")])
def test_the_log_is_emptied_when_nothing_goes_on(tmp_path: Path, backend: str, location: str, log: str) -> None:
    async def test() -> None:
        sessions = open_sessions(LOCATIONS[location](tmp_path), TASKS.schema)
        engine = Told(sessions.writer, TASKS)
        gate = Gate(TASKS, engine, sessions.readers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.truncate_when_idle, 0.01)
            for name in "ab":
                engine.truncated = threading.Event()
                await gate.write(put(name))
                assert await anyio.to_thread.run_sync(engine.truncated.wait, BOUND)
                assert await anyio.to_thread.run_sync(os.path.getsize, tmp_path / log) == 0
            tasks.cancel_scope.cancel()
        await gate.close()

    anyio.run(test, backend=backend)


def test_runs_have_the_same_gate(tmp_path: Path) -> None:
    async def test() -> None:
        gate = await open_gate(Sqlite(str(tmp_path / "runs.db")), RUNS)
        heard: list[object] = []
        gate.subscribe(heard.append)
        await gate.write(lambda tx: tx.mark_seen([1], "2026-01-01T00:00:00.000000Z"))
        assert await gate.read(lambda tx: tx.live()) == []
        assert heard == []
        await gate.close()

    anyio.run(test, backend="trio")
