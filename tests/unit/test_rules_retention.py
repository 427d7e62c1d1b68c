"""What of the past may go (DESIGN §8, F60)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from kit.samples import LATER, NOW, a_run, a_task

from polpod.model.runs import Reason, RunStatus
from polpod.model.tasks import FINISHED, TaskStatus
from polpod.rules.retention import Fate, fate_of, last_to_go, task_may_go

FAILED = (RunStatus.FAILED, Reason.EXITED)


@pytest.mark.parametrize("status", TaskStatus)
def test_only_finished_tasks_of_our_own_without_a_mission_may_go(status: TaskStatus) -> None:
    assert task_may_go(a_task(status=status)) is (status in FINISHED)
    assert not task_may_go(a_task(status=status, owner="synthorg"))
    assert not task_may_go(a_task(status=status, mission_id="m"))


@pytest.mark.parametrize("status", TaskStatus)
def test_what_is_live_or_not_collected_stays_whatever_the_task(status: TaskStatus) -> None:
    for task in (None, a_task(status=status, run_id=9)):
        assert fate_of(a_run(RunStatus.RUNNING), task) is Fate.KEEP
        assert fate_of(a_run(*FAILED), task) is Fate.KEEP


def test_a_run_goes_before_its_finished_task_and_the_newest_with_it() -> None:
    run = a_run(*FAILED, collected_at="2026-01-01")
    assert fate_of(run, None) is Fate.GO
    assert fate_of(run, a_task(status=TaskStatus.DONE, run_id=6)) is Fate.GO
    assert fate_of(run, a_task(status=TaskStatus.DONE, run_id=5)) is Fate.GO_WITH_TASK
    # A power cut may have taken back what the task knew of this run.
    assert fate_of(run, a_task(status=TaskStatus.CANCELLED, run_id=None)) is Fate.GO_WITH_TASK
    assert fate_of(run, a_task(status=TaskStatus.DONE, run_id=5, mission_id="m")) is Fate.KEEP


@pytest.mark.parametrize("status", [s for s in TaskStatus if s not in FINISHED])
def test_runs_of_a_task_that_is_not_finished_stay(status: TaskStatus) -> None:
    run = a_run(*FAILED, collected_at="2026-01-01")
    assert fate_of(run, a_task(status=status, run_id=5)) is fate_of(run, a_task(status=status, run_id=6)) is Fate.KEEP


def events(*ages: int) -> list[tuple[int, datetime]]:
    """Events from seq 11 on, these many days old."""
    return [(seq, NOW - timedelta(days=age)) for seq, age in enumerate(ages, start=11)]


@pytest.mark.parametrize(
    ("ages", "newest", "most", "last"),
    [
        ((), 10, 5, None),
        ((40, 35, 20, 10), 14, 100, 12),
        ((40, 20, 35, 10), 14, 100, 11),  # the clock was set back: nothing goes from the middle
        ((3, 2, 1, 0), 14, 2, 12),
        ((3, 2, 1, 0), 14, 4, None),
        ((40, 40, 40, 40), 14, 100, 13),  # the newest stays
        ((40,), 11, 1, None),
    ],
)
def test_the_journal_loses_its_beginning_and_never_its_end(
    ages: tuple[int, ...], newest: int, most: int, last: int | None
) -> None:
    assert last_to_go(events(*ages), newest, NOW - timedelta(days=30), most) == last


def test_age_is_counted_to_the_instant() -> None:
    (event,) = events(0)
    assert last_to_go([event], 12, NOW, 100) == 11
    assert last_to_go([event], 12, NOW - (LATER - NOW), 100) is None
