"""Durations and instants, in both directions."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpoctl.times import ago, duration, instant, local, seconds_of, short

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d2h3m4s", 93_784),
        ("1h30", 3630),
        ("0.5", 0.5),
        ("1.5h", 5400),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "5 m", "1m1h", "1h1h", "s", "1e3", "inf", "1.", "9" * 400, "999999d99999999d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        duration(text)


@given(st.integers(0, 253_370_764_800_000_000).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds)))
def test_an_instant_from_the_wire_is_the_same_instant(at: datetime) -> None:
    text = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert seconds_of(text) == pytest.approx((at - EPOCH) / timedelta(seconds=1), abs=1e-4)


def test_an_instant_is_sent_in_utc() -> None:
    assert instant("2030-01-31T18:00:00+02:00") == "2030-01-31T16:00:00.000000Z"
    assert instant("2030-01-31T18:00:00.5Z") == "2030-01-31T18:00:00.500000Z"
    before = time.time()
    at = seconds_of(instant("1h"))
    assert before + 3600 - 1e-3 <= at <= time.time() + 3600 + 1e-3


@pytest.mark.parametrize("text", ["tomorrow", "2030-01-31T18:00:00", "2030-13-01T00:00:00Z", ""])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        instant(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0.0s"),
        (0.34, "0.3s"),
        (9.99, "10.0s"),
        (45.6, "45s"),
        (62, "1m02s"),
        (3720, "1h02m"),
        (273_600, "3d04h"),
    ],
)
def test_a_duration_is_shown_short(seconds: float | None, text: str) -> None:
    assert short(seconds) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [(-90, "in 1m30s"), (0.5, "now"), (5, "5 s ago"), (180, "3 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_an_instant_is_shown_by_its_age(passed: float, text: str) -> None:
    assert ago("2030-01-31T18:00:00.000000Z", seconds_of("2030-01-31T18:00:00Z") + passed) == text
    assert ago(None, 0) == ""


def test_an_instant_is_shown_in_the_reader_s_time_zone() -> None:
    assert local("2030-01-31T18:00:00Z") == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1896112800))
