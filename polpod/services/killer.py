"""Ends runs.  A kill is first a row, durable, and then a signal; the runner climbs the ladder (DESIGN §6).

The daemon climbs itself only for a runner that is dead, or that does not answer: GRACE after the job's own grace is over.
What it cannot end it calls stuck, and goes on trying; "killed" is written only when nothing is left.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence

import trio
from msgspec import structs

from polpod import crash
from polpod.model.runs import Reason, Run, RunStatus
from polpod.rules.witness import Ending
from polpod.runner import contract, identity
from polpod.runner.containment import Cgroup, terminate
from polpod.runner.session import Session
from polpod.services.facts import runner_pidfd
from polpod.services.inbox import Inbox
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.watcher import Watcher
from polpod.services.witness import Witness
from polpod.store import changes
from polpod.store.runs import RunTx
from polpod.store.tables import Tasks

GRACE = 10.0
PROOF = 10.0
"""Seconds from SIGKILL until what still lives is called stuck; also between later attempts."""

AT_ONCE = 16
"""Trees that are ended at the same time, a worker thread each."""


class Killer:
    def __init__(
        self, instance: Instance, watcher: Watcher, witness: Witness, inbox: Inbox, nursery: trio.Nursery
    ) -> None:
        self._instance, self._watcher, self._witness = instance, watcher, witness
        self._inbox, self._nursery = inbox, nursery
        self._threads = trio.CapacityLimiter(AT_ONCE)
        self._ending: set[int] = set()
        self._stuck = instance.stuck

    @property
    def stuck(self) -> frozenset[int]:
        """Runs of which something survives SIGKILL."""
        return frozenset(self._stuck)

    async def request(self, run_ids: Sequence[int], reason: str, by: str, longest: float = math.inf) -> None:
        """Have these runs ended; returns when that is durable.  The first reason stays (CAS).  `longest`: of a grace, s."""
        runs = await self._instance.runs.read(lambda tx: [r for r in tx.many(run_ids) if r.live])
        graces = await self._graces(runs, longest)
        requested = await insist(
            self._instance.runs, lambda tx: [self._request(tx, r, reason, by, graces[r.id]) for r in runs]
        )
        crash.point("kill.requested")
        for run in requested:
            if run.live:
                self.resume(run)
            else:
                if run.reason is Reason.NEVER_STARTED:
                    self.dismiss(run)
                self._inbox.look(run.id)
        crash.point("kill.signalled")

    def resume(self, run: Run) -> None:
        """Signal the runner of a run whose kill is in its row, and climb for it if it does not answer."""
        self._signal(run, signal.SIGTERM)
        self._nursery.start_soon(self._escalate, run)

    def dismiss(self, run: Run) -> None:
        """The row was decided before it was claimed: its runner, if there is one, can execute nothing and is not needed."""
        self._signal(run, signal.SIGKILL)

    def end(self, run: Run) -> None:
        """The runner is dead: end what is left of its job, and then write down what that makes of the run."""
        if run.id not in self._ending:
            self._ending.add(run.id)
            self._nursery.start_soon(self._end, run)

    def _request(self, tx: RunTx, run: Run, reason: str, by: str, grace: float) -> Run:
        at, boot = contract.timestamp(), self._instance.boot_id
        tx.request_kill(run.id, reason=reason, by=by, at=at, mono=time.monotonic_ns(), boot=boot, grace=grace)
        if run.status is RunStatus.STARTING:
            tx.never_started(run.id, f"ended before it started: {reason}", at)
        after = tx.get(run.id)
        assert after is not None
        return after

    async def _graces(self, runs: Sequence[Run], longest: float) -> Mapping[int, float]:
        default = self._instance.config.settings.kill_grace / 1000
        tasks = await insist_read(self._instance.tasks, lambda tx: {r.id: tx[Tasks].get(r.task_id) for r in runs})
        own = {run_id: task.kill_grace if task is not None else None for run_id, task in tasks.items()}
        return {run_id: min(longest, default if grace is None else grace) for run_id, grace in own.items()}

    def _signal(self, run: Run, number: int) -> None:
        held = self._watcher.pidfd(run.id)
        pidfd = runner_pidfd(run) if held is None else os.dup(held)
        if pidfd is not None:
            identity.send(pidfd, number)
            os.close(pidfd)

    async def _escalate(self, run: Run) -> None:
        grace = contract.KILL_GRACE if run.kill_grace is None else run.kill_grace
        # Of the row, so that a restart does not begin it anew (F6); a live run's kill is of this boot.
        asked = time.monotonic_ns() if run.kill_mono is None else run.kill_mono
        await trio.sleep(max(0.0, asked / 1e9 + grace + GRACE - time.monotonic()))
        current = await self._instance.runs.read(lambda tx: tx.get(run.id))
        if current is not None and current.live:
            await self._prove_gone(current, grace=0.0)
            # With the job gone there is nothing left for a runner that does not answer; its end is looked at as any other.
            self._signal(current, signal.SIGKILL)

    async def _end(self, run: Run) -> None:
        ending = await self._testimony(run)
        same_boot = run.boot_id == self._instance.boot_id
        why = "its runner died; what was left of the job was ended" if same_boot else "the host was started anew"
        if same_boot and not (ending and self._leftovers_stay()):
            await self._prove_gone(run, contract.LEFTOVER_GRACE if run.kill_grace is None else run.kill_grace)
        await insist(self._instance.runs, lambda tx: _record(tx, run, ending, why), durable=False)
        self._ending.discard(run.id)
        self._inbox.look(run.id)

    async def _testimony(self, run: Run) -> Ending | None:
        """How the job ended by itself; None where nobody knows, or where it was asked to end."""
        current = await self._instance.runs.read(lambda tx: tx.get(run.id))
        if current is None or not current.live or current.kill_reason is not None:
            return None
        return await self._witness.testimony(run.id)

    def _leftovers_stay(self) -> bool:
        return self._instance.config.settings.leftovers == "keep"

    async def _prove_gone(self, run: Run, grace: float) -> None:
        # Abandoned when the daemon stops: a grace may be longer than a shutdown (invariant 11), and the next start ends it.
        while not await trio.to_thread.run_sync(_end_tree, run, grace, limiter=self._threads, abandon_on_cancel=True):
            if run.id not in self._stuck:
                self._stuck.add(run.id)
                await insist(
                    self._instance.tasks,
                    lambda tx: changes.note(tx, now(), "run:stuck", f"run/{run.id}", task_id=run.task_id),
                    durable=False,
                )
        self._stuck.discard(run.id)


def containments(run: Run) -> list[Cgroup | Session]:
    """Where to find the processes of the run's job, the surest place first.

    Root's processes may leave a cgroup (`sudo` and `su` do, by way of a login session): the session finds those.
    """
    runner = _runner(run)
    session = Session(run.id, run.nonce, run.log_path, _leaders(run, runner), runner)
    return [session] if run.cgroup is None or not os.path.isdir(run.cgroup) else [Cgroup(run.cgroup), session]


def _runner(run: Run) -> int | None:
    """The pid of the run's runner while that is proven to live."""
    pidfd = runner_pidfd(run)
    if pidfd is None:
        return None
    os.close(pidfd)
    return run.pid


def _leaders(run: Run, runner: int | None) -> dict[int, int]:
    """Start ticks of runner and job by pid, as far as these pids are theirs: none of another pid namespace."""
    if run.pid_ns != identity.pid_namespace():
        return {}
    marks = {run.job_pid: run.job_start_ticks}
    if runner is not None:
        marks[runner] = run.start_ticks
    return {pid: ticks for pid, ticks in marks.items() if pid is not None and ticks is not None}


def _end_tree(run: Run, grace: float) -> bool:
    """TERM, grace, KILL, proof.  Blocking.  False: something is still alive."""
    return all(_end(tree, grace) for tree in containments(run))


def _end(tree: Cgroup | Session, grace: float) -> bool:
    if tree.empty():
        return True
    if grace > 0:
        terminate(tree)
        if tree.wait_empty(grace):
            return True
    tree.kill()
    return tree.wait_empty(PROOF)


def _record(tx: RunTx, run: Run, ending: Ending | None, why: str) -> None:
    """How it ended, if the second witness says; else what was asked for is what happened, or nobody knows the outcome.

    `why`: no runner recorded it.
    """
    current = tx.get(run.id)
    if current is None or not current.live:
        return
    reason = current.kill_reason
    if ending is None and reason is None:
        tx.lost(run.id, why, contract.timestamp())
        return
    outcome = dict.fromkeys(contract.OUTCOME) | {"id": run.id, "nonce": run.nonce, "ended_at": contract.timestamp()}
    if ending is not None:
        outcome |= structs.asdict(ending) | {"error": "its runner did not live to record it: known from the kernel"}
    elif reason is not None:
        outcome |= {"status": contract.STATUS_OF_KILL[reason], "reason": reason}
        outcome |= {"error": "its runner did not live to tell how it ended"}
    tx.finish(outcome)
