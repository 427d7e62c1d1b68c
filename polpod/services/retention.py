"""Forgets what is over for long enough: tasks with their runs and logs, specs, and the journal's beginning (DESIGN §8).

Rules:

1. What may go is decided by polpod/rules/retention.py, and once more in the transaction that removes it.
2. Small batches with a pause between them: nobody waits longer than one of them takes (DESIGN §14.14).
3. The order is what makes it safe to die anywhere: the task, durably; then the logs of its runs; then their rows.  What
   is left half done is found again by the next pass.
4. A dry run reads what a pass would, and counts.
5. The clock is believed a day further with each pass, not more: one that was set to another year costs nobody what is
   not old, unless that stays so for long (F65).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import trio
from msgspec import Struct

from polpod.errors import PolpodError
from polpod.model.executions import Execution
from polpod.model.runs import Run
from polpod.model.tasks import Task
from polpod.paths import StateDirectory
from polpod.rules.retention import Fate, execution_may_go, fate_of, last_to_go, task_may_go
from polpod.runner import contract, usage
from polpod.services import operations
from polpod.services.instance import Instance, now
from polpod.services.missions import control
from polpod.store import changes, quarantine, queries
from polpod.store.missions import Executions
from polpod.store.organisation import AuditEntries, Heartbeats, LifecycleEvents, Messages
from polpod.store.polpo import SentNotifications
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.store.table import AnyTable, Col, Where
from polpod.store.tables import Events, Tasks

EVERY = 3600.0
BELIEVED = timedelta(days=1)
BATCH = 50
"""Entries that one transaction is about; removing that many takes some 15 ms."""
SCAN = 500
"""Tasks that are looked through at once."""
OF_THEIR_TIME: tuple[tuple[AnyTable, Col[Any, Any]], ...] = (
    (AuditEntries, AuditEntries.timestamp),
    (Messages, Messages.timestamp),
    (LifecycleEvents, LifecycleEvents.timestamp),
    (Heartbeats, Heartbeats.last_at),
)
"""What no task takes along, with when it was."""
PAUSE = 0.02
PAUSE_OF_READS = 0.005

BY = "retention"

log = logging.getLogger(__name__)


class Pruned(Struct):
    """What went, or would go in a dry run.  `log_bytes`: what the logs took on disk."""

    tasks: int = 0
    runs: int = 0
    log_bytes: int = 0
    specs: int = 0
    events: int = 0
    records: int = 0
    """Of agents and clients: audit entries, messages, lifecycle events, heartbeats of what is over, notifications."""
    more: bool = False
    """The time was over before the pass was."""


async def serve(instance: Instance) -> None:
    """A pass every hour.  One that fails stops nothing: there is another."""
    await instance.recovered.wait()
    while True:
        try:
            pruned = await prune(instance)
            if any((pruned.tasks, pruned.runs, pruned.specs, pruned.events, pruned.records)):
                log.info("retention: %s", pruned)
        except (PolpodError, OSError) as exc:
            log.warning("retention: %s; trying again in an hour", exc)
        await trio.sleep(EVERY)


async def prune(instance: Instance, *, dry_run: bool = False, seconds: float = math.inf) -> Pruned:
    """One pass, or as much of it as fits into that time.  Raises PolpodError, OSError: what went until then is gone."""
    if dry_run:
        at = await instance.tasks.read(_believed)
    else:
        at = await instance.tasks.write(_believe, durable=False)
    return await _Pass(instance, dry_run, at, trio.current_time() + seconds).carry_out()


def _believed(tx: Tx) -> datetime:
    last, at = queries.retention_clock(tx), now()
    return at if last is None else min(at, last + BELIEVED)


def _believe(tx: Tx) -> datetime:
    at = _believed(tx)
    queries.set_retention_clock(tx, at)
    return at


class _Pass:
    def __init__(self, instance: Instance, dry_run: bool, at: datetime, until: float) -> None:
        self._instance, self._dry_run, self._until = instance, dry_run, until
        self._limits = instance.config.settings.retention
        self._before = at - timedelta(days=self._limits.days)
        self._pruned = Pruned()
        self._forgotten: set[str] = set()
        """Tasks that went, or would."""
        self._let_go: set[str | None] = set()
        """Specs of these tasks."""

    async def carry_out(self) -> Pruned:
        await self._forget_old_tasks()
        await self._forget_executions()
        await self._forget_runs()
        await self._forget_specs()
        self._pruned.events += await self._forget_beginning(Events, Events.seq, lambda event: event.at)
        for table, at in OF_THEIR_TIME:
            await self._forget_records(table, at)
        records = SentNotifications
        self._pruned.records += await self._forget_beginning(records, records.seq, lambda record: record.timestamp)
        return self._pruned

    async def _forget_old_tasks(self) -> None:
        after, tasks = 0, self._instance.tasks
        while page := await tasks.read(lambda tx: queries.finished_before(tx, self._before, after, BATCH)):
            after = page[-1].seq
            await self._forget_tasks([task.id for task in page], self._before)
            if not await self._goes_on():
                return

    async def _forget_tasks(self, ids: Sequence[str], before: datetime | None) -> None:
        """Those of the tasks that may go; with `before`, only if they finished until then."""
        await self._forget_those(ids, lambda tx, kept: _due(tx, kept, before))

    async def _forget_those(self, ids: Sequence[str], due: Callable[[Tx, list[str]], list[Task]]) -> int:
        """Those of the tasks that are due, unless a run of theirs is not collected; how many went."""
        kept = await self._instance.runs.read(lambda tx: tx.with_open_runs(ids))
        ids = [task_id for task_id in ids if task_id not in kept]
        if self._dry_run:
            gone = await self._instance.tasks.read(lambda tx: due(tx, ids))
        else:
            gone = await self._instance.tasks.write(lambda tx: _remove(tx, due(tx, ids)))
        self._pruned.tasks += len(gone)
        self._forgotten.update(task.id for task in gone)
        self._let_go.update(task.spec_id for task in gone)
        return len(gone)

    async def _forget_executions(self) -> None:
        after, tasks = 0, self._instance.tasks
        while page := await tasks.read(lambda tx: tx[Executions].find(Executions.seq.gt(after), limit=SCAN)):
            after = page[-1].seq
            for execution in page:
                if await tasks.read(lambda tx: _execution_due(tx, execution.id, self._before)) is not None:
                    await self._forget_execution(execution.id)
            if not await self._goes_on():
                return

    async def _forget_execution(self, id: str) -> None:
        """Its tasks in batches, those first for which no other waits; then itself."""
        tasks = self._instance.tasks
        left = [t.id for t in await tasks.read(lambda tx: tx[Tasks].find(Tasks.execution_id.eq(id)))]
        while left:
            gone = 0
            for start in range(0, len(left), BATCH):
                gone += await self._forget_those(left[start : start + BATCH], partial(_finished, self._dry_run))
                if not await self._goes_on():
                    return
            left = [task_id for task_id in left if task_id not in self._forgotten]
            if not gone:
                return  # one of them was tried again, say
        if not self._dry_run:
            await tasks.write(lambda tx: _prune_execution(tx, id, self._before))

    async def _forget_runs(self) -> None:
        after, runs = 0, self._instance.runs
        surplus = await runs.read(RunTx.count) - self._limits.runs
        before = contract.timestamp(self._before.timestamp())
        while page := await runs.read(lambda tx: tx.collected_after(after, BATCH)):
            after = page[-1].id
            if page[0].created_at > before and surplus <= self._pruned.runs:
                return
            fates = await self._fates(page)
            while fates and (excess := surplus - self._pruned.runs) > 0:
                await self._forget_these(fates[:excess])
                fates = fates[excess:]
            too_old = [(run, fate) for run, fate in fates if fate is Fate.GO and (run.ended_at or "") <= before]
            await self._forget_these(too_old)
            if not await self._goes_on():
                return

    async def _fates(self, page: list[Run]) -> list[tuple[Run, Fate]]:
        """Those that may go; none of a task that is quarantined, of which nobody knows whether it is finished (F10)."""
        tasks = await self._instance.tasks.read(lambda tx: {r.task_id: tx[Tasks].get(r.task_id) for r in page})
        gone = dict.fromkeys(self._forgotten & tasks.keys())
        unreadable = await self._instance.tasks.read(lambda tx: {i for i in tasks if quarantine.of_task(tx, i)})
        fates = [(r, fate_of(r, (tasks | gone)[r.task_id])) for r in page if r.task_id not in unreadable]
        return [(run, fate) for run, fate in fates if fate is not Fate.KEEP]

    async def _forget_these(self, fates: Sequence[tuple[Run, Fate]]) -> None:
        if with_task := [run.task_id for run, fate in fates if fate is Fate.GO_WITH_TASK]:
            await self._forget_tasks(with_task, None)
        going = [run for run, fate in fates if fate is Fate.GO or run.task_id in self._forgotten]
        size, going = await trio.to_thread.run_sync(_logs, self._instance.paths, going, self._dry_run)
        self._pruned.log_bytes += size
        if self._dry_run:
            self._pruned.runs += len(going)
        elif going:
            gone = await self._instance.runs.write(lambda tx: tx.forget([run.id for run in going]), durable=False)
            self._instance.ended -= gone
            self._pruned.runs += gone.total()

    async def _forget_specs(self) -> None:
        """Specs hold environment values: those that no task has any more go."""
        tasks = self._instance.tasks
        noted = sorted(await tasks.read(queries.loose_specs))
        unused, after = self._let_go.union(noted) - {None}, 0
        while unused and (page := await tasks.read(lambda tx: queries.tasks_after(tx, after, SCAN))):
            after = page[-1].seq
            unused -= {task.spec_id for task in page if task.id not in self._forgotten}
            await trio.sleep(PAUSE_OF_READS)
        kept = await tasks.read(quarantine.of_tasks) if unused else []
        unused = {spec_id for spec_id in unused if not any(str(spec_id) in row.doc for row in kept)}
        if self._dry_run:
            self._pruned.specs += len(unused)
            return
        for start in range(0, len(noted), BATCH):
            drop = partial(queries.drop_specs, loose=noted[start : start + BATCH], unused=unused, after=after)
            self._pruned.specs += await tasks.write(drop)
            if not await self._goes_on():
                return

    async def _forget_beginning(self, table: AnyTable, seq: Col[Any, int], at: Callable[[Any], datetime]) -> int:
        """Of what has a number each the oldest, as far as they are too old or too many; how many went."""
        gone, after, tasks = 0, 0, self._instance.tasks
        while True:
            page, newest = await tasks.read(lambda tx: _oldest(tx, table, seq, after))
            oldest = [(seq.get(row), at(row)) for row in page]
            last = last_to_go(oldest, newest, self._before, self._limits.events)
            if last is None:
                return gone
            gone += sum(number <= last for number, _ in oldest)
            if not self._dry_run:
                await tasks.write(lambda tx: tx[table].delete_where(seq.le(last)), durable=False)
            after = last
            if not await self._goes_on():
                return gone

    async def _forget_records(self, table: AnyTable, at: Col[Any, Any]) -> None:
        tasks, before = self._instance.tasks, self._before
        if self._dry_run:
            self._pruned.records += await tasks.read(lambda tx: tx[table].count(at.lt(before)))
            return
        while gone := await tasks.write(lambda tx: _remove_records(tx, table, at.lt(before)), durable=False):
            self._pruned.records += gone
            if gone < BATCH or not await self._goes_on():
                return

    async def _goes_on(self) -> bool:
        await trio.sleep(PAUSE_OF_READS if self._dry_run else PAUSE)
        self._pruned.more = trio.current_time() >= self._until
        return not self._pruned.more


def _due(tx: Tx, ids: Sequence[str], before: datetime | None) -> list[Task]:
    found = [task for task in map(tx[Tasks].get, ids) if task is not None and task_may_go(task)]
    unneeded = (task for task in found if changes.stays(tx, task) is None)
    return [task for task in unneeded if before is None or (task.finished_at or now()) <= before]


def _finished(dry_run: bool, tx: Tx, ids: list[str]) -> list[Task]:
    found = [task for task in map(tx[Tasks].get, ids) if task is not None and task.finished]
    return [task for task in found if dry_run or changes.stays(tx, task) is None]


def _execution_due(tx: Tx, id: str, before: datetime) -> Execution | None:
    execution = tx[Executions].get(id)
    if execution is None:
        return None
    newest = (Executions.number.desc(),)
    (last,) = tx[Executions].find(Executions.mission_id.eq(execution.mission_id), order_by=newest, limit=1)
    return execution if execution_may_go(execution, last, before) else None


def _prune_execution(tx: Tx, id: str, before: datetime) -> None:
    execution = _execution_due(tx, id, before)
    if execution is not None and not tx[Tasks].find(Tasks.execution_id.eq(id), limit=1):
        control.prune(tx, execution, now(), BY)


def _remove(tx: Tx, tasks: list[Task]) -> list[Task]:
    for task in tasks:
        operations.remove(tx, task, now(), BY)
    return tasks


def _remove_records(tx: Tx, table: AnyTable, old: Where[Any]) -> int:
    (key,) = table.key
    found = tx[table].stored(old, order_by=(key.asc(),), limit=BATCH)
    for row in found:
        tx[table].delete(row.columns[key.name])
    return len(found)


def _oldest(tx: Tx, table: AnyTable, seq: Col[Any, int], after: int) -> tuple[list[Any], int]:
    newest = tx[table].find(order_by=(seq.desc(),), limit=1)
    page = tx[table].find(seq.gt(after), order_by=(seq.asc(),), limit=BATCH)
    return page, seq.get(newest[0]) if newest else 0


def _logs(paths: StateDirectory, runs: Sequence[Run], dry_run: bool) -> tuple[int, list[Run]]:
    """Remove the logs of these runs, and what was kept beside them: the bytes that they take, and the runs without a log.

    A run stays, for the next pass, whose log cannot be removed: it must not keep all that come after it.
    """
    size, without = 0, []
    for run in runs:
        try:
            for path in (run.log_path, run.log_path + usage.SUFFIX, paths.damaged_exit(run.id)):
                with suppress(FileNotFoundError):
                    blocks = os.stat(path).st_blocks
                    if not dry_run:
                        os.unlink(path)
                    size += blocks * 512
            without.append(run)
        except OSError as exc:
            log.warning("retention: %s stays: %s", exc.filename, exc.strerror)
    return size, without
