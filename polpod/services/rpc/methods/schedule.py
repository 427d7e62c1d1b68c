"""schedule.*: when missions are carried out by themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, TypeVar

import msgspec
import trio
from msgspec import Meta, Struct

from polpod.errors import Conflict
from polpod.model.polpo.missions import Mission
from polpod.model.schedules import Misfire, Overlap, Schedule
from polpod.model.tasks import Instant
from polpod.rules import schedules as rules
from polpod.services import timezones, views
from polpod.services.instance import now
from polpod.services.missions import scheduling
from polpod.services.missions.executing import require_mission
from polpod.services.missions.scheduling import Wanted
from polpod.services.rpc.answers import ShownSchedule
from polpod.services.rpc.method import Call, Method
from polpod.services.rpc.own import require_own
from polpod.services.submission import utc
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.schedules import Schedules

X = TypeVar("X")

Name = Annotated[str, Meta(min_length=1, max_length=200)]


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: Name
    """Of its mission, or that mission's name."""


class Set(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Name
    expression: Annotated[str, Meta(min_length=1, max_length=200)]
    """Cron, of five fields, or an instant: ISO 8601."""
    timezone: Name | None = None
    """Null: the host's own."""
    recurring: bool | None = None
    """Null: what is a cron expression is."""
    end_date: Instant | None = None
    misfire: Misfire = "once"
    overlap: Overlap = "skip"


class Next(Struct, frozen=True, forbid_unknown_fields=True):
    id: Name
    limit: Annotated[int, Meta(ge=1, le=1000)] = 10


class Page(Struct, frozen=True, forbid_unknown_fields=True):
    after: Name | None = None
    """The `mission_id` of the last of the page before."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def list_(call: Call, params: Page) -> dict[str, object]:
    where = () if params.after is None else (Schedules.mission_id.gt(params.after),)

    def body(tx: Tx) -> list[dict[str, Any]]:
        found = tx[Schedules].find(*where, order_by=(Schedules.mission_id.asc(),), limit=params.limit)
        return [_view(call, schedule, tx[Missions].get(schedule.mission_id)) for schedule in found]

    found = await call.desk.instance.tasks.read(body)
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    return {"schedules": page, "next": page[-1]["mission_id"] if more else None}


async def get(call: Call, params: ById) -> dict[str, object]:
    def body(tx: Tx) -> dict[str, Any]:
        mission = require_mission(tx, params.id)
        return _view(call, scheduling.require(tx, mission), mission)

    return {"schedule": await call.desk.instance.tasks.read(body)}


async def next_(call: Call, params: Next) -> dict[str, object]:
    schedule = await call.desk.instance.tasks.read(lambda tx: scheduling.require(tx, require_mission(tx, params.id)))
    try:
        zone = timezones.zone(schedule.timezone)
    except ValueError as exc:
        raise Conflict(str(exc)) from exc
    times = [] if schedule.next_at is None or not schedule.enabled else [schedule.next_at]
    if times and schedule.recurring:
        more = islice(rules.times(schedule, zone, times[0]), params.limit - 1)
        # What comes every fourth year is searched for through centuries, which nobody else shall wait for.
        times += await trio.to_thread.run_sync(list, more)
    local = [at.astimezone(zone).isoformat() for at in times]
    return {"timezone": schedule.timezone, "times": times, "local": local}


async def set_(call: Call, params: Set) -> dict[str, object]:
    wanted = Wanted(
        expression=params.expression, timezone=params.timezone, recurring=params.recurring,
        end_date=utc(params.end_date, "$.end_date"), misfire=params.misfire, overlap=params.overlap,
    )  # fmt: skip
    return {"schedule": await _change(call, params.id, lambda tx, m, at, by: scheduling.put(tx, m, wanted, at, by))}


async def remove(call: Call, params: ById) -> dict[str, object]:
    await _change(call, params.id, scheduling.remove)
    return {}


async def enable(call: Call, params: ById) -> dict[str, object]:
    return {"schedule": await _change(call, params.id, scheduling.enable)}


async def disable(call: Call, params: ById) -> dict[str, object]:
    def body(tx: Tx, mission: Mission, at: datetime, by: str) -> Schedule:
        return scheduling.disable(tx, mission, at, by, f"disabled by {by}")

    return {"schedule": await _change(call, params.id, body)}


async def _change(call: Call, name: str, operation: Callable[[Tx, Mission, datetime, str], X]) -> X:
    def body(tx: Tx) -> X:
        mission = require_mission(tx, name)
        require_own(call.caller, mission)
        return operation(tx, mission, now(), call.caller.name)

    return await call.desk.instance.tasks.write(body)


def _view(call: Call, schedule: Schedule, mission: Mission | None) -> dict[str, Any]:
    """`held`: polpo.json has all schedules wait."""
    fields: dict[str, Any] = msgspec.to_builtins(schedule)
    held = not call.desk.instance.config.settings.enable_scheduler
    return fields | {"mission": mission.name if mission is not None else None, "held": held}


METHODS = (
    Method(
        "schedule.list",
        Page,
        {"schedules": list[ShownSchedule], "next": str | None},
        list_,
        "The schedules of missions by page.",
    ),
    Method("schedule.get", ById, {"schedule": ShownSchedule}, get, "The schedule of a mission."),
    Method(
        "schedule.next",
        Next,
        {"timezone": str, "times": list[datetime], "local": list[str]},
        next_,
        "The times that are to come.",
    ),
    Method("schedule.set", Set, {"schedule": Schedule}, set_, "Carry a mission out at these times.", writes=True),
    Method("schedule.remove", ById, {}, remove, "Carry it out by itself no more.", writes=True),
    Method("schedule.enable", ById, {"schedule": Schedule}, enable, "Let its schedule go on from now.", writes=True),
    Method(
        "schedule.disable", ById, {"schedule": Schedule}, disable, "Let nothing of its schedule happen.", writes=True
    ),
)
