"""What a schedule has to do at an instant: its policies for times that were missed, and for those that overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from polpod.model.schedules import Schedule
from polpod.rules import schedules
from polpod.rules.schedules import LATE, MOST_OWED

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=1)


def a_schedule(**values: Any) -> Schedule:
    """Hourly, unless the values say otherwise; set half an hour before noon."""
    fixed: dict[str, Any] = {
        "mission_id": "1", "expression": "0 * * * *", "timezone": "UTC", "recurring": True, "next_at": NOON,
        "counted_from": NOON - HOUR / 2, "created_by": 0, "created_at": NOON - HOUR / 2, "updated_at": NOON - HOUR / 2,
    }  # fmt: skip
    return Schedule(**fixed | values)


def once(**values: Any) -> Schedule:
    return a_schedule(**{"expression": NOON.isoformat(), "recurring": False} | values)


def after(schedule: Schedule, late: timedelta, *, live: bool = False) -> tuple[bool, int, int]:
    """Whether it executes so long after noon, how many executions wait then, and how many times were skipped."""
    look = schedules.look(schedule, UTC, NOON + late, live=live)
    return look.execute, look.schedule.owed, look.skipped


def test_before_its_time_nothing_happens() -> None:
    look = schedules.look(a_schedule(), UTC, NOON - SOON, live=False)
    assert look == schedules.Look(a_schedule())


def test_at_its_time_it_is_carried_out_and_the_next_time_is_kept() -> None:
    """§13.196: what is recurring has its next time then."""
    look = schedules.look(a_schedule(), UTC, NOON + SOON, live=False)
    assert look.execute
    assert (look.schedule.next_at, look.schedule.counted_from) == (NOON + HOUR, NOON + SOON)
    assert schedules.closed(look.schedule, NOON + SOON).enabled


@pytest.mark.parametrize("schedule", [once(), a_schedule(recurring=False)], ids=["instant", "cron"])
def test_what_comes_once_is_over_then(schedule: Schedule) -> None:
    """§13.196"""
    look = schedules.look(schedule, UTC, NOON, live=False)
    assert look.execute
    closed = schedules.closed(look.schedule, NOON)
    assert (closed.enabled, closed.next_at, closed.reason) == (False, None, "its last time has come")


@pytest.mark.parametrize(
    ("misfire", "late", "expected"),
    [
        ("skip", LATE - SOON, (True, 0, 0)),
        ("skip", LATE + SOON, (False, 0, 1)),
        ("skip", 3 * HOUR + SOON, (True, 0, 3)),
        ("skip", 3 * HOUR + 2 * LATE, (False, 0, 4)),
        ("once", LATE + SOON, (True, 0, 0)),
        ("once", 1000 * HOUR, (True, 0, 0)),
        ("all", LATE + SOON, (True, 0, 0)),
        ("all", 3 * HOUR + SOON, (True, 3, 0)),
        ("all", 24 * 365 * 10 * HOUR, (True, MOST_OWED - 1, 1)),
    ],
)
def test_times_at_which_nobody_was_there(misfire: str, late: timedelta, expected: tuple[bool, int, int]) -> None:
    """W33: what was missed is not lost in silence, and ten years of it are not carried out at once (F65)."""
    schedule = a_schedule(misfire=misfire)
    assert after(schedule, late) == expected
    assert schedules.look(schedule, UTC, NOON + late, live=False).schedule.next_at == schedules.following(
        schedule, UTC, NOON + late
    )


@pytest.mark.parametrize(("misfire", "executes"), [("skip", False), ("once", True), ("all", True)])
def test_an_instant_at_which_nobody_was_there(misfire: str, executes: bool) -> None:
    """W33: Polpo lost these."""
    assert after(once(misfire=misfire), 5 * HOUR) == (executes, 0, int(not executes))


@pytest.mark.parametrize(
    ("overlap", "owed", "expected"),
    [
        ("skip", 0, (False, 0, 1)),
        ("skip", 2, (False, 2, 1)),
        ("queue", 0, (False, 1, 0)),
        ("queue", MOST_OWED, (False, MOST_OWED, 1)),
        ("allow", 0, (True, 0, 0)),
    ],
)
def test_times_at_which_it_is_being_carried_out(overlap: str, owed: int, expected: tuple[bool, int, int]) -> None:
    """W34: what becomes of them is said, and bounded."""
    assert after(a_schedule(overlap=overlap, owed=owed), SOON, live=True) == expected


def test_what_is_owed_follows_one_after_another() -> None:
    schedule = a_schedule(misfire="all")
    at = NOON + 3 * HOUR + SOON
    executed = 0
    while True:
        look = schedules.look(schedule, UTC, at, live=False)
        if not look.execute:
            break
        executed += 1
        schedule = look.schedule
        assert schedules.look(structs.replace(schedule, owed_at=at), UTC, at, live=True).execute is False
    assert (executed, schedule.owed, schedule.next_at) == (4, 0, NOON + 4 * HOUR)


def test_a_schedule_that_waits_for_an_execution_to_end_is_not_over() -> None:
    look = schedules.look(once(overlap="queue"), UTC, NOON, live=True)
    assert (look.execute, look.schedule.owed) == (False, 1)
    assert schedules.closed(look.schedule, NOON).enabled
    assert look.schedule.wake_at is None  # until that ends


@pytest.mark.parametrize(
    ("end", "late", "executes"),
    [(SOON, SOON, True), (SOON, LATE + SOON, False), (HOUR, SOON, True)],
)
def test_from_its_end_date_on_nothing_happens(end: timedelta, late: timedelta, executes: bool) -> None:
    """§13.201; what was in time is not lost because somebody looked a moment too late."""
    look = schedules.look(a_schedule(end_date=NOON + end), UTC, NOON + late, live=False)
    assert look.execute is executes
    closed = schedules.closed(look.schedule, NOON + late)
    assert closed.enabled is (NOON + late < NOON + end)
    assert closed.enabled or closed.reason == "its end date has come"


def test_the_end_date_itself_is_no_time_any_more() -> None:
    schedule = a_schedule(end_date=NOON)
    assert schedules.following(schedule, UTC, schedule.counted_from) is None


def test_it_is_looked_at_when_it_ends_though_nothing_comes_before() -> None:
    schedule = schedules.look(a_schedule(end_date=NOON + HOUR / 2), UTC, NOON, live=False).schedule
    assert (schedule.next_at, schedules.closed(schedule, NOON).wake_at) == (None, NOON + HOUR / 2)


def test_a_disabled_schedule_is_not_looked_at() -> None:
    """§13.199"""
    assert a_schedule(enabled=False).wake_at is None


@pytest.mark.parametrize(
    ("expression", "zone", "expected"),
    [
        ("2026-03-01T12:00:00Z", "UTC", NOON),
        ("2026-03-01T13:00:00+01:00", "America/New_York", NOON),
        ("2026-03-01 13:00", "Europe/Berlin", NOON),
        ("2026-03-01", "UTC", NOON - 12 * HOUR),
        ("0 * * * *", "UTC", None),
        ("20 26 1 1 *", "UTC", None),
    ],
)
def test_what_is_a_date_is_an_instant(expression: str, zone: str, expected: datetime | None) -> None:
    """§13.193: what is cron and what is not; without an offset it is of the schedule's time zone."""
    assert schedules.instant(expression, ZoneInfo(zone)) == expected


@pytest.mark.parametrize(
    ("expression", "recurring", "says"),
    [
        ("2026-03-01T11:59:59Z", False, "has passed"),
        ("2026-03-01T12:00:00Z", False, "has passed"),
        ("2026-03-01T13:00:00Z", True, "cannot be recurring"),
        ("2026-13-01", False, "month must be in"),
        ("2026-03-01T25:00", False, "hour must be in"),
        ("0001-01-01T00:00+14:00", False, "out of range"),
        ("2026-03-01 nonsense", False, "Invalid isoformat"),
        ("tomorrow", False, "1 fields"),
    ],
)
def test_what_cannot_come_is_refused(expression: str, recurring: bool, says: str) -> None:
    """§13.194: an instant that has passed is none to wait for."""
    with pytest.raises(ValueError, match=says):
        schedules.check(expression, UTC, NOON, recurring=recurring)


@pytest.mark.parametrize(
    ("back", "recounts"), [(SOON, False), (2 * HOUR, False), (4 * HOUR, True), (timedelta(days=3650), True)]
)
def test_a_clock_that_was_far_ahead_costs_no_years(back: timedelta, recounts: bool) -> None:
    """F65: times that were counted by a wrong clock are counted anew; a small correction repeats nothing."""
    fired = schedules.look(a_schedule(), UTC, NOON, live=False).schedule
    counted = schedules.recounted(fired, UTC, NOON - back)
    assert (counted is not None) is recounts
    if counted is not None:
        assert counted.next_at == schedules.following(fired, UTC, NOON - back)


@given(
    st.sampled_from(["skip", "once", "all"]),
    st.sampled_from(["skip", "queue", "allow"]),
    st.lists(st.tuples(st.integers(0, 20_000), st.booleans()), max_size=12),
    st.booleans(),
)
def test_whenever_it_is_looked_at(misfire: str, overlap: str, steps: list[tuple[int, bool]], recurring: bool) -> None:
    """Between looks no time is kept twice; nothing is carried out beside another but where that is allowed."""
    schedule, at, executed = a_schedule(misfire=misfire, overlap=overlap, recurring=recurring), NOON - HOUR, 0
    for seconds, live in steps:
        at += timedelta(seconds=seconds)
        look = schedules.look(schedule, UTC, at, live=live)
        executed += look.execute
        assert not (look.execute and live) or overlap == "allow"
        assert 0 <= look.schedule.owed <= MOST_OWED
        schedule = schedules.closed(look.schedule, at)
        assert schedule.next_at is None or schedule.next_at > at
        passed = 1 + max(0, (at - NOON) // HOUR) if at >= NOON else 0
        assert executed + schedule.owed <= (min(passed, 1) if not recurring else passed)
        again = schedules.look(schedule, UTC, at, live=True)
        assert not again.execute
