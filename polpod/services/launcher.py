"""Starts runs, a batch at a time, in the order that a crash at any instruction leaves provable (DESIGN §6.1).

1. The `starting` rows are durable in runs.db before anything else knows of them.
2. One body of the task store checks each task again and walks it to in_progress; what it refuses never starts.
3. Only then the zygote is asked; the runner claims its row by compare-and-set after its `go` byte.

Whatever fails after step 1 ends as `lost/never_started` by compare-and-set, and the collector takes it from there.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

import trio

from polpod import crash
from polpod.errors import AlreadyExists, DiskFull, PerhapsDone, Unavailable
from polpod.model.runs import Phase, Run
from polpod.model.tasks import Spec, Task
from polpod.rules import retry
from polpod.rules.outcome import launch
from polpod.rules.pick import pick
from polpod.runner import contract
from polpod.services import bookkeeping, parking, prompts, reviewing
from polpod.services.health import Health
from polpod.services.inbox import Inbox
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.rundir import prepare
from polpod.services.watcher import Watcher
from polpod.services.zygote import Forked, NotForked, ZygoteDied
from polpod.store import changes, missions, queries, spending
from polpod.store.records import Tx
from polpod.store.runs import NewRun, Place, RunTx
from polpod.store.tables import Tasks

PROBE_EVERY = 10.0
"""Seconds between single starts while the launcher is paused."""


class Forks(Protocol):
    """Who makes runners: the zygote, or a test's stand-in."""

    def ready(self) -> Awaitable[None]: ...

    def fork(self, run_id: int, directory: str, go: int) -> Awaitable[Forked]: ...


class Start(NamedTuple):
    run: Run
    task: Task
    spec: Spec
    token: str


class Launcher:
    def __init__(self, instance: Instance, forks: Forks, watcher: Watcher, health: Health, inbox: Inbox) -> None:
        self._instance, self._forks = instance, forks
        self._watcher, self._health, self._inbox = watcher, health, inbox
        self._failed: set[str] = set()
        self._full = False
        """Whether the disk was full at the last look."""
        self.probe_at = math.inf
        """When the next single start is due, on trio's clock, while the launcher is paused."""

    def may_start(self, clock: float) -> bool:
        """Whether anything may start at `clock` on trio's clock; a paused launcher may when its probe is due."""
        if self._instance.disk_is_full():
            self._pause(f"less than {self._instance.config.settings.reserve >> 20} MiB are free", clock)
            self._full = True
            return False
        if self._full:  # that is over, whether or not anything is there to be started
            self._full, self._instance.launcher_paused, self.probe_at = False, None, math.inf
        return self._instance.launcher_paused is None or clock >= self.probe_at

    async def ready(self) -> None:
        """Wait until it is known where runs have their cgroups."""
        await self._forks.ready()

    async def launch(self, batch: list[tuple[Task, Spec]]) -> bool:
        """Start these tasks; returns when each has a runner or was given up.  False: an old run of each must be decided first.

        Raises DiskFull, Unavailable: none was started.
        """
        if self._instance.launcher_paused:
            self.probe_at = trio.current_time() + PROBE_EVERY
        runs, tasks = self._instance.runs, self._instance.tasks
        starts = await runs.write(lambda tx: [s for task, spec in batch for s in self._insert(tx, task, spec)])
        rows = [s.run for s in starts]
        crash.point("launch.inserted")
        try:
            accepted = await tasks.write(lambda tx: accept(self._instance, tx, starts), durable=False)
        except PerhapsDone:  # then the collector finds the tasks in progress with runs that never started
            await insist(self._instance.runs, lambda tx: _give_up(tx, rows), durable=False)
            for run in rows:
                self._inbox.look(run.id)
            raise
        except (DiskFull, Unavailable):
            await self._withdraw(rows)
            raise
        crash.point("launch.assigned")
        if refused := [r for r in rows if r.id not in accepted]:
            await self._withdraw(refused)
        starts = [s for s in starts if s.run.id in accepted]
        kept = [s.task for s in starts if s.task.context_id is not None]
        parked = await insist_read(tasks, lambda tx: parking.contexts(tx, kept)) if kept else {}
        problems = await trio.to_thread.run_sync(
            lambda: [prepare(self._instance, *s, accepted[s.run.id], parked.get(s.task.id)) for s in starts]
        )
        crash.point("launch.prepared")
        async with trio.open_nursery() as nursery:
            for start, problem in zip(starts, problems, strict=True):
                nursery.start_soon(self._start, start, problem)
        return bool(rows)

    def _insert(self, tx: RunTx, task: Task, spec: Spec) -> list[Start]:
        """The task's new row; none where one of its runs is live still, or over and not applied yet.

        A power cut may take the task back to before its run, so that it looks ready while that run is being judged.
        """
        if tx.awaits_collection(task.id, task.applied_run or 0):
            return []
        nonce, token = secrets.token_hex(16), secrets.token_urlsafe(24)
        phase = _phase(task)
        checks = phase is Phase.REVIEW
        new = NewRun(
            task_id=task.id,
            attempt=task.attempts if checks else task.attempts + 1,
            phase=phase,
            queue=task.queue,
            agent=task.assigned_to,
            nonce=nonce,
            token_hash=hashlib.sha256(token.encode()).hexdigest(),
            created_at=contract.timestamp(),
            boot_id=self._instance.boot_id,
            claim_until_mono=time.monotonic_ns() + int(contract.CLAIM_TIMEOUT * 1e9),
            containment="session" if self._instance.base is None else "cgroup",
            max_duration=reviewing.longest(task, self._instance.config) if checks else task.max_duration,
            stale_threshold=None if checks else task.stale_threshold,
        )
        try:
            run_id = tx.insert(new, partial(self._place, task, spec))
        except AlreadyExists:
            return []
        run = tx.get(run_id)
        assert run is not None
        return [Start(run, task, spec, token)]

    def _place(self, task: Task, spec: Spec, run_id: int) -> Place:
        base = self._instance.base
        files, attempt = self._instance.paths.run(run_id), task.attempts + 1
        command = None if task.awaits_checks else prompts.shown(files, run_id, attempt, task, spec)
        return Place(self._instance.paths.log(run_id), None if base is None else base.run(run_id).path, command)

    async def _start(self, start: Start, problem: str | None) -> None:
        try:
            if problem is not None:
                raise NotForked(problem)
            await self._fork(start.run, start.task)
        except NotForked as exc:
            await self._give_up(start.run, exc)
            return
        self._failed.clear()
        self.probe_at = math.inf
        if self._instance.launcher_paused is not None:
            self._instance.launcher_paused = None
            self._instance.journal.work.ring()

    async def _give_up(self, run: Run, because: NotForked) -> None:
        await insist(
            self._instance.runs, lambda tx: tx.never_started(run.id, str(because), contract.timestamp()), durable=False
        )
        self._inbox.look(run.id)
        if isinstance(because, ZygoteDied):
            return
        self._failed.add(run.task_id)
        if len(self._failed) >= retry.LAUNCH_FAILURES_UNTIL_PAUSED:
            self._pause(f"the last {len(self._failed)} tasks could not be started: {because}", trio.current_time())

    async def _withdraw(self, runs: list[Run]) -> None:
        """Rows whose task was not walked: nobody will start them, and nothing is to be applied."""

        def body(tx: RunTx) -> Counter[str]:
            _give_up(tx, runs)
            return tx.mark_collected([run.id for run in runs], contract.timestamp())

        self._instance.ended += await insist(self._instance.runs, body, durable=False)

    async def _fork(self, run: Run, task: Task) -> None:
        """Raises NotForked."""
        try:
            read_end, go = os.pipe2(os.O_CLOEXEC)
        except OSError as exc:  # F86: no descriptor is free, and the next attempt may find one
            raise NotForked(f"no pipe for its runner: {exc.strerror}") from exc
        try:
            crash.point("launch.asked")
            forked = await self._forks.fork(run.id, self._instance.paths.run(run.id).path, read_end)
            crash.point("launch.forked")
            self._watcher.watch(run.id, forked.pidfd)
            self._health.watch(run, task)
            with suppress(BrokenPipeError):  # it ended already, which its pidfd tells
                os.write(go, b"!")
            crash.point("launch.gone")
        finally:
            os.close(go)

    def _pause(self, reason: str, clock: float) -> None:
        self._instance.launcher_paused = reason
        self.probe_at = clock + PROBE_EVERY


def _phase(task: Task) -> Phase:
    """What its next run carries out."""
    return Phase.REVIEW if task.awaits_checks else Phase.EXECUTION


def _give_up(tx: RunTx, runs: list[Run]) -> None:
    for run in runs:
        tx.never_started(run.id, "its task was not ready any more", contract.timestamp())


def accept(instance: Instance, tx: Tx, starts: list[Start]) -> dict[int, bytes | None]:
    """Walk each task that may still start to in_progress with its run; the runs for which that was so, with their contexts.

    What a run executes was made of the task as it was when it was picked: one that was changed since is picked anew.
    """
    if instance.stopping.is_set():
        return {}
    idle, over = missions.idle(tx), spending.over(tx)
    ready = [
        task
        for _, picked, _, _ in starts
        if (task := tx[Tasks].get(picked.id)) is not None
        and task.version == picked.version
        and Tasks.ready_queue.get(task)
        and task.execution_id not in idle
        and task.project not in over
    ]
    capacity = instance.capacity(tx, {task.assigned_to for task in ready if task.assigned_to is not None})
    picked = {task.id: task for task in pick(ready, capacity, queries.busy(tx, capacity.queues, capacity.agents))}
    accepted, at = {}, now()
    for run, _, spec, _ in starts:
        if (task := picked.get(run.task_id)) is None:
            continue
        accepted[run.id] = prompts.context(tx, task, run, spec)
        change = launch(task, run, at)
        changes.apply(tx, change)
        bookkeeping.launched(tx, change.task, run, at)
        queries.note_run_id(tx, run.id)
    return accepted
