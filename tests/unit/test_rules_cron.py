"""Cron expressions: what they mean, what is refused, and how they keep to a clock that is changed twice a year (W33)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.rules import cron

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 1, tzinfo=UTC)
"""A Sunday."""


def times(expression: str, number: int = 3, start: datetime = START, zone: str = "UTC") -> list[str]:
    """In the clock of that zone, with the day of the week."""
    cron.check(expression)
    found = islice(cron.times(expression, ZoneInfo(zone), start), number)
    return [at.astimezone(ZoneInfo(zone)).strftime("%a %m-%d %H:%M") for at in found]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", ["Sun 03-01 00:01", "Sun 03-01 00:02", "Sun 03-01 00:03"]),
        ("30 3 * * *", ["Sun 03-01 03:30", "Mon 03-02 03:30", "Tue 03-03 03:30"]),
        ("0 9-11 * * *", ["Sun 03-01 09:00", "Sun 03-01 10:00", "Sun 03-01 11:00"]),
        ("5,35 0 * * *", ["Sun 03-01 00:05", "Sun 03-01 00:35", "Mon 03-02 00:05"]),
        ("*/25 * * * *", ["Sun 03-01 00:25", "Sun 03-01 00:50", "Sun 03-01 01:00"]),
        ("0 8-18/5 * * *", ["Sun 03-01 08:00", "Sun 03-01 13:00", "Sun 03-01 18:00"]),
        ("0 0 * * 7", ["Sun 03-08 00:00", "Sun 03-15 00:00", "Sun 03-22 00:00"]),
        ("0 0 * * mon-wed", ["Mon 03-02 00:00", "Tue 03-03 00:00", "Wed 03-04 00:00"]),
        ("0 0 1 jan,JUL *", ["Wed 07-01 00:00", "Fri 01-01 00:00", "Thu 07-01 00:00"]),
        ("0 0 29 2 *", ["Tue 02-29 00:00", "Sun 02-29 00:00", "Fri 02-29 00:00"]),
        ("0 0 13 * fri", ["Fri 03-06 00:00", "Fri 03-13 00:00", "Fri 03-20 00:00"]),
        ("0 0 3 * mon", ["Mon 03-02 00:00", "Tue 03-03 00:00", "Mon 03-09 00:00"]),
        ("0 0 */2 * mon", ["Mon 03-09 00:00", "Mon 03-23 00:00", "Mon 04-13 00:00"]),
    ],
)
def test_what_an_expression_means(expression: str, expected: list[str]) -> None:
    """§13.192, §13.193: values, ranges, lists, steps, 7 is Sunday; of two day fields one is enough (W33)."""
    assert times(expression) == expected


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "6 fields"),
        ("@daily", "1 fields"),
        ("*/0 * * * *", "minute '*/0': a step is within 1-59"),
        ("*/60 * * * *", "a step is within 1-59"),
        ("99 * * * *", "minute '99': '99' is not within 0-59"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of the month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "day of the week '8'"),
        ("5/15 * * * *", "a step of one value"),
        ("30-10 * * * *", "ends before it begins"),
        ("1,,2 * * * *", "'' is no number"),
        ("-5 * * * *", "'-5' is no number"),
        ("1- * * * *", "'1-' is no number"),
        ("1.5 * * * *", "'1.5' is no number"),
        ("mon * * * *", "'MON' is not within"),
        ("* * L * *", "'L' is not within"),
        ("* * * * 5#2", "'5#2' is no number"),
        ("* * * * 1L/2", "'1L/2' is not within"),
        ("² * * * *", "is no number"),
        ("\0 * * * *", "is no number"),
        (f"{'9' * 5000} * * * *", "is not within"),
        (f"*/{'9' * 5000} * * * *", "a step is within"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
    ],
)
def test_what_is_refused_says_why(expression: str, says: str) -> None:
    """W33: nothing hangs, nothing is empty in silence."""
    with pytest.raises(ValueError, match=re.escape(says)):
        cron.check(expression)


NIGHT = datetime(2026, 3, 28, 12, tzinfo=UTC)
"""Before the clock of Berlin goes from 2 to 3 o'clock."""
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)
"""Before it goes back from 3 to 2 o'clock."""


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("30 2 * * *", NIGHT, ["Sun 03-29 03:00", "Mon 03-30 02:30"]),
        ("30 3 * * *", NIGHT, ["Sun 03-29 03:30", "Mon 03-30 03:30"]),
        ("30 2 * * *", AUTUMN, ["Sun 10-25 02:30", "Mon 10-26 02:30"]),
        ("0 * * * *", datetime(2026, 3, 29, 0, 30, tzinfo=UTC), ["Sun 03-29 03:00", "Sun 03-29 04:00"]),
        ("0 * * * *", datetime(2026, 10, 24, 23, 30, tzinfo=UTC), ["Sun 10-25 02:00", "Sun 10-25 02:00"]),
    ],
)
def test_a_time_of_day_comes_once_on_the_days_that_are_longer_or_shorter(
    expression: str, start: datetime, expected: list[str]
) -> None:
    """What the clock leaves out comes later, what it repeats comes once, and hours come by the time that passes."""
    assert times(expression, 2, start, "Europe/Berlin") == expected


def test_within_a_repeated_hour_what_came_in_its_first_pass_does_not_come_again() -> None:
    second_pass = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN).replace(fold=1)
    found = cron.following("30 2 * * *", BERLIN, second_pass)
    assert found == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_the_calendar_has_an_end() -> None:
    assert cron.following("0 0 1 1 *", BERLIN, datetime(9999, 6, 1, tzinfo=UTC)) is None


FIELDS = [
    st.sampled_from(["*", "*/7", "0", "1-50/9", "13,59"]),
    st.sampled_from(["*", "*/5", "2", "1-3", "0,2,23"]),
    st.sampled_from(["*", "1", "31", "10-20"]),
    st.sampled_from(["*", "3", "10", "jan-jun/2"]),
    st.sampled_from(["*", "sun", "1-5", "0,6"]),
]


@given(
    st.tuples(*FIELDS).map(" ".join),
    st.integers(1_577_836_800, 2_208_988_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_times_go_on_and_each_is_the_first_after_the_one_before(expression: str, start: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    found = list(islice(cron.times(expression, zone, start), 5))
    assert all(a < b for a, b in pairwise([start, *found]))
    for before, at in pairwise(found):
        between = before + (at - before) / 2
        assert cron.following(expression, zone, between) == at
    assert all(at.second == 0 and at - timedelta(microseconds=at.microsecond) == at for at in found)
