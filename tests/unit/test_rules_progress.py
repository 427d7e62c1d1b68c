"""What a run says about how far it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kit.samples import NOW, a_task

from polpod.errors import Conflict
from polpod.model.tasks import TaskStatus
from polpod.rules.progress import TOLD_EVERY, reported

AT_WORK = a_task(status=TaskStatus.IN_PROGRESS, run_id=5)


def test_what_is_not_said_is_as_it_was() -> None:
    task = reported(AT_WORK, 5, 10.0, "a", NOW).task
    task = reported(task, 5, None, None, NOW).task
    assert task.progress is not None
    assert (task.progress.percent, task.progress.text) == (10.0, "a")
    task = reported(task, 5, 20.0, None, NOW).task
    assert task.progress is not None
    assert (task.progress.percent, task.progress.text, task.version) == (20.0, "a", AT_WORK.version + 3)


def test_another_run_begins_anew() -> None:
    task = reported(AT_WORK, 5, 90.0, "a", NOW).task
    again = a_task(status=TaskStatus.IN_PROGRESS, run_id=6, progress=task.progress)
    change = reported(again, 6, None, None, NOW)
    assert change.task.progress is not None
    assert (change.task.progress.percent, change.task.progress.text) == (None, None)
    assert len(change.events) == 1


@pytest.mark.parametrize(
    ("later", "told"),
    [(timedelta(0), 0), (TOLD_EVERY / 2, 0), (TOLD_EVERY, 1), (-TOLD_EVERY / 2, 0), (-timedelta(days=1), 1)],
)
def test_the_journal_is_told_once_in_a_while_whatever_the_clock_does(later: timedelta, told: int) -> None:
    first = reported(AT_WORK, 5, 1.0, None, NOW)
    assert [event.kind for event in first.events] == ["task:progress"]
    second = reported(first.task, 5, 2.0, None, NOW + later)
    assert len(second.events) == told
    assert second.task.progress is not None
    assert second.task.progress.percent == 2.0


@pytest.mark.parametrize(
    "task", [a_task(status=TaskStatus.DONE, run_id=5), a_task(status=TaskStatus.IN_PROGRESS, run_id=6), a_task()]
)
def test_a_run_that_is_over_says_nothing(task: object) -> None:
    with pytest.raises(Conflict, match="run 5"):
        reported(task, 5, 1.0, None, NOW)  # type: ignore[arg-type]
