"""Deadlines as rows: what is found when one is close, has passed or was met; each once, and never by a scan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import NOW, a_run, a_task, task_store
from msgspec import structs

from polpod.config import Sla as Settings
from polpod.config import parse
from polpod.errors import InvalidConfig
from polpod.model.assessments import Assessment
from polpod.model.deadlines import AT_ONCE, look_at
from polpod.model.events import Event
from polpod.model.executions import Execution, ExecutionStatus
from polpod.model.runs import Phase, Reason, RunStatus
from polpod.model.tasks import Sla, SlaState, Task, TaskStatus
from polpod.rules import deadlines as rules
from polpod.rules.deadlines import BY_DEADLINE
from polpod.rules.outcome import outcome
from polpod.services import deadlines
from polpod.services.missions.settling import report
from polpod.store.group import GroupCommit
from polpod.store.missions import Executions
from polpod.store.records import Tx
from polpod.store.tables import Events, Tasks

S = TaskStatus
HOUR = timedelta(hours=1)
DEADLINE = NOW + 10 * HOUR
"""Of what began at NOW: it is close from the eighth hour on."""
NOTIFY, FAIL = Settings(), Settings(violation_action="fail")


class Stored:
    def __init__(self, store: GroupCommit[Tx]) -> None:
        self._store = store

    def save(self, **values: Any) -> None:
        self._store.write(lambda tx: tx[Tasks].save(a_task(**{"deadline": DEADLINE} | values)))

    def look(self, at: datetime, settings: Settings = NOTIFY) -> list[int]:
        """Again and again until nothing is due, as the service does; the runs to be ended."""
        runs: list[int] = []
        for _ in range(5):
            first = self._store.write(deadlines.next_look)
            if first is None or first > at:
                return runs
            runs += self._store.write(lambda tx: deadlines.look(tx, settings, at))
        raise AssertionError(f"{first} is due for ever at {at}")

    @property
    def task(self) -> Task:
        (task,) = self._store.write(lambda tx: tx[Tasks].find())
        return task

    @property
    def next(self) -> datetime | None:
        return self._store.write(deadlines.next_look)

    def execution(self, **values: Any) -> None:
        fixed: dict[str, Any] = {
            "id": "1.1", "seq": 1, "mission_id": "1", "number": 1, "group": "m", "document_id": "d", "started_by": "me",
            "started_at": NOW, "updated_at": NOW, "deadline": DEADLINE,
        }  # fmt: skip
        before = self._store.write(lambda tx: tx[Executions].get("1.1"))
        made = Execution(**fixed | values) if before is None else structs.replace(before, **values)
        self._store.write(lambda tx: tx[Executions].save(made))

    def told(self) -> list[Event]:
        found: list[Event] = self._store.write(lambda tx: tx[Events].find(Events.kind.glob("sla:*")))
        return found

    def kinds(self) -> list[str]:
        return [event.kind.removeprefix("sla:") for event in self.told()]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    with task_store(tmp_path) as store:
        yield Stored(store)


def test_a_deadline_is_close_at_the_threshold_and_passed_once(stored: Stored) -> None:
    """§13.190; W32: what was found is kept with the task."""
    stored.save()
    for hours, kinds in ((0, []), (7.9, []), (8, ["warning"]), (9, ["warning"]), (10, ["warning", "violated"])):
        for _ in range(2):
            stored.look(NOW + hours * HOUR)
            assert stored.kinds() == kinds
    stored.look(NOW + 100 * HOUR)
    assert stored.kinds() == ["warning", "violated"]
    assert stored.next is None
    warning, violated = stored.told()
    assert warning.subject == "task/7"
    assert warning.body == {
        "deadline": "2026-03-01T22:00:00Z", "elapsed": 28800.0, "remaining": 7200.0, "percent_used": 80.0,
    }  # fmt: skip
    assert violated.body == {"deadline": "2026-03-01T22:00:00Z", "overdue": 0.0}


def test_it_is_looked_at_when_there_is_something_to_find(stored: Stored) -> None:
    stored.save()
    assert stored.next == AT_ONCE
    stored.look(NOW)
    assert stored.next == NOW + 8 * HOUR
    stored.look(NOW + 8 * HOUR)
    assert stored.next == DEADLINE


def test_who_looks_too_late_for_a_warning_says_only_that_it_has_passed(stored: Stored) -> None:
    stored.save()
    stored.look(DEADLINE + HOUR)
    assert stored.kinds() == ["violated"]
    assert stored.told()[0].body["overdue"] == 3600.0


@pytest.mark.parametrize("before", [NOW, NOW + 8 * HOUR])
def test_what_is_done_in_time_met_its_deadline_however_late_that_is_looked_at(stored: Stored, before: datetime) -> None:
    """§13.191"""
    stored.save()
    stored.look(before)
    stored.save(status=S.DONE, finished_at=DEADLINE - HOUR, sla=stored.task.sla)
    stored.look(DEADLINE + HOUR)
    assert stored.kinds()[-1] == "met"
    assert stored.told()[-1].body["margin"] == 3600.0
    assert stored.next is None


def test_what_a_program_says_is_done_and_not_since_when_was_so_when_that_was_said(stored: Stored) -> None:
    """A library's user may store such a task; it has to fail nobody."""
    stored.save(status=S.DONE, finished_at=None, updated_at=DEADLINE + HOUR)
    stored.look(DEADLINE + 2 * HOUR, FAIL)
    assert (stored.task.status, stored.kinds()) == (S.DONE, ["violated"])


def test_what_is_done_too_late_did_not(stored: Stored) -> None:
    stored.save(status=S.DONE, finished_at=DEADLINE + HOUR)
    stored.look(DEADLINE + 2 * HOUR)
    assert (stored.kinds(), stored.told()[0].body["overdue"]) == (["violated"], 3600.0)


@pytest.mark.parametrize("status", [S.FAILED, S.CANCELLED])
def test_what_was_given_up_has_no_deadline_any_more_until_it_is_tried_again(stored: Stored, status: TaskStatus) -> None:
    """§13.191"""
    stored.save(status=status, finished_at=NOW)
    assert stored.next is None
    stored.save()
    stored.look(DEADLINE)
    assert stored.kinds() == ["violated"]


def test_another_deadline_is_looked_at_anew(stored: Stored) -> None:
    """§13.191"""
    stored.save()
    stored.look(DEADLINE)
    stored.save(deadline=DEADLINE + 10 * HOUR, sla=stored.task.sla)
    for hours in (10, 16, 20):
        stored.look(NOW + hours * HOUR)
    assert stored.kinds() == ["violated", "warning", "violated"]


def test_what_belongs_to_others_is_not_looked_at(stored: Stored) -> None:
    stored.save(owner="synthorg")
    assert stored.next is None


@pytest.mark.parametrize("status", [S.DRAFT, S.PENDING, S.AWAITING_APPROVAL, S.REVIEW])
def test_a_task_that_does_not_run_fails_at_its_deadline_if_that_is_wanted(stored: Stored, status: TaskStatus) -> None:
    """§13.191, W37"""
    stored.save(status=status)
    assert stored.look(DEADLINE, FAIL) == []
    assert (stored.task.status, stored.task.finished_at) == (S.FAILED, DEADLINE)
    assert stored.told()[-1].body["action"] == "fail"
    stored.look(DEADLINE + HOUR, FAIL)
    assert stored.kinds() == ["violated"]


def test_a_task_that_runs_is_to_be_ended_in_the_same_transaction(stored: Stored) -> None:
    """W37: the task says so, so whichever daemon is there ends its run."""
    stored.save(status=S.IN_PROGRESS, run_id=5)
    assert stored.look(DEADLINE, FAIL) == [5]
    assert (stored.task.status, stored.task.cancelled_by) == (S.IN_PROGRESS, BY_DEADLINE)
    assert stored.look(DEADLINE + HOUR, FAIL) == []


CHECKED = {"status": S.REVIEW, "run_id": 6, "applied_run": 5, "phase": "review", "assessing": "initial"}


def test_so_is_one_whose_checks_are_carried_out(stored: Stored) -> None:
    """W37: no run goes on for a task that is over."""
    stored.save(**CHECKED)
    assert stored.look(DEADLINE, FAIL) == [6]
    assert (stored.task.status, stored.task.cancelled_by) == (S.REVIEW, BY_DEADLINE)


@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (RunStatus.KILLED, Reason.TIMEOUT, S.FAILED),
        (RunStatus.LOST, Reason.LOST, S.FAILED),
        (RunStatus.LOST, Reason.NEVER_STARTED, S.FAILED),
        (RunStatus.KILLED, Reason.SHUTDOWN, S.FAILED),
        (RunStatus.FAILED, Reason.EXITED, S.FAILED),
        (RunStatus.COMPLETED, Reason.EXITED, S.DONE),
    ],
)
def test_however_the_run_of_such_a_task_ends_it_is_not_tried_again(
    status: RunStatus, reason: Reason, expected: TaskStatus, checks: bool
) -> None:
    """W37; work that was done meanwhile is not thrown away."""
    task = a_task(status=S.IN_PROGRESS, run_id=5, max_retries=3, cancelled_by=BY_DEADLINE)
    run, found = a_run(status, reason), None
    if checks:
        task = structs.replace(task, **CHECKED)
        passed = status is RunStatus.COMPLETED
        run = a_run(status, reason, id=6, phase=Phase.REVIEW, exit_code=0 if passed else 1)
        found = Assessment(run_id=6, passed=passed, timestamp="t") if reason is Reason.EXITED else None
    change = outcome(task, run, NOW, 0.5, assessment=found)
    assert change is not None
    assert (change.task.status, change.task.retries) == (expected, 0)


def test_the_deadline_of_a_mission_counts_from_the_start_of_its_execution(stored: Stored) -> None:
    """§13.190"""
    stored.execution()
    for hours, kinds in ((7.9, []), (8, ["warning"]), (10, ["warning", "violated"]), (11, ["warning", "violated"])):
        stored.look(NOW + hours * HOUR, FAIL)
        assert stored.kinds() == kinds
    assert {(event.subject, event.body["execution_id"]) for event in stored.told()} == {("mission/1", "1.1")}


@pytest.mark.parametrize(
    ("status", "kinds"), [("completed", ["met"]), ("failed", []), ("cancelled", []), ("cancelling", ["violated"])]
)
def test_an_execution_that_ends_met_its_deadline_or_has_none(stored: Stored, status: str, kinds: list[str]) -> None:
    """§13.191"""
    stored.execution()
    stored.look(NOW)
    ended = None if status == "cancelling" else NOW + HOUR
    stored.execution(status=ExecutionStatus(status), finished_at=ended)
    stored.look(DEADLINE)
    assert (stored.kinds(), stored.next) == (kinds, None)


def test_a_report_counts_the_deadlines_that_were_met() -> None:
    """§13.189"""
    tasks = [
        a_task(deadline=DEADLINE, status=S.DONE, finished_at=DEADLINE),
        a_task(deadline=DEADLINE, status=S.DONE, finished_at=DEADLINE + HOUR),
        a_task(deadline=DEADLINE, status=S.FAILED, finished_at=NOW),
        a_task(status=S.DONE, finished_at=NOW),
    ]
    assert report(tasks, NOW)["deadlines"] == {"met": 1, "violated": 2}


@given(
    st.lists(st.integers(0, 30), max_size=12),
    st.none() | st.integers(0, 30),
    st.floats(0.01, 1),
    st.integers(-5, 20),
)
def test_each_finding_is_made_once_whenever_it_is_looked_at(
    hours: list[int], done: int | None, threshold: float, until: int
) -> None:
    deadline, sla, states = NOW + until * HOUR, None, []
    for hour in sorted(hours):
        done_at = NOW + done * HOUR if done is not None and done <= hour else None
        found = rules.look(deadline, sla, NOW, done_at, NOW + hour * HOUR, threshold)
        if sla is None or found.state is not sla.state:
            states.append(found.state)
        at = look_at(deadline, found, done=done_at is not None, dropped=False)
        assert at is None or at > NOW + hour * HOUR or found.state is SlaState.WARNED
        sla = found
    assert len(states) == len(set(states))
    assert not {SlaState.MET, SlaState.VIOLATED} <= set(states)
    order = list(SlaState)
    assert [s for s in order[:2] if s in states] == [s for s in states if s in order[:2]]


def test_a_deadline_before_the_beginning_has_passed() -> None:
    sla = rules.look(NOW - HOUR, None, NOW, None, NOW, 0.8)
    assert sla == Sla(NOW - HOUR, SlaState.VIOLATED)
    assert rules.body(Sla(NOW, SlaState.WARNED), NOW, None, NOW)["percent_used"] is None


def test_settings_are_polpos() -> None:
    text = {
        "sla": {"warningThreshold": 0.5, "violationAction": "fail", "checkIntervalMs": 30000, "warningChannels": []}
    }
    config, unknown = parse(json.dumps({"settings": text}).encode(), "polpo.json")
    assert (config.settings.sla, unknown) == (Settings(warning_threshold=0.5, violation_action="fail"), [])


@pytest.mark.parametrize(
    ("sla", "path"),
    [
        ({"warningThreshold": 0}, "$.settings.sla.warningThreshold"),
        ({"warningThreshold": 1.1}, "$.settings.sla.warningThreshold"),
        ({"violationAction": "explode"}, "$.settings.sla.violationAction"),
        ([], "$.settings.sla"),
    ],
)
def test_settings_that_mean_nothing_are_refused_with_their_path(sla: Any, path: str) -> None:
    with pytest.raises(InvalidConfig, match=r"polpo\.json") as refused:
        parse(json.dumps({"settings": {"sla": sla}}).encode(), "polpo.json")
    assert f"`{path}`" in str(refused.value)


def test_no_instant_is_beyond_utc() -> None:
    """The times of a look lie between those that were given."""
    late = datetime(9999, 12, 31, tzinfo=UTC)
    assert rules.look(late, None, NOW, None, NOW, 0.8).state is SlaState.OPEN
