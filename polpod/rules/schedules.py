"""What a schedule has to do at an instant: nothing, an execution now, executions later, or to end (DESIGN §2).

Rules:

1. Pure functions of the schedule, of `now` and of whether its mission is being carried out; services/missions/firing.py
   stores what they say, with the execution, in one transaction.
2. A time is kept up to LATE after it; later it was missed, and the misfire policy says what becomes of it.
3. No look costs more than MOST_OWED times, however long no daemon was there.
4. A clock that is set back by less than CORRECTION repeats nothing; one that was further ahead was wrong, and the times
   are counted anew (as cron does).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile

from msgspec import Struct, structs

from polpod.model.schedules import Schedule
from polpod.rules import cron

LATE = timedelta(minutes=2)
MOST_OWED = 100
CORRECTION = timedelta(hours=3)

_DATE = re.compile(r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")


def instant(expression: str, zone: tzinfo) -> datetime | None:
    """The instant that it names, in UTC, read in `zone` where it has no offset; None: it is no date, so cron.

    Raises ValueError.
    """
    if not _DATE.match(expression):
        return None
    try:
        at = datetime.fromisoformat(expression.strip())
        return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{expression!r} is out of range") from None


def check(expression: str, zone: tzinfo, now: datetime, *, recurring: bool) -> None:
    """Raises ValueError for an expression of which nothing can come any more."""
    at = instant(expression, zone)
    if at is None:
        cron.check(expression)
    elif recurring:
        raise ValueError("an instant comes once: it cannot be recurring")
    elif at <= now:
        raise ValueError(f"{expression} has passed")


def following(schedule: Schedule, zone: tzinfo, after: datetime) -> datetime | None:
    """The first time after that, and before the end; None: there is none."""
    return next(times(schedule, zone, after), None)


def times(schedule: Schedule, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Those later than `after`, in their order, until the schedule ends."""
    once = instant(schedule.expression, zone)
    found = cron.times(schedule.expression, zone, after) if once is None else iter((once,) if once > after else ())
    found = takewhile(lambda at: schedule.end_date is None or at < schedule.end_date, found)
    return found if schedule.recurring else islice(found, 1)


class Look(Struct, frozen=True):
    """What is to be done, and the schedule after that."""

    schedule: Schedule
    execute: bool = False
    skipped: int = 0
    """Times of which nothing comes."""
    because: str | None = None
    """Why not."""


def look(schedule: Schedule, zone: tzinfo, now: datetime, *, live: bool) -> Look:
    """`live`: its mission is being carried out."""
    due, missed = _due(schedule, zone, now)
    because = "nobody was there at that time" if missed else None
    after = schedule
    if schedule.next_at is not None and schedule.next_at <= now:
        next_at = following(schedule, zone, now) if schedule.recurring else None
        after = structs.replace(after, next_at=next_at, counted_from=now)
    if live and schedule.overlap == "skip" and due:
        due, missed, because = 0, missed + due, "it is being carried out still"
    waiting = schedule.owed + due
    execute = bool(due) if live and schedule.overlap == "allow" else bool(waiting) and not live
    owed = min(waiting - execute, MOST_OWED)
    if dropped := waiting - execute - owed:
        missed, because = missed + dropped, f"{MOST_OWED} executions wait already"
    return Look(structs.replace(after, owed=owed, owed_at=None), execute, missed, because)


def expired(schedule: Schedule, now: datetime) -> bool:
    return schedule.end_date is not None and schedule.end_date <= now


def closed(schedule: Schedule, now: datetime) -> Schedule:
    """The schedule, not enabled any more where nothing of it is to come."""
    if expired(schedule, now):
        reason = "its end date has come"
    elif schedule.next_at is None and not schedule.owed and not (schedule.recurring and schedule.end_date):
        reason = "its last time has come"
    else:
        return schedule
    return structs.replace(schedule, enabled=False, reason=reason, owed=0, owed_at=None)


def _due(schedule: Schedule, zone: tzinfo, now: datetime) -> tuple[int, int]:
    """How many executions its times up to `now` come to, and how many of them are missed for good (at least)."""
    first = schedule.next_at
    if first is None or first > now:
        return 0, 0
    rest: Iterable[datetime] = times(schedule, zone, first) if schedule.recurring else ()
    later = takewhile(lambda at: at <= now, rest)
    number = 1 + sum(1 for _ in islice(later, MOST_OWED))
    match "skip" if expired(schedule, now) else schedule.misfire:
        case "all":
            kept = min(number, MOST_OWED)
        case "once":
            return 1, 0
        case _:
            recently = first if first > now - LATE else following(schedule, zone, now - LATE)
            kept = int(recently is not None and recently <= now)
    return kept, number - kept


def recounted(schedule: Schedule, zone: tzinfo, now: datetime) -> Schedule | None:
    """The schedule after its clock was far ahead, and is right again; None: it is as it should be."""
    if not schedule.enabled or schedule.next_at is None or schedule.counted_from <= now + CORRECTION:
        return None
    return structs.replace(schedule, next_at=following(schedule, zone, now), counted_from=now)
