"""Carries missions out when their schedules say so (DESIGN §2).

Rules:

1. The execution, the schedule as it is then, and their events are one transaction: a daemon that dies before it does all
   of it when it is there again, and one that dies after it does nothing twice (W34).
2. What makes an execution impossible is kept with the schedule, which goes on.
3. It sleeps until the next time of any schedule; a clock that is set is noticed within FALLBACK.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime

import trio
from msgspec import structs

from polpod import crash
from polpod.config import Config
from polpod.errors import RequestError
from polpod.model.executions import Execution
from polpod.model.polpo.missions import Mission, MissionStatus
from polpod.model.schedules import Schedule
from polpod.rules import schedules as rules
from polpod.rules.schedules import Look
from polpod.services import timezones
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.missions import scheduling
from polpod.services.missions.executing import execute
from polpod.services.missions.preparing import Prepared, prepare
from polpod.services.missions.scheduling import BY, note
from polpod.store import schedules
from polpod.store.missions import Executions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.schedules import Schedules

M = MissionStatus
FALLBACK = 60.0
STEP = 1.0
"""Seconds by which the wall clock goes back before that is looked after."""
RETRY_AFTER = 5.0

log = logging.getLogger(__name__)


async def serve(instance: Instance) -> None:
    """Keep all schedules, for as long as the daemon is not stopping."""
    await instance.recovered.wait()
    if not instance.config.settings.enable_scheduler:
        return
    await insist(instance.tasks, scheduling.adopt)
    known = math.inf
    while not instance.stopping.is_set():
        offset = now().timestamp() - trio.current_time()
        if offset < known - STEP:
            await insist(instance.tasks, recount, durable=False)
        known = offset
        first = await insist_read(instance.tasks, schedules.first)
        wait = FALLBACK
        if first is not None and first.wake_at is not None:
            wait = min(FALLBACK, (first.wake_at - now()).total_seconds())
            if wait <= 0 and not instance.disk_is_full():
                await _look(instance, first)
                continue
            if wait <= 0:
                log.warning("the schedule of mission %s waits: the disk is full", first.mission_id)
                wait = RETRY_AFTER
        await instance.journal.schedules.wait(trio.current_time() + wait)


def recount(tx: Tx) -> None:
    """Times that were counted by a clock that was wrong."""
    at = now()
    for schedule in tx[Schedules].find(Schedules.wake_at.is_set()):
        try:
            counted = rules.recounted(schedule, timezones.zone(schedule.timezone), at)
        except ValueError:  # said when its time comes
            continue
        if counted is not None:
            tx[Schedules].save(counted)
            note(tx, at, counted, "updated", next_at=counted.next_at, by=BY)


async def _look(instance: Instance, schedule: Schedule) -> None:
    at = now()
    mission, wanted = await insist_read(instance.tasks, lambda tx: _wanted(tx, schedule, at))
    prepared: Prepared | RequestError | None = None
    if mission is not None and wanted:
        try:
            prepared = await prepare(instance, mission)
        except RequestError as exc:
            prepared = exc
    crash.point("schedule.planned")
    await insist(instance.tasks, lambda tx: fire(tx, schedule, mission, prepared, instance.config, at))
    crash.point("schedule.fired")


def _wanted(tx: Tx, schedule: Schedule, at: datetime) -> tuple[Mission | None, bool]:
    """Its mission, and whether that is to be carried out now."""
    mission = tx[Missions].get(schedule.mission_id)
    try:
        return mission, mission is not None and _decide(tx, schedule, at).execute
    except ValueError:
        return mission, False


def _decide(tx: Tx, schedule: Schedule, at: datetime) -> Look:
    """Raises ValueError: this host does not know its time zone any more."""
    live = bool(tx[Executions].find(Executions.live.eq(schedule.mission_id), limit=1))
    return rules.look(schedule, timezones.zone(schedule.timezone), at, live=live)


def fire(
    tx: Tx, schedule: Schedule, mission: Mission | None, prepared: Prepared | RequestError | None, config: Config,
    at: datetime,
) -> None:  # fmt: skip
    """Do what the schedule says at this instant; nothing if it, or what it is about, changed meanwhile."""
    if tx[Schedules].get(schedule.mission_id) != schedule or tx[Missions].get(schedule.mission_id) != mission:
        return
    if mission is None:
        tx[Schedules].delete(schedule.mission_id)
        return
    try:
        look = _decide(tx, schedule, at)
    except ValueError as exc:
        scheduling.disable(tx, mission, at, BY, str(exc))
        return
    if look.execute and prepared is None:
        return
    if look.skipped:
        note(tx, at, schedule, "skipped", due_at=schedule.next_at, times=look.skipped, reason=look.because)
    after = structs.replace(look.schedule, version=schedule.version + 1, updated_at=at)
    if look.execute and prepared is not None:
        after = _execute(tx, after, schedule, mission, prepared, config, at)
    after = rules.closed(after, at)
    tx[Schedules].save(after)
    if not after.enabled:
        scheduling.over(tx, after, at)


def _execute(
    tx: Tx, after: Schedule, due: Schedule, mission: Mission, prepared: Prepared | RequestError, config: Config,
    at: datetime,
) -> Schedule:  # fmt: skip
    """The schedule with what became of its attempt."""
    made: Execution | RequestError
    if mission.status not in (M.SCHEDULED, M.RECURRING, M.ACTIVE, M.PAUSED):
        note(tx, at, due, "skipped", due_at=due.next_at, times=1, reason=f"the mission is {mission.status}")
        return structs.replace(after, owed=0)
    if isinstance(prepared, RequestError):
        made = prepared
    else:
        made = tx.attempt(
            lambda part: execute(
                part, mission, prepared.document, prepared.planned, config, mission.created_by, at, BY, "schedule"
            )
        )
    if isinstance(made, RequestError):
        note(tx, at, due, "failed", due_at=due.next_at, reason=str(made), next_at=after.next_at)
        after = structs.replace(after, owed=0, last_execution=None)
        return structs.replace(after, last_at=at, last_outcome="refused", last_reason=str(made))
    note(tx, at, due, "triggered", execution_id=made.id, due_at=due.next_at, next_at=after.next_at)
    after = structs.replace(after, last_execution=made.id)
    return structs.replace(after, last_at=at, last_outcome=made.status, last_reason=None)
