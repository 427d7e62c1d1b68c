"""A power cut between two files: each may fall back to an earlier commit, but only to one that no FULL commit follows.

A busy run of the real services is recorded, both databases copied at every commit.  Then every pair of states that a power
cut can leave behind is put together, recovered in another boot, and run to its end (DESIGN §8; invariants 1 to 5).
Runners are played in the process, by the frozen statements on connections of their own, so that their commits are seen, too.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import trio

from polpod import daemon
from polpod.config import Config, Settings
from polpod.model.submissions import Submission
from polpod.model.tasks import TaskStatus
from polpod.paths import StateDirectory
from polpod.runner import contract, directory
from polpod.services.health import Health
from polpod.services.inbox import Inbox
from polpod.services.instance import Instance, now
from polpod.services.journal import Journal
from polpod.services.launcher import Launcher
from polpod.services.operations import release
from polpod.services.reload import Reload
from polpod.services.spares import Spares
from polpod.services.submission import specify, store
from polpod.services.watcher import Watcher
from polpod.services.witness import Witness
from polpod.services.zygote import Forked
from polpod.store import queries
from polpod.store.databases import RUNS, TASKS
from polpod.store.gate import Gate
from polpod.store.group import GroupCommit
from polpod.store.runs import NewRun, Place
from polpod.store.sqlite import Connection, open_reader, open_writer
from polpod.store.sqlite_session import SqliteSession, SqliteWriter
from polpod.store.tables import Tasks

CONFIG = Config(settings=Settings(max_concurrency=3, reserve=0, containment="session"))
FILES = ("state.db", "runs.db")
BOUND = 30.0

# What each task's command does, by its title: the exit codes of its attempts, in order.
PLAN: dict[str, tuple[int, ...]] = {
    "good": (0,),
    "bad": (3,),
    "second": (1, 0),
    "after": (0,),
    "last": (0,),
    "once": (0,),
}
WITH_SIDE_EFFECTS = {"once"}
AFTER = {"after": "good", "last": "after"}


@dataclass(frozen=True)
class Promised:
    """What cannot be taken back at some moment."""

    acknowledged: frozenset[str]
    told_done: frozenset[str]
    claimed: frozenset[tuple[int, str]]
    """Runs whose job was let go, with what it did: their logs are written, so their ids are used up."""


@dataclass
class State:
    """One file as a power cut may leave it, and what the world had been told by then."""

    file: str
    content: tuple[bytes, bytes]
    durable: bool
    promised: Promised


@dataclass
class World:
    """What the databases cannot take back: what clients were told, and what jobs did."""

    states: list[State] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    told_done: set[str] = field(default_factory=set)
    claimed: set[tuple[int, str]] = field(default_factory=set)
    executed: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def copy(self, path: str, durable: bool) -> None:
        with self.lock:
            promised = Promised(*map(frozenset, (self.acknowledged, self.told_done, self.claimed)))
            self.states.append(State(os.path.basename(path), _content(path), durable, promised))


def _content(path: str) -> tuple[bytes, bytes]:
    return Path(path).read_bytes(), Path(path + "-wal").read_bytes()


class PlayedRunners:
    """Runners without processes: they claim, execute by PLAN and finish, each commit seen by the world."""

    def __init__(self, world: World, paths: StateDirectory, titles: dict[str, str]) -> None:
        self._world, self._paths, self._titles = world, paths, titles

    async def ready(self) -> None:
        pass

    async def fork(self, run_id: int, path: str, go: int) -> Forked:
        pidfd, end = os.pipe2(os.O_CLOEXEC)
        thread = threading.Thread(target=self._live, args=(run_id, os.dup(go), end))
        os.close(go)
        thread.start()
        return Forked(os.getpid(), 0, pidfd)

    def _live(self, run_id: int, go: int, end: int) -> None:
        run = self._paths.run(run_id)
        try:
            if os.read(go, 1):
                self._carry_out(directory.take_spec(run))
        finally:
            os.close(go)
            os.close(end)

    def _carry_out(self, spec: contract.RunSpec) -> None:
        key: dict[str, Any] = {"id": spec["run_id"], "nonce": spec["nonce"]}
        db = contract.connect(spec["runs_db"])
        try:
            marks = dict.fromkeys(contract.IDENTITY) | {"started_at": contract.timestamp()}
            if db.execute(contract.CLAIM, key | marks).rowcount != 1:
                return
            self._world.copy(spec["runs_db"], durable=False)
            title = self._titles[spec["task_id"]]
            with self._world.lock:
                self._world.claimed.add((spec["run_id"], title))
                self._world.executed[title] += 1
            code = PLAN[title][min(spec["attempt"], len(PLAN[title])) - 1]
            outcome = dict.fromkeys(contract.OUTCOME) | {"reason": "exited", "exit_code": code}
            outcome |= {"status": "completed" if code == 0 else "failed", "ended_at": contract.timestamp()}
            assert db.execute(contract.FINISH, key | outcome).rowcount == 1
            self._world.copy(spec["runs_db"], durable=False)
        finally:
            db.close()


def _gate(path: str, kind: Any, world: World | None) -> Gate[Any]:
    db: Connection = open_writer(path, kind.schema)
    writer = GroupCommit(SqliteWriter(db), kind)
    if world is not None:
        seen = world

        def copy() -> None:
            (level,) = db.execute("PRAGMA synchronous").fetchone()
            seen.copy(path, durable=level == 2)

        writer.after_commit = copy
    return Gate(kind, writer, [SqliteSession(open_reader(path)) for _ in range(2)])


async def _open(root: Path, boot_id: str, world: World | None) -> Instance:
    paths = daemon.prepare(str(root))
    tasks, runs = _gate(paths.tasks_db, TASKS, world), _gate(paths.runs_db, RUNS, world)
    counts = await tasks.read(queries.count_by_queue)
    journal = Journal(counts)
    tasks.subscribe(journal.absorb)
    return Instance(
        paths=paths,
        socket="",
        config=CONFIG,
        tasks=tasks,
        runs=runs,
        journal=journal,
        ended=Counter(),
        spares=Spares(paths),
        descriptors=(1024, 4096),
        boot_id=boot_id,
        base=None,
    )


async def _settled(instance: Instance, expected: int) -> None:
    """Until every task is done or failed, and collected."""
    over = (TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.AWAITING_APPROVAL)
    with trio.fail_after(BOUND):
        while True:
            tasks = await instance.tasks.read(lambda tx: tx[Tasks].find())
            left = await instance.runs.read(lambda tx: tx.uncollected() + tx.live())
            if not left and len(tasks) >= expected and all(t.status in over for t in tasks):
                return
            await trio.sleep(0.005)


async def _record(root: Path, world: World) -> dict[str, str]:
    """The busy run; returns titles by task id."""
    instance = await _open(root, "boot-1", world)
    titles: dict[str, str] = {}
    by_title: dict[str, str] = {}
    runners = PlayedRunners(world, instance.paths, titles)
    async with trio.open_nursery() as nursery:
        daemon.assemble(instance, runners, Reload([]), nursery)
        for title in PLAN:
            depends_on = (by_title[AFTER[title]],) if title in AFTER else ()
            submission = Submission(
                command=("x",), cwd="/", env={}, title=title, depends_on=depends_on, retry_delay=0.01,
                max_retries=len(PLAN[title]) - 1, hold=True, side_effects=title in WITH_SIDE_EFFECTS,
            )  # fmt: skip
            spec = specify(submission, CONFIG, "/")
            body = partial(store, submission=submission, spec=spec, config=CONFIG, uid=0)
            submitted = await instance.tasks.write(lambda tx, body=body: body(tx))
            titles[submitted.id], by_title[title] = title, submitted.id
            world.acknowledged.add(submitted.id)
        nursery.start_soon(_tell_who_is_done, instance, world)
        for task_id in titles:
            await instance.tasks.write(partial(_release, task_id=task_id))
        await _settled(instance, len(PLAN))
        nursery.cancel_scope.cancel()
    await instance.tasks.close()
    await instance.runs.close()
    return titles


def _release(tx: Any, task_id: str) -> None:
    task = tx[Tasks].get(task_id)
    if task.hold and task.status is TaskStatus.PENDING:
        release(tx, task, now(), "test")


async def _tell_who_is_done(instance: Instance, world: World) -> None:
    with instance.journal.listening([""]) as bell:
        while True:
            tasks = await instance.tasks.read(lambda tx: tx[Tasks].find())
            world.told_done |= {t.id for t in tasks if t.status is TaskStatus.DONE}
            await bell.wait()


@dataclass(frozen=True)
class Cut:
    """What is left of the two files, as indices of recorded states, and what had been promised by the moment of the cut."""

    tasks: int
    runs: int
    promised: Promised


def _files(cut: Cut) -> tuple[int, int]:
    return cut.tasks, cut.runs


def possible_cuts(states: list[State]) -> Iterator[Cut]:
    """Every pair of states that a power cut can leave: of each file any commit not followed by a durable one of its own."""
    seen = set()
    for moment in range(len(states)):
        choices = []
        for file in FILES:
            mine = [i for i in range(moment + 1) if states[i].file == file]
            last_durable = max((i for i in mine if states[i].durable), default=-1)
            choices.append([i for i in mine if i >= last_durable])
        promised = states[moment].promised
        for tasks in choices[0]:
            for runs in choices[1]:
                if (tasks, runs, promised) not in seen:
                    seen.add((tasks, runs, promised))
                    yield Cut(tasks, runs, promised)


@contextmanager
def _restored(base: Path, tasks: State, runs: State) -> Iterator[Path]:
    root = base / "restored"
    paths = StateDirectory(str(root))
    os.makedirs(paths.path, mode=0o700)
    for state in (tasks, runs):
        path = Path(paths.path, state.file)
        path.write_bytes(state.content[0])
        Path(f"{path}-wal").write_bytes(state.content[1])
    try:
        yield root
    finally:
        shutil.rmtree(root)


async def _recover_and_finish(root: Path, world: World, titles: dict[str, str], expected: int) -> None:
    instance = await _open(root, "boot-2", None)
    async with trio.open_nursery() as nursery:
        daemon.assemble(instance, PlayedRunners(world, instance.paths, titles), Reload([]), nursery)
        await instance.recovered.wait()
        for task in await instance.tasks.read(lambda tx: tx[Tasks].find()):
            await instance.tasks.write(partial(_release, task_id=task.id))
        await _settled(instance, expected)
        nursery.cancel_scope.cancel()
    await instance.tasks.close()
    await instance.runs.close()


def _rows(root: Path, file: str, query: str) -> list[Any]:
    db = sqlite3.connect(root / ".polpo" / file)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


OUTCOMES = f"SELECT id, {', '.join(contract.OUTCOME)}, task_id FROM runs WHERE status NOT IN ('starting', 'running')"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, str]]:
    world = World()
    titles = trio.run(_record, tmp_path_factory.mktemp("busy"), world)
    assert world.executed == {t: len(codes) for t, codes in PLAN.items()}
    return world, titles


def test_every_power_cut_is_recovered_from(recorded: tuple[World, dict[str, str]], tmp_path: Path) -> None:
    """W12."""
    world, titles = recorded
    cuts = list(possible_cuts(world.states))
    assert len(cuts) > len(world.states)  # files do fall back behind each other
    for (tasks, runs), promises in groupby(sorted(cuts, key=_files), key=_files):  # recovery sees the files alone
        with _restored(tmp_path, world.states[tasks], world.states[runs]) as root:
            before = _rows(root, "runs.db", OUTCOMES)
            after = World()
            known = {i for (i,) in _rows(root, "state.db", "SELECT id FROM tasks")}
            trio.run(_recover_and_finish, root, after, titles, len(known))
            for cut in promises:
                assert cut.promised.acknowledged <= known, "1: what was acknowledged exists"
                _check(root, cut, before, after, titles, known)


def test_a_task_that_fell_back_behind_its_run_waits_until_that_is_applied(tmp_path: Path) -> None:
    """Its run was found to be lost, and nobody has told the task yet: it looks ready, and must not be started."""

    async def look() -> None:
        instance = await _open(tmp_path, "boot-2", None)
        submission = Submission(command=("x",), cwd="/", env={}, side_effects=True)
        spec = specify(submission, CONFIG, "/")
        submitted = await instance.tasks.write(lambda tx: store(tx, submission, spec, CONFIG, 0))
        task = await instance.tasks.read(lambda tx: tx[Tasks].get(submitted.id))
        assert task is not None
        async with trio.open_nursery() as nursery:
            inbox = Inbox()
            watcher = Watcher(instance.paths, nursery, inbox, Witness(instance))
            runners = PlayedRunners(World(), instance.paths, {task.id: "good"})
            launcher = Launcher(instance, runners, watcher, Health(instance, inbox, _nobody_is_killed), inbox)
            lost = NewRun(
                task_id=task.id, attempt=1, queue="default", agent=None, nonce="n", token_hash="h",
                created_at=contract.timestamp(), boot_id="boot-1", claim_until_mono=0, containment="session",
                max_duration=None, stale_threshold=None,
            )  # fmt: skip
            await instance.runs.write(lambda tx: tx.insert(lost, lambda _: Place(instance.paths.log(1), None)))
            await instance.runs.write(lambda tx: tx.lost(1, "another boot", contract.timestamp()))
            assert not await launcher.launch([(task, spec)])
            await instance.runs.write(lambda tx: tx.mark_collected([1], contract.timestamp()))
            assert await launcher.launch([(task, spec)])
            with trio.fail_after(BOUND):
                while await instance.runs.read(lambda tx: tx.live()):
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        await instance.tasks.close()
        await instance.runs.close()

    trio.run(look)


async def _nobody_is_killed(run_ids: list[int], reason: str, by: str) -> None:
    raise AssertionError(f"runs {run_ids} were to be killed by {by}: {reason}")


def _check(root: Path, cut: Cut, before: list[Any], after: World, titles: dict[str, str], known: set[str]) -> None:
    outcomes = {row[0]: row for row in _rows(root, "runs.db", OUTCOMES)}
    assert all(outcomes[row[0]] == row for row in before), "3: the outcome of a terminal run never changes"
    completed = {titles[row[-1]] for row in before if row[1] == "completed"}
    assert not completed & after.executed.keys(), "4: work with a recorded result is never run again"
    used = {run_id for run_id, _ in cut.promised.claimed}
    assert not used & {run_id for run_id, _ in after.claimed}, "a run's id, and with it its log, is never used again"
    done_once = WITH_SIDE_EFFECTS & {title for _, title in cut.promised.claimed}
    assert not done_once & after.executed.keys(), "10: side effects that may have happened are for a person to repeat"
    told = {titles[i] for i in cut.promised.told_done}
    assert not told & after.executed.keys(), "1: what was told to be done stays done"
    docs = _rows(
        root, "state.db", "SELECT id, json_extract(doc, '$.retries'), json_extract(doc, '$.status') FROM tasks"
    )
    for task_id, retries, status in docs:
        plan = PLAN[titles[task_id]]
        mine = [row for row in outcomes.values() if row[-1] == task_id]
        failures = sum(row[1] == "failed" for row in mine)
        assert retries == min(failures, len(plan) - 1), "5: recovery spends no retry, each failure one"
        if status != "awaiting_approval" or titles[task_id] not in WITH_SIDE_EFFECTS:
            assert status == ("failed" if all(plan) else "done")
        assert sum(row[1] == "completed" for row in mine) == (status == "done"), "2: no result twice"
    assert known == {row[0] for row in docs}


def test_any_two_prefixes_lead_to_an_end(recorded: tuple[World, dict[str, str]], tmp_path: Path) -> None:
    """Also states that no power cut leaves behind, such as one file from an old backup: nothing hangs, nothing runs twice."""
    world, titles = recorded
    pick = random.Random(20260101)
    of_tasks = [s for s in world.states if s.file == FILES[0]]
    of_runs = [s for s in world.states if s.file == FILES[1]]
    for _ in range(60):
        with _restored(tmp_path, pick.choice(of_tasks), pick.choice(of_runs)) as root:
            before = _rows(root, "runs.db", OUTCOMES)
            known = len(_rows(root, "state.db", "SELECT id FROM tasks"))
            trio.run(_recover_and_finish, root, World(), titles, known)
            outcomes = {row[0]: row for row in _rows(root, "runs.db", OUTCOMES)}
            assert all(outcomes[row[0]] == row for row in before)
            live = _rows(root, "runs.db", "SELECT id FROM runs WHERE status IN ('starting', 'running')")
            assert not live
