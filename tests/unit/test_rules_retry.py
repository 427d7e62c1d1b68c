"""How often a task is tried again, and after how long (DESIGN §5, §7)."""

from __future__ import annotations

import math
from datetime import timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.samples import NOW, a_task

from polpod.model.runs import Reason
from polpod.model.tasks import Backoff
from polpod.rules.retry import AGENT_MAX_RETRIES, LAUNCH_BACKOFF, allowed, delay, resumed

NON_NEGATIVE = st.floats(0, 1e9)
BACKOFFS = st.builds(
    Backoff, delay=NON_NEGATIVE, factor=st.floats(1, 1e300), limit=NON_NEGATIVE, jitter=st.floats(0, 1)
)
ROLLS = st.floats(0, 1, exclude_max=True)
TRIES = st.integers(0, 10**6)
FAILURES = [Reason.EXITED, Reason.SIGNALLED, Reason.OOM, Reason.TIMEOUT, Reason.STALE]


@pytest.mark.parametrize("reason", FAILURES)
def test_a_command_is_not_repeated_unless_asked_for(reason: Reason) -> None:
    assert not allowed(a_task(), reason)
    assert allowed(a_task(max_retries=1), reason)
    assert not allowed(a_task(max_retries=0), reason)


@pytest.mark.parametrize("reason", FAILURES)
def test_an_agent_s_work_is_tried_three_times_more(reason: Reason) -> None:
    assert AGENT_MAX_RETRIES == 3
    assert [allowed(a_task(assigned_to="fixer", retries=n), reason) for n in range(5)] == [True] * 3 + [False] * 2
    assert not allowed(a_task(assigned_to="fixer", max_retries=0), reason)


def test_what_cannot_be_executed_is_tried_again_only_if_asked_for() -> None:
    assert not allowed(a_task(), Reason.SPAWN_FAILED)
    assert not allowed(a_task(assigned_to="fixer"), Reason.SPAWN_FAILED)
    assert allowed(a_task(max_retries=1), Reason.SPAWN_FAILED)
    assert allowed(a_task(assigned_to="fixer", max_retries=1), Reason.SPAWN_FAILED)


def test_manual_retries_do_not_eat_automatic_ones() -> None:
    assert allowed(a_task(max_retries=2, retries=5, manual_retries=4), Reason.EXITED)
    assert not allowed(a_task(max_retries=2, retries=6, manual_retries=4), Reason.EXITED)


def test_recoveries_do_not_eat_retries() -> None:
    assert allowed(a_task(max_retries=1, recoveries=3, launch_failures=9), Reason.EXITED)


@pytest.mark.parametrize(("tries", "seconds"), [(0, 1), (1, 2), (2, 4), (6, 64), (11, 2048), (12, 3600), (9999, 3600)])
def test_a_delay_doubles_up_to_its_limit(tries: int, seconds: float) -> None:
    assert delay(Backoff(jitter=0), tries, 0.0) == seconds


def test_launches_wait_one_second_to_a_minute() -> None:
    assert [delay(LAUNCH_BACKOFF, n, 0.9) for n in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("roll", "seconds"), [(0.0, 3.6), (0.5, 4.0), (0.75, 4.2)])
def test_jitter_spreads_a_delay_around_itself(roll: float, seconds: float) -> None:
    assert delay(Backoff(jitter=0.1), 2, roll) == pytest.approx(seconds)


@given(BACKOFFS, TRIES, TRIES, ROLLS)
@example(Backoff(delay=1, factor=1e300, limit=1e9), 2, 64, 0.0)
def test_a_delay_grows_with_the_tries_and_stays_within_its_bounds(
    backoff: Backoff, some: int, more: int, roll: float
) -> None:
    few, many = sorted((some, more))
    shorter, longer = delay(backoff, few, roll), delay(backoff, many, roll)
    assert 0 <= shorter <= longer <= backoff.limit * (1 + backoff.jitter)
    assert math.isfinite(longer)
    assert NOW + timedelta(seconds=longer) >= NOW


@given(BACKOFFS, TRIES, ROLLS, ROLLS)
def test_a_delay_grows_with_the_roll(backoff: Backoff, tries: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert delay(backoff, tries, low) <= delay(backoff, tries, high)


@pytest.mark.parametrize("wrong", [{"delay": -1}, {"factor": 0.5}, {"jitter": 1.5}, {"limit": 1e10}])
def test_a_backoff_that_would_not_keep_its_bounds_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Backoff)


def test_a_delay_that_begins_in_the_future_begins_now() -> None:
    """The clock went back; but an instant that a person chose before the first attempt stands."""
    waits = {"updated_at": NOW + timedelta(hours=1), "not_before": NOW + timedelta(hours=1, seconds=5)}
    assert resumed(a_task(attempts=1, **waits), NOW) == NOW + timedelta(seconds=5)
    assert resumed(a_task(attempts=0, **waits), NOW) is None
    assert resumed(a_task(attempts=1, **waits), NOW + timedelta(hours=1)) is None
    assert resumed(a_task(attempts=1, updated_at=NOW + timedelta(hours=1)), NOW) is None
