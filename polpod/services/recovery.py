"""What a daemon does first: finds out what became of the work of the one before it (DESIGN §7).

Results are collected before live rows are judged; a runner that hangs holds up nobody, since its lock is asked and not
itself; unknown run directories are listed, never killed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import trio

from polpod import crash
from polpod.model.polpo.approvals import ApprovalKind, Asked
from polpod.model.runs import Reason, Run
from polpod.model.tasks import TaskStatus
from polpod.paths import numbers_of_runs
from polpod.rules import budgets
from polpod.rules.deadlines import BY_DEADLINE
from polpod.rules.judge import Facts, Life, Verdict, judge
from polpod.rules.outcome import no_row
from polpod.rules.tasks import walk
from polpod.runner import directory
from polpod.services import bookkeeping
from polpod.services.collector import BATCH, Collector
from polpod.services.facts import facts_of, runner_pidfd
from polpod.services.health import Health
from polpod.services.inbox import Inbox
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.killer import Killer
from polpod.services.watcher import Watcher
from polpod.store import changes, quarantine, queries
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.store.tables import Queues, Tasks

FIRST_PASS = 5.0
"""Seconds after which clients' writes are let in, whatever still goes on here."""

log = logging.getLogger(__name__)


async def recover(
    instance: Instance, inbox: Inbox, collector: Collector, watcher: Watcher, killer: Killer, health: Health
) -> None:
    """Judge every run that is live or uncollected, then every task that is in progress without one."""
    await insist(instance.tasks, lambda tx: _begin(instance, tx))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_let_writes_in, instance)
        newest = max(
            await insist_read(instance.tasks, queries.last_run_id),
            await trio.to_thread.run_sync(instance.paths.last_run),
        )
        await insist(instance.runs, lambda tx: tx.never_below(newest))
        task_id = await insist_read(instance.runs, RunTx.last_task_id)
        await insist(instance.tasks, lambda tx: queries.note_client_id(tx, task_id))
        terminal, live, bad, last = await instance.runs.read(_open_runs)
        crash.point("recover.planned")
        instance.recovery.total = len(terminal) + len(live)
        await _collect(instance, collector, terminal)
        await _adopt(instance, live, inbox, watcher, killer, health)
        await _settle_stranded(instance, collector)
        await collector.tidy()
        foreign = await _sweep(instance, last, {r.id for r in live} | {run_id for run_id, _ in bad})
        await insist(instance.tasks, lambda tx: _note(tx, len(terminal), len(live), bad, foreign))
        crash.point("recover.executed")
        instance.recovered.set()
        nursery.cancel_scope.cancel()


def _begin(instance: Instance, tx: Tx) -> None:
    _pause_after_crash(instance, tx)
    bookkeeping.began(tx, instance.config, now())


def _pause_after_crash(instance: Instance, tx: Tx) -> None:
    """Queues that nobody wants to go on by themselves where the last daemon did not stop in order (F78)."""
    if not queries.begin_work(tx):
        return
    queues, at = instance.queues(tx), now()
    for name, settings in instance.config.settings.queues.items():
        if settings.after_crash == "pause" and not queues[name].paused:
            tx[Queues].save(msgspec.structs.replace(queues[name], paused=True))
            log.warning("queue %s is paused, since the last polpod did not stop in order", name)
            changes.note(tx, at, "queue:updated", f"queue/{name}", slots=queues[name].slots, paused=True, by="recovery")


async def _let_writes_in(instance: Instance) -> None:
    await trio.sleep(FIRST_PASS)
    instance.recovered.set()


def _open_runs(tx: RunTx) -> tuple[list[int], list[Run], list[tuple[int, str]], int]:
    """Those that ended and are not collected, those that live, those that do not decode, and the id of the last of all."""
    terminal, live = [r.id for r in tx.uncollected()], tx.live()
    return terminal, live, list(tx.quarantined), max((r.id for r in tx.page(limit=1)), default=0)


async def _collect(instance: Instance, collector: Collector, runs: Sequence[int]) -> None:
    for start in range(0, len(runs), BATCH):
        batch = runs[start : start + BATCH]
        await collector.collect(dict.fromkeys(batch, False))
        instance.recovery.done += len(batch)


async def _adopt(
    instance: Instance, live: list[Run], inbox: Inbox, watcher: Watcher, killer: Killer, health: Health
) -> None:
    """Go on watching the runners that live; have the others looked at."""
    facts = await trio.to_thread.run_sync(lambda: [_facts(instance, run) for run in live])
    tasks = await insist_read(instance.tasks, lambda tx: {r.id: tx[Tasks].get(r.task_id) for r in live})
    wanted = await insist_read(instance.tasks, lambda tx: {r.id for r in live if _wanted(tx, r)})
    overdue = await insist_read(instance.tasks, lambda tx: {r.id for r in live if _overdue(tx, r)})
    unwanted, spent = [], []
    for run, known in zip(live, facts, strict=True):
        if judge(run, known) is not Verdict.WATCH:
            inbox.look(run.id, dead=known.life is Life.DEAD)
            continue
        watcher.watch(run.id, runner_pidfd(run))
        task = tasks[run.id]
        health.watch(run, task)
        if run.kill_reason is not None:
            killer.resume(run)
        elif run.id not in wanted:
            unwanted.append(run.id)
        elif task is not None and task.over_budget is not None:
            spent.append(run.id)
    if spent:
        await killer.request(spent, "cancelled", budgets.BY)
    if late := [run_id for run_id in unwanted if run_id in overdue]:
        await killer.request(late, Reason.TIMEOUT, BY_DEADLINE)
    if unwanted := [run_id for run_id in unwanted if run_id not in overdue]:
        await killer.request(unwanted, "cancelled", "recovery: its task is not in progress with it, or was cancelled")


def _facts(instance: Instance, run: Run) -> Facts:
    """Of a run of which nothing can be found out now: that its runner may live, unless it was one of another boot."""
    instance.recovery.done += 1
    try:
        return facts_of(instance, run)
    except OSError as exc:
        log.warning(
            "cannot find out now what became of run %d: %s",
            run.id,
            exc,
            extra={"run_id": run.id, "task_id": run.task_id},
        )
        return Facts(Life.UNKNOWN if run.boot_id == instance.boot_id else Life.GONE_WITH_BOOT, claimable=True)


def _wanted(tx: Tx, run: Run) -> bool:
    task = tx[Tasks].get(run.task_id)
    if task is None:  # what nobody can read is no reason to end its work (F10)
        return quarantine.of_task(tx, run.task_id) is not None
    if task.cancelled_by is not None:
        return False
    return task.occupies and task.run_id == run.id


def _overdue(tx: Tx, run: Run) -> bool:
    """Whether its end was asked for since its task's deadline has passed."""
    task = tx[Tasks].get(run.task_id)
    return task is not None and task.cancelled_by == BY_DEADLINE and task.run_id == run.id


async def _settle_stranded(instance: Instance, collector: Collector) -> None:
    """Tasks in progress without a live run: their run's outcome is applied, or without a row what that means (DESIGN §7).

    A library's user may have walked a task on its way without any run of polpod's, or with one that was applied already.
    """
    stranded = await insist_read(instance.tasks, queries.occupying)
    rows, bad = await instance.runs.read(lambda tx: _rows(tx, [t.run_id for t in stranded if t.run_id is not None]))
    over = [run_id for run_id, run in rows.items() if not run.live]
    instance.recovery.total += len(over)
    await _collect(instance, collector, over)
    if gone := [t.id for t in stranded if not t.may_have_live_run or t.run_id not in rows.keys() | bad]:
        await insist(instance.tasks, lambda tx: _without_row(tx, gone, instance.boot_id))
    if unknown := [t.id for t in stranded if t.run_id in bad]:
        await insist(instance.tasks, lambda tx: _unknown(tx, unknown))


def _rows(tx: RunTx, run_ids: list[int]) -> tuple[dict[int, Run], set[int]]:
    """Those that are there, and the ids of those that do not decode."""
    return {run.id: run for run in tx.many(run_ids)}, {run_id for run_id, _ in tx.quarantined}


def _unknown(tx: Tx, ids: list[str]) -> None:
    """Nobody can read what became of their runs, so nobody repeats them: a person decides (F10)."""
    for task_id in ids:
        task = tx[Tasks].get(task_id)
        if task is not None and task.occupies:
            why = f"run {task.run_id} is quarantined"
            parked = walk(task, now(), TaskStatus.AWAITING_APPROVAL, why=why)
            asked = Asked(kind=ApprovalKind.QUARANTINED, message=why)
            changes.apply(tx, msgspec.structs.replace(parked, asked=asked))
            bookkeeping.stopped(tx, task, now())


def _without_row(tx: Tx, ids: list[str], boot_id: str) -> None:
    at = now()
    for task_id in ids:
        task = tx[Tasks].get(task_id)
        if task is not None and task.occupies:
            changes.apply(tx, no_row(task, boot_id, at))
            bookkeeping.stopped(tx, task, at)


def _note(tx: Tx, collected: int, live: int, bad: list[tuple[int, str]], foreign: list[int]) -> None:
    at = now()
    for run_id, problem in bad:
        changes.note(tx, at, "run:quarantined", f"run/{run_id}", problem=problem)
    changes.note(tx, at, "daemon:started", "daemon", collected=collected, live=live, foreign=foreign)


async def _sweep(instance: Instance, last: int, open_runs: set[int]) -> list[int]:
    """Remove what runs up to `last` left that are over: something held it, or made it, when its turn to go had come.

    Returns the numbers of run directories of which no row is known.
    """
    found = await trio.to_thread.run_sync(numbers_of_runs, instance.paths.run_directories) - open_runs
    rows = await instance.runs.read(lambda tx: tx.many(found))
    over = [run.id for run in rows if run.collected_at is not None]
    await trio.to_thread.run_sync(_remove, instance, over, last, open_runs)
    return sorted(found - {run.id for run in rows})


def _remove(instance: Instance, over: list[int], last: int, open_runs: set[int]) -> None:
    for run_id in over:
        with suppress(OSError):  # the collector said why, when it was its turn
            directory.remove(instance.paths.run(run_id))
    if instance.base is None:
        return
    for run_id in numbers_of_runs(instance.base.path) - open_runs:
        if run_id <= last:
            with suppress(OSError):  # EBUSY: somebody lives there still
                instance.base.run(run_id).remove()
