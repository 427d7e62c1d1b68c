"""Decides when to look for work: after a commit that may have made something ready, and when a delay is over."""

from __future__ import annotations

import logging
import math
from datetime import datetime

import trio
from msgspec import structs

from polpod.errors import DiskFull, Unavailable
from polpod.model.agents import Busy
from polpod.model.tasks import Spec, Task, changed
from polpod.rules import retry
from polpod.rules.outcome import inexecutable
from polpod.rules.pick import free_in_queue, pick
from polpod.services import agents
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.launcher import Launcher
from polpod.store import changes, missions, queries, spending
from polpod.store.records import Tx
from polpod.store.tables import Specs, Tasks

PAGE = 256
"""Ready tasks looked at for one free slot's sake, at most, when an agent's limit holds back those in front."""

BATCH = 32
"""Tasks that start together: they have their runners before the next are looked at, so that no claim comes too late."""

RETRY_AFTER = 1.0

STEP = 1.0
"""Seconds by which the wall clock goes back before that is looked after."""

FALLBACK = 60.0
"""Seconds after which it looks even if nobody rang: a notification is a hint, the rows are the truth."""


log = logging.getLogger(__name__)


async def schedule(instance: Instance, launcher: Launcher) -> None:
    """Start what is ready, for as long as the daemon is not stopping."""
    await instance.recovered.wait()
    known = math.inf
    while not instance.stopping.is_set():
        at, clock = now(), trio.current_time()
        offset = at.timestamp() - clock
        if offset < known - STEP:
            await _resume_delays(instance, at)
        known = offset
        picked, wake = await insist_read(
            instance.tasks, lambda tx: (select(instance, tx, launcher, clock), queries.next_wake(tx))
        )
        batch = [(task, spec) for task, spec in picked if spec is not None]
        if len(batch) < len(picked):
            await insist(
                instance.tasks, lambda tx: _fail_without_spec(tx, [t.id for t, spec in picked if spec is None])
            )
        if batch:
            try:
                await launcher.ready()
                with trio.CancelScope(shield=True):  # a reload would leave rows without a runner, to be started anew
                    started = await launcher.launch(batch)
                if not started:
                    await trio.sleep(RETRY_AFTER)
            except (DiskFull, Unavailable) as exc:
                log.warning("nothing can be started now: %s", exc)
                await trio.sleep(RETRY_AFTER)
        if wake is not None and wake <= at:
            await insist(instance.tasks, lambda tx: _end_delays(tx, at), durable=False)
        elif not picked:
            sleep = FALLBACK if wake is None else min(FALLBACK, (wake - at).total_seconds())
            probe = launcher.probe_at if launcher.probe_at > clock else math.inf  # due, and nobody is ready for it
            await instance.journal.work.wait(min(probe, clock + sleep))


def select(instance: Instance, tx: Tx, launcher: Launcher, clock: float) -> list[tuple[Task, Spec | None]]:
    """The tasks that start now, with what they execute (None: it is gone); a launcher that paused itself gets one, to
    probe with.
    """
    if not launcher.may_start(clock):
        return []
    capacity = instance.capacity(tx)
    busy = queries.busy(tx, capacity.queues, ())
    if capacity.total <= busy.total:
        return []
    offered = [
        task
        for name in capacity.queues
        if (free := free_in_queue(name, capacity, busy))
        for task in _offered(instance, tx, name, free)
    ]
    limits = agents.limits(tx, instance.config, {task.assigned_to for task in offered if task.assigned_to is not None})
    busy = Busy(busy.queues, queries.busy(tx, (), limits).agents)
    picked = pick(offered, structs.replace(capacity, agents=limits), busy)[: 1 if instance.launcher_paused else BATCH]
    specs = {s.id: s.spec for s in tx[Specs].find(Specs.id.is_in({t.spec_id for t in picked if t.spec_id}))}
    return [(t, specs.get(t.spec_id or "")) for t in picked]


def _offered(instance: Instance, tx: Tx, queue: str, free: int) -> list[Task]:
    """Ready tasks of the queue, so many that those are among them that start now.

    Without those of agents that have no slot left, or are gone: however many wait for one, they hold up nobody else.
    """
    idle, over, limit = missions.idle(tx), spending.over(tx), free
    seen: set[str] = set()
    full: set[str] = set()
    while True:
        offered = queries.ready(tx, queue, limit, idle, full, over)
        new = {task.assigned_to for task in offered if task.assigned_to is not None} - seen
        limits = agents.limits(tx, instance.config, new)
        if not limits or len(offered) < limit:
            return offered
        taken = queries.busy(tx, (), limits).agents
        full |= {name for name, most in limits.items() if taken[name] >= most}
        seen |= new
        limit = max(limit, PAGE)


def _fail_without_spec(tx: Tx, ids: list[str]) -> None:
    """What they execute was set aside (F10): they would be first in their queue for ever."""
    for task in filter(None, map(tx[Tasks].get, ids)):
        if Tasks.ready_queue.get(task) is not None and tx[Specs].get(task.spec_id or "") is None:
            changes.apply(tx, inexecutable(task, now(), f"there is no readable record of it (spec {task.spec_id})"))


async def _resume_delays(instance: Instance, at: datetime) -> None:
    """Delays that would last for as long as the clock went back, in this life of the daemon or before it (F64)."""
    early = await insist_read(instance.tasks, lambda tx: [t for t in queries.delayed(tx) if retry.resumed(t, at)])
    if early:
        await insist(instance.tasks, lambda tx: _resume(tx, [t.id for t in early], at), durable=False)


def _resume(tx: Tx, ids: list[str], at: datetime) -> None:
    for task in filter(None, map(tx[Tasks].get, ids)):
        if Tasks.wake_at.get(task) is not None and (until := retry.resumed(task, at)):
            tx[Tasks].save(changed(task, at, not_before=until))


def _end_delays(tx: Tx, at: datetime) -> None:
    for task in queries.due(tx, at):
        tx[Tasks].save(changed(task, at, not_before=None))
