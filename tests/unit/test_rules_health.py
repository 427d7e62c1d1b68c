"""When a run has gone on for too long, or has been silent for too long (DESIGN §7)."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polpod.rules.health import Vitals, check, deadline, looked

TIMES = st.floats(0, 1e9)
LIMITS = st.none() | st.just(0.0) | st.floats(1e-3, 1e6)
VITALS = st.builds(
    Vitals, started=TIMES, active=TIMES, max_duration=LIMITS, stale_threshold=LIMITS, warned=st.booleans()
)


def vitals(max_duration: float | None = None, stale: float | None = None, warned: bool = False) -> Vitals:
    return Vitals(started=100, active=200, max_duration=max_duration, stale_threshold=stale, warned=warned)


@pytest.mark.parametrize("off", [None, 0.0])
def test_a_limit_that_is_not_set_or_zero_is_off(off: float | None) -> None:
    """§13.147."""
    v = vitals(off, off)
    assert deadline(v) is None
    assert check(v, 1e12) is None


@pytest.mark.parametrize(("now", "action"), [(149, None), (149.9, None), (150, "timeout"), (1e9, "timeout")])
def test_a_run_ends_at_its_max_duration_counted_from_its_start(now: float, action: str | None) -> None:
    """§13.145."""
    assert check(vitals(50), now) == action
    assert deadline(vitals(50)) == 150


@pytest.mark.parametrize(("now", "action"), [(209, None), (210, "warn"), (219, "warn"), (220, "stale"), (1e9, "stale")])
def test_silence_is_first_a_warning_and_at_twice_the_threshold_the_end(now: float, action: str | None) -> None:
    assert check(vitals(stale=10), now) == action


@pytest.mark.parametrize(("now", "action"), [(210, None), (219, None), (220, "stale")])
def test_a_warning_is_given_once(now: float, action: str | None) -> None:
    """§13.150."""
    assert check(vitals(stale=10, warned=True), now) == action


def test_deadlines() -> None:
    assert deadline(vitals(stale=10)) == 210
    assert deadline(vitals(stale=10, warned=True)) == 220
    assert deadline(vitals(5, stale=10)) == 105
    assert deadline(vitals(500, stale=10)) == 210


def test_age_counts_before_silence() -> None:
    assert check(vitals(50, stale=1), 1000) == "timeout"


@given(VITALS)
def test_something_is_due_at_the_deadline_and_nothing_before(v: Vitals) -> None:
    when = deadline(v)
    assume(when is not None)
    assert when is not None
    assert check(v, when) is not None
    assert check(v, math.nextafter(when, -math.inf)) is None


@given(TIMES, st.floats(1e-3, 1e6))
def test_after_a_warning_comes_the_end(active: float, threshold: float) -> None:
    silent = Vitals(started=0, active=active, max_duration=None, stale_threshold=threshold)
    first = deadline(silent)
    assert first is not None
    assert check(silent, first) == "warn"
    warned = msgspec.structs.replace(silent, warned=True)
    assert check(warned, first) is None
    second = deadline(warned)
    assert second is not None
    assert second > first
    assert check(warned, second) == "stale"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_silence_grows_with_looks_and_not_with_the_time_between_them(gaps: list[float]) -> None:
    v, now = looked(vitals(stale=8), 200), 200.0
    for gap in gaps:
        now += gap
        v = looked(v, now)
        assert v.seen == now
    assert now - v.active == pytest.approx(sum(min(gap, 2) for gap in gaps))
