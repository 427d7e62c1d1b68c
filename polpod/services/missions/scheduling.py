"""What people do to schedules, and what the end of an execution means for one.  Each is one body of the task store.

A mission's own `schedule` and `end_date`, which its contract has, say the same as its schedule always.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from polpod.errors import Conflict, InvalidRequest, NotFound, RequestError
from polpod.model.executions import Execution
from polpod.model.polpo.missions import Mission, MissionStatus
from polpod.model.schedules import Misfire, Overlap, Schedule
from polpod.rules import schedules as rules
from polpod.rules.missions import mission_after, require_edge
from polpod.services import timezones
from polpod.services.instance import now
from polpod.store import changes
from polpod.store.missions import Executions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.schedules import Schedules

M = MissionStatus
BY = "schedule"
PAGE = 256
PLANNED = (M.SCHEDULED, M.RECURRING)


class Wanted(Struct, frozen=True, kw_only=True):
    """What somebody asked for."""

    expression: str
    timezone: str | None = None
    recurring: bool | None = None
    """None: what is a cron expression is."""
    end_date: datetime | None = None
    misfire: Misfire = "once"
    overlap: Overlap = "skip"


def require(tx: Tx, mission: Mission) -> Schedule:
    """Raises NotFound."""
    schedule = tx[Schedules].get(mission.id)
    if schedule is None:
        raise NotFound(f"mission {mission.name} has no schedule: polpoctl schedule set {mission.name} EXPRESSION")
    return schedule


def put(tx: Tx, mission: Mission, wanted: Wanted, at: datetime, by: str) -> Schedule:
    """Carry the mission out at these times from now on.  Raises InvalidRequest with the path, InvalidTransition."""
    timezone = wanted.timezone or timezones.of_host()
    zone = _checked(timezones.zone, timezone, path="$.timezone")
    once = _checked(rules.instant, wanted.expression, zone, path="$.expression")
    recurring = once is None if wanted.recurring is None else wanted.recurring
    _checked(rules.check, wanted.expression, zone, at, path="$.expression", recurring=recurring)
    if wanted.end_date is not None and wanted.end_date <= at:
        raise InvalidRequest(f"{wanted.end_date.isoformat()} has passed", "$.end_date")
    before = tx[Schedules].get(mission.id)
    schedule = Schedule(
        mission_id=mission.id, expression=wanted.expression, timezone=timezone, recurring=recurring,
        end_date=wanted.end_date, misfire=wanted.misfire, overlap=wanted.overlap, counted_from=at,
        created_by=mission.created_by, version=1 if before is None else before.version + 1,
        created_at=at if before is None else before.created_at, updated_at=at,
        **({} if before is None else _past(before)),
    )  # fmt: skip
    schedule = structs.replace(schedule, next_at=rules.following(schedule, zone, at))
    if schedule.next_at is None:
        raise InvalidRequest(f"{wanted.expression!r} does not come before the end date", "$.end_date")
    _plan(tx, mission, schedule, at)
    note(tx, at, schedule, "created" if before is None else "updated", next_at=schedule.next_at, by=by)
    return schedule


def _past(before: Schedule) -> dict[str, Any]:
    """What became of it so far."""
    names = ("last_at", "last_execution", "last_outcome", "last_reason")
    return {name: getattr(before, name) for name in names}


def _checked(ask: Any, *args: Any, path: str, **kwargs: Any) -> Any:
    try:
        return ask(*args, **kwargs)
    except ValueError as exc:
        raise InvalidRequest(str(exc), path) from exc


def remove(tx: Tx, mission: Mission, at: datetime, by: str) -> None:
    """The mission is carried out when somebody says so, and else not.  Raises NotFound."""
    schedule = require(tx, mission)
    tx[Schedules].delete(mission.id)
    status = M.DRAFT if mission.status in PLANNED else mission.status
    _save(tx, mission, at, status=status, schedule=None, end_date=None)
    _return_to(tx, mission.id, M.DRAFT)
    note(tx, at, schedule, "deleted", by=by)


def disable(tx: Tx, mission: Mission, at: datetime, by: str, reason: str) -> Schedule:
    """Nothing of it happens until it is enabled.  Raises NotFound."""
    schedule = require(tx, mission)
    if not schedule.enabled:
        return schedule
    held = _changed(schedule, at, enabled=False, reason=reason, owed=0, owed_at=None)
    tx[Schedules].save(held)
    note(tx, at, held, "disabled", reason=reason, by=by)
    return held


def enable(tx: Tx, mission: Mission, at: datetime, by: str) -> Schedule:
    """Go on from now; what came meanwhile is past.  Raises NotFound, Conflict: nothing of it is to come."""
    schedule = require(tx, mission)
    if schedule.enabled:
        return schedule
    zone = _checked(timezones.zone, schedule.timezone, path="$.timezone")
    next_at = rules.following(schedule, zone, at)
    if next_at is None:
        raise Conflict(f"nothing of the schedule of {mission.name} is to come: polpoctl schedule set {mission.name} …")
    enabled = _changed(schedule, at, enabled=True, reason=None, next_at=next_at, counted_from=at)
    _plan(tx, mission, enabled, at)
    note(tx, at, enabled, "enabled", next_at=next_at, by=by)
    return enabled


def _plan(tx: Tx, mission: Mission, schedule: Schedule, at: datetime) -> None:
    """Store the schedule, with its mission as it then is.  Raises InvalidTransition."""
    status = M.RECURRING if schedule.recurring else M.SCHEDULED
    if tx[Executions].find(Executions.live.eq(mission.id), limit=1):
        _return_to(tx, mission.id, status)
        status = mission.status
    elif mission.status is not status:
        require_edge(mission.status, status)
    tx[Schedules].save(schedule)
    _save(tx, mission, at, status=status, schedule=schedule.expression, end_date=schedule.end_date)


def _return_to(tx: Tx, mission_id: str, status: MissionStatus) -> None:
    """What the mission becomes after the executions that go on."""
    for execution in tx[Executions].find(Executions.live.eq(mission_id)):
        tx[Executions].save(structs.replace(execution, returns_to=status, version=execution.version + 1))


def _save(tx: Tx, mission: Mission, at: datetime, **values: object) -> None:
    tx[Missions].save(structs.replace(mission, version=mission.version + 1, updated_at=at, **values))


def _changed(schedule: Schedule, at: datetime, **values: Any) -> Schedule:
    return structs.replace(schedule, version=schedule.version + 1, updated_at=at, **values)


def aborted(tx: Tx, mission: Mission, at: datetime, by: str) -> None:
    """Who aborts an execution does not want the next one either (polpo-behaviour §8.7)."""
    if tx[Schedules].get(mission.id) is not None:
        disable(tx, mission, at, by, "an execution was aborted")


def ended(tx: Tx, execution: Execution, at: datetime) -> MissionStatus:
    """An execution ended: what its mission is then."""
    after = mission_after(execution.returns_to, execution.status)
    schedule = tx[Schedules].get(execution.mission_id)
    if schedule is None:
        return after
    live = tx[Executions].find(Executions.live.eq(execution.mission_id), limit=1)
    values: dict[str, Any] = {"owed_at": at if schedule.owed and not live else schedule.owed_at}
    if schedule.last_execution == execution.id:
        values |= {"last_outcome": execution.status, "last_reason": execution.reason}
    schedule = _changed(schedule, at, **values)
    tx[Schedules].save(schedule)
    if execution.trigger == "schedule":
        body = {"execution_id": execution.id, "status": execution.status, "next_at": schedule.next_at}
        note(tx, at, schedule, "completed", **body)
    if schedule.enabled and (schedule.next_at is not None or schedule.owed):
        return M.RECURRING if schedule.recurring else M.SCHEDULED
    return after


def over(tx: Tx, schedule: Schedule, at: datetime) -> None:
    """Nothing of the schedule is to come: what its mission is then, now or when what goes on has ended."""
    _return_to(tx, schedule.mission_id, M.SCHEDULED)
    mission = tx[Missions].get(schedule.mission_id)
    if mission is not None and mission.status in PLANNED:
        _save(tx, mission, at, status=M.COMPLETED if rules.expired(schedule, at) else M.DRAFT)
    if rules.expired(schedule, at):
        note(tx, at, schedule, "expired", end_date=schedule.end_date)


def adopt(tx: Tx) -> None:
    """Missions whose schedule a library's user said while no daemon was there (polpo-behaviour §13.200).

    Reads all missions: for the start of the daemon.
    """
    for schedule in tx[Schedules].find():
        mission = tx[Missions].get(schedule.mission_id)
        if mission is not None and mission.schedule is None:
            tx[Schedules].delete(schedule.mission_id)
    after = 0
    while page := tx[Missions].find(Missions.seq.gt(after), order_by=(Missions.seq.asc(),), limit=PAGE):
        after = page[-1].seq
        for mission in page:
            if mission.schedule is not None and mission.status in PLANNED:
                _adopt(tx, mission, mission.schedule)


def _adopt(tx: Tx, mission: Mission, expression: str) -> None:
    at, known = now(), tx[Schedules].get(mission.id)
    recurring = mission.status is M.RECURRING
    said = (expression, recurring, mission.end_date)
    if known is not None and said == (known.expression, known.recurring, known.end_date):
        return
    wanted = Wanted(expression=expression, recurring=recurring, end_date=mission.end_date)
    refused = tx.attempt(lambda part: put(part, mission, wanted, at, BY))
    if isinstance(refused, RequestError):
        about = {"expression": expression, "reason": str(refused)}
        changes.note(tx, at, "schedule:failed", f"mission/{mission.id}", mission_id=mission.id, **about)


def note(tx: Tx, at: datetime, schedule: Schedule, kind: str, **body: object) -> None:
    """An event about the schedule's mission."""
    about = {"mission_id": schedule.mission_id, "expression": schedule.expression}
    changes.note(tx, at, f"schedule:{kind}", f"mission/{schedule.mission_id}", **about, **body)
