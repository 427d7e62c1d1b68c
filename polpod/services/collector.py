"""Takes results: judges the runs in the inbox, makes outcomes durable, and applies them to their tasks.

The order is what makes it safe to die anywhere (DESIGN §6.5): the outcomes durable in runs.db, then the tasks durable in
the task store, then the run directories removed, then `collected_at`.  Each step may be done twice, and what is not
marked as collected is done again at the next start.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from polpod import crash
from polpod.model.runs import Phase, Reason, Run, RunStatus
from polpod.model.tasks import Task
from polpod.rules.approvals import after_run
from polpod.rules.judge import Facts, Life, Verdict, judge
from polpod.rules.outcome import outcome
from polpod.runner import contract, directory
from polpod.runner.containment import Cgroup
from polpod.services import bookkeeping, budgets, parking, reviewing
from polpod.services.facts import facts_of
from polpod.services.inbox import Inbox
from polpod.services.insist import insist
from polpod.services.instance import Instance, now
from polpod.services.killer import Killer
from polpod.services.reviewing import Evidence
from polpod.services.takeover import handed_over, terms_of
from polpod.services.witness import Witness
from polpod.store import changes
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.store.tables import Tasks

BATCH = 256

LOOK_AGAIN_AFTER = 1.0

UNBORN = 1.0
"""Seconds in which a job that was never let go ends; the next start removes its cgroup otherwise."""

NOTHING = Evidence()

log = logging.getLogger(__name__)


class Ended(NamedTuple):
    """A run that is over, what is known of it, and the luck of a backoff's jitter."""

    run: Run
    found: Evidence
    roll: float


class Collector:
    def __init__(
        self, instance: Instance, inbox: Inbox, killer: Killer, witness: Witness, nursery: trio.Nursery
    ) -> None:
        self._instance, self._inbox, self._killer, self._witness = instance, inbox, killer, witness
        self._nursery = nursery
        self._applied: list[Run] = []

    async def serve(self) -> None:
        while True:
            # Tidying can wait while results come in, but not for ever.
            if self._inbox.empty or len(self._applied) >= BATCH:
                await self.tidy()
            await self._inbox.wait()
            await self.collect(*self._inbox.take(BATCH))

    async def collect(self, batch: dict[int, bool], reports: Sequence[dict[str, Any]] = ()) -> None:
        """Judge these runs, each with whether its runner was seen to end, and collect those that are over."""
        crash.point("collect.read")
        terminal, live, late = await insist(self._instance.runs, lambda tx: _take(tx, batch, reports))
        crash.point("collect.seen")
        if terminal:
            await self._apply(terminal, batch)
        if late:
            await insist(self._instance.tasks, lambda tx: _note_late(tx, late), durable=False)
        for run in live:
            try:
                await self._judge(run, batch[run.id])
            except OSError as exc:
                log.warning(
                    "cannot find out now what became of run %d, looking again: %s",
                    run.id,
                    exc,
                    extra={"run_id": run.id, "task_id": run.task_id},
                )
                self._nursery.start_soon(self._look_again, run.id, batch[run.id])

    async def _judge(self, run: Run, dead: bool) -> None:
        """Raises OSError when one of the run's witnesses cannot be asked now; then nothing was decided."""
        facts = await trio.to_thread.run_sync(facts_of, self._instance, run)
        if dead and facts.life is not Life.GONE_WITH_BOOT:
            facts = Facts(Life.DEAD, facts.recorded)
        match judge(run, facts):
            case Verdict.RECORD:
                payload = await trio.to_thread.run_sync(directory.read_exit, self._instance.paths.run(run.id).exit)
                await insist(self._instance.runs, lambda tx: tx.finish(payload), durable=False)
                self._inbox.look(run.id)
            case Verdict.NEVER_STARTED:
                trouble = await trio.to_thread.run_sync(directory.read_trouble, self._instance.paths.run(run.id))
                problem = trouble or "its runner ended before it claimed the run"
                decided = await insist(
                    self._instance.runs,
                    lambda tx: tx.never_started(run.id, problem, contract.timestamp()),
                    durable=False,
                )
                if decided:
                    self._killer.dismiss(run)
                self._inbox.look(run.id)
            case Verdict.END:
                await self._set_aside(run)
                self._killer.end(run)
            case Verdict.COLLECT | Verdict.WATCH:
                pass

    async def _set_aside(self, run: Run) -> None:
        """Keep an exit.json that does not say how the run ended for a person to look at (F25)."""
        kept = self._instance.paths.damaged_exit(run.id)
        problem = await trio.to_thread.run_sync(directory.set_aside, self._instance.paths.run(run.id), kept)
        if problem is not None:
            log.warning("run %d: %s", run.id, problem, extra={"run_id": run.id, "task_id": run.task_id})
            await insist(
                self._instance.tasks,
                lambda tx: changes.note(tx, now(), "run:quarantined", f"run/{run.id}", problem=problem),
                durable=False,
            )

    async def _look_again(self, run_id: int, dead: bool) -> None:
        await trio.sleep(LOOK_AGAIN_AFTER)
        self._inbox.look(run_id, dead=dead)

    async def _apply(self, terminal: list[Run], batch: dict[int, bool]) -> None:
        ended = []
        for run in terminal:
            try:
                found = (
                    await trio.to_thread.run_sync(reviewing.evidence, self._instance, run) if _tells(run) else NOTHING
                )
            except OSError as exc:
                log.warning(
                    "cannot read now what run %d left, looking again: %s", run.id, exc, extra={"run_id": run.id}
                )
                self._nursery.start_soon(self._look_again, run.id, batch[run.id])
                continue
            ended.append(Ended(run, found, random.random()))
        await insist(self._instance.tasks, lambda tx: _apply(self._instance, tx, ended))
        crash.point("collect.applied")
        self._applied += [run for run, _, _ in ended]
        for run, _, _ in ended:
            self._witness.dismiss(run.id)

    async def tidy(self) -> None:
        """Remove what the runs that were applied no longer need, and then mark them as collected."""
        terminal, self._applied = self._applied, []
        if not terminal:
            return
        await trio.to_thread.run_sync(self._remove, terminal)
        crash.point("collect.removed")
        ids = [run.id for run in terminal]
        at = contract.timestamp()
        self._instance.ended += await insist(self._instance.runs, lambda tx: tx.mark_collected(ids, at), durable=False)
        crash.point("collect.collected")

    def _remove(self, terminal: list[Run]) -> None:
        for run in terminal:
            done_with = self._instance.paths.run(run.id)
            try:
                if run.reason is Reason.EXITED and run.phase is Phase.EXECUTION:
                    self._instance.spares.keep(done_with)
                else:
                    directory.remove(done_with)
            except FileNotFoundError:
                pass  # it was tidied before, and only its mark was lost
            except OSError as exc:
                log.warning("%s stays: %s", exc.filename, exc.strerror)
            if run.cgroup is not None:
                cgroup = Cgroup(run.cgroup)
                # EBUSY: `leftovers: keep` left something alive there; or no descriptor is free (F86).  The next start sweeps.
                with suppress(OSError):
                    if run.reason is Reason.NEVER_STARTED:
                        # A job that was forked and never let go ends a moment after its runner, by itself or so.
                        cgroup.kill()
                        cgroup.wait_empty(UNBORN)
                    cgroup.remove()


def _take(
    tx: RunTx, batch: dict[int, bool], reports: Sequence[dict[str, Any]]
) -> tuple[list[Run], list[Run], list[tuple[Run, str, str]]]:
    """The runs of the batch that are over, now durable; those that are not; and those that are said to have ended otherwise."""
    refused = {payload["id"]: payload for payload in reports if not tx.finish(payload)}
    runs = tx.many(batch)
    terminal = [run for run in runs if not run.live]
    tx.mark_seen([run.id for run in terminal], contract.timestamp())
    late = [
        (run, said["status"], said["reason"])
        for run in terminal
        if (said := refused.get(run.id)) and _denies(said, run)
    ]
    return terminal, [run for run in runs if run.live], late


def _denies(said: dict[str, Any], run: Run) -> bool:
    """Whether a report of this very run tells of another outcome than its row; it comes too late to change that (F71)."""
    told = (said["status"], said["reason"], said["exit_code"], said["signal"])
    return said["nonce"] == run.nonce and told != (run.status, run.reason, run.exit_code, run.signal)


def _tells(run: Run) -> bool:
    """Whether anything but its row says what it means; of most runs nothing does."""
    return run.phase is Phase.REVIEW or (run.agent is not None and run.status is not RunStatus.COMPLETED)


def _apply(instance: Instance, tx: Tx, ended: list[Ended]) -> None:
    for run, found, roll in ended:
        at = now()
        task = tx[Tasks].get(run.task_id)
        terms = terms_of(tx, instance.config, task if _tells(run) else None)
        change = outcome(task, run, at, roll, **found._asdict(), terms=terms)
        if change is not None:
            assert task is not None
            if change.task.assigned_to != task.assigned_to:
                change = handed_over(tx, instance.config, task, change)
            change = after_run(change, run, at, instance.config.settings.approval_gates)
            after = budgets.ran(tx, changes.apply(tx, change), run, at)
            parking.park(tx, after, run, at)
            bookkeeping.finished(tx, after, run, at)
        elif run.collected_at is None and run.reason is not Reason.NEVER_STARTED and not _applied(task, run):
            _note_late(tx, [(run, run.status, str(run.reason))])


def _note_late(tx: Tx, late: list[tuple[Run, str, str]]) -> None:
    for run, status, reason in late:
        changes.note(tx, now(), "run:late", f"run/{run.id}", task_id=run.task_id, status=status, reason=reason)


def _applied(task: Task | None, run: Run) -> bool:
    return task is not None and task.applied_run == run.id
