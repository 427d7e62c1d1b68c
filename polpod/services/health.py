"""Looks at runs when a deadline of theirs comes, and only then: a heap of deadlines, no scan (DESIGN §7)."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import trio

from polpod.model.runs import Run, RunStatus
from polpod.model.tasks import Task
from polpod.rules import budgets
from polpod.rules.health import LOOKS, Action, Vitals, check, deadline, looked, spent_out
from polpod.runner import contract
from polpod.services import bookkeeping
from polpod.services.bell import Bell
from polpod.services.budgets import found_over, log_bytes
from polpod.services.facts import claim_deadline
from polpod.services.inbox import Inbox
from polpod.services.insist import insist
from polpod.services.instance import Instance, now
from polpod.services.killer import containments
from polpod.store import changes

HEARTBEAT_EVERY = 30.0
BATCH = 250
"""Heartbeats in one transaction of the task store."""

Kill = Callable[[list[int], str, str], Awaitable[object]]


class Health:
    """`kill(run_ids, reason, by)` ends runs; the clock is CLOCK_MONOTONIC, as in the rows."""

    def __init__(self, instance: Instance, inbox: Inbox, kill: Kill) -> None:
        self._instance, self._inbox, self._kill = instance, inbox, kill
        self._vitals: dict[int, Vitals] = {}
        self._signs: dict[int, tuple[int, float]] = {}
        self._heap: list[tuple[float, int]] = []
        self._bell = Bell()

    def watch(self, run: Run, task: Task | None = None) -> None:
        """Take charge of a live run: of its claim, its limits, its heartbeats, and what its task may spend yet."""
        started = time.monotonic() if run.started_mono is None else run.started_mono / 1e9
        vitals = Vitals(started, time.monotonic(), run.max_duration, run.stale_threshold)
        if task is not None and task.budget is not None:
            vitals = msgspec.structs.replace(vitals, **budgets.left(task.budget, task.spent))
        self._vitals[run.id] = vitals
        self._push(run.id)
        if run.status is RunStatus.STARTING:
            self._look_at(claim_deadline(run), run.id)

    def forget(self, run_id: int) -> None:
        self._vitals.pop(run_id, None)
        self._signs.pop(run_id, None)

    def active(self, run_id: int) -> None:
        """The job said that it goes on: a sign of activity as its log is."""
        if (vitals := self._vitals.get(run_id)) is not None:
            self._vitals[run_id] = msgspec.structs.replace(vitals, active=time.monotonic(), warned=False)

    async def serve(self) -> None:
        while True:
            until = self._heap[0][0] - time.monotonic() if self._heap else HEARTBEAT_EVERY
            await self._bell.wait(trio.current_time() + max(0.0, until))
            while self._heap and self._heap[0][0] <= time.monotonic():
                _, run_id = heapq.heappop(self._heap)
                if run_id in self._vitals:
                    await self._look(run_id)

    async def heartbeats(self) -> None:
        """Say of all live runs, in one commit, that somebody watches over them."""
        while True:
            await trio.sleep(HEARTBEAT_EVERY)
            watched = set(self._vitals)
            live = {run.id: run for run in await self._instance.runs.read(lambda tx: tx.live())}
            for run_id in watched - live.keys():
                self.forget(run_id)
            if beating := sorted(watched & live.keys()):
                await insist(self._instance.runs, lambda tx: tx.heartbeat(beating, contract.timestamp()), durable=False)
            for start in range(0, len(beating), BATCH):
                runs, at = [live[run_id] for run_id in beating[start : start + BATCH]], now()
                beat = partial(bookkeeping.beat, runs=runs, at=at)
                await insist(self._instance.tasks, beat, durable=False)

    async def _look(self, run_id: int) -> None:
        run = await self._instance.runs.read(lambda tx: tx.get(run_id))
        vitals = self._vitals.get(run_id)  # none if it ended meanwhile, and `heartbeats` saw that first
        if run is None or not run.live or run.kill_reason is not None or vitals is None:
            self.forget(run_id)
            return
        if run.status is RunStatus.STARTING and time.monotonic() >= claim_deadline(run):
            self._inbox.look(run_id)
            return
        if run.started_mono is not None:
            vitals = msgspec.structs.replace(vitals, started=run.started_mono / 1e9)
        else:  # its runner has not come to its claim, and nobody can say yet that it takes too long
            vitals = msgspec.structs.replace(vitals, started=time.monotonic(), active=time.monotonic())
        if vitals.stale_threshold:
            signs = await trio.to_thread.run_sync(_signs, run)
            vitals = looked(vitals, time.monotonic())
            if signs != self._signs.get(run_id):
                self._signs[run_id] = signs
                vitals = msgspec.structs.replace(vitals, active=time.monotonic(), warned=False)
        spent = None
        if vitals.wall_left is not None or vitals.cpu_left is not None or vitals.disk_left is not None:
            disk, cpu = await trio.to_thread.run_sync(_used, run)
            vitals = msgspec.structs.replace(vitals, measured=time.monotonic())
            spent = spent_out(vitals, time.monotonic(), cpu, disk)
        action = check(vitals, time.monotonic())
        self._vitals[run_id] = vitals if action != "warn" else msgspec.structs.replace(vitals, warned=True)
        if spent is not None:
            await self._stop_spending(run, spent)
        elif action is not None:
            await self._act(run, action, vitals)
        self._push(run_id)

    async def _stop_spending(self, run: Run, what: str) -> None:
        found = partial(found_over, task_id=run.task_id, run_id=run.id, field=what, at=now())
        await insist(self._instance.tasks, found)
        await self._kill([run.id], "cancelled", budgets.BY)
        self.forget(run.id)

    async def _act(self, run: Run, action: Action, vitals: Vitals) -> None:
        if action != "timeout":
            idle = time.monotonic() - vitals.active
            what = "warning" if action == "warn" else "killed"
            body = {"action": what, "idle": idle, "run_id": run.id, "agent": run.agent}
            await insist(
                self._instance.tasks,
                lambda tx: changes.note(tx, now(), "agent:stale", f"task/{run.task_id}", **body),
                durable=False,
            )
        if action != "warn":
            await self._kill([run.id], action, "health")
            self.forget(run.id)

    def _push(self, run_id: int) -> None:
        vitals = self._vitals.get(run_id)
        if vitals is None or (when := deadline(vitals)) is None:
            return
        if vitals.stale_threshold:
            when = min(when, time.monotonic() + vitals.stale_threshold / LOOKS)  # activity has no bell
        self._look_at(when, run_id)

    def _look_at(self, when: float, run_id: int) -> None:
        heapq.heappush(self._heap, (when, run_id))
        self._bell.ring()


def _used(run: Run) -> tuple[int, float]:
    """Bytes of disk that its log takes, and CPU seconds of its processes."""
    return log_bytes(run), containments(run)[0].cpu_seconds() or 0.0


def _signs(run: Run) -> tuple[int, float]:
    """What grows while a job does something: the bytes of its log, the CPU seconds of its processes."""
    try:
        size = os.stat(run.log_path).st_size
    except OSError:
        size = 0
    return size, containments(run)[0].cpu_seconds() or 0.0
