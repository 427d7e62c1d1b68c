"""Durations of ISO 8601."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.rules.durations import DAY, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PT0S", 0.0),
        ("PT2H", 7200.0),
        ("PT1H30M", 5400.0),
        ("P1D", DAY),
        ("P1DT12H", 1.5 * DAY),
        ("P2W", 14 * DAY),
        ("P1M", 30.44 * DAY),
        ("PT1M", 60.0),
        ("P1Y", 365.25 * DAY),
        ("PT0.5S", 0.5),
        ("PT0,5S", 0.5),
        ("P1Y2M3W4DT5H6M7S", (365.25 + 2 * 30.44 + 3 * 7 + 4) * DAY + 5 * 3600 + 6 * 60 + 7),
    ],
)
def test_it_has_that_many_seconds(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1",
        "1H",
        "PT1D",
        "P1H",
        "PT-1S",
        "-PT1S",
        "PT1S ",
        "pt1s",
        "PT1S1H",
        "P99Y",
        "PT1e3S",
        "PT\u0661S",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|longer than"):
        seconds(text)


@given(st.integers(0, 10**8))
def test_whole_seconds_are_exact(number: int) -> None:
    assert seconds(f"PT{number}S") == number
