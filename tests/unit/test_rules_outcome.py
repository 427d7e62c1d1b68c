"""What the end of a run means for its task: each cell of DESIGN §7's table, and what holds for all of them."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import BOOT, LATER, NOW, a_run, a_task

from polpod.model.changes import Change
from polpod.model.runs import Reason, Run, RunStatus
from polpod.model.tasks import OCCUPYING, Backoff, Task, TaskStatus
from polpod.rules.outcome import MEANING, inexecutable, launch, no_row, outcome
from polpod.rules.retry import LAUNCH_FAILURES_UNTIL_PARKED
from polpod.runner import contract

S = TaskStatus
R = RunStatus
Q = Reason
OTHER_BOOT = BOOT.replace("1", "2")
TERMINAL = list(MEANING)
FAILURES = [pair for pair in TERMINAL if pair[0] is R.FAILED or pair[1] in (Q.TIMEOUT, Q.STALE)]
UNDECIDED = [
    pair for pair in TERMINAL if pair not in FAILURES and pair[0] is not R.COMPLETED and pair[1] != Q.CANCELLED
]


def in_progress(**values: Any) -> Task:
    """Task 7 as run 5 carries it out."""
    return a_task(**{"status": S.IN_PROGRESS, "run_id": 5, "attempts": 1, "started_boot": BOOT} | values)


def decided(task: Task | None, run: Run, roll: float = 0.5) -> Change:
    change = outcome(task, run, LATER, roll)
    assert change is not None
    return change


def path(change: Change) -> list[str]:
    """The statuses that its transitions lead through; asserts that each begins where the one before ended."""
    moves = [(e.body["from"], e.body["to"]) for e in change.events if e.kind == "task:transition"]
    assert all(one[1] == next_[0] for one, next_ in itertools.pairwise(moves))
    return [str(moves[0][0]), *(str(to) for _, to in moves)] if moves else []


def kinds(change: Change) -> list[str]:
    return [e.kind for e in change.events if e.kind != "task:transition"]


def body(change: Change, kind: str) -> dict[str, Any]:
    (found,) = [e for e in change.events if e.kind == kind]
    return found.body


# The table, row by row.


def test_the_table_has_what_a_run_can_end_as_and_nothing_else() -> None:
    assert {(str(s), str(r)) for s, r in MEANING} == {
        ("completed", "exited"), ("failed", "exited"), ("failed", "signalled"), ("failed", "oom"),
        ("failed", "spawn_failed"), ("killed", "timeout"), ("killed", "stale"), ("killed", "cancelled"),
        ("killed", "shutdown"), ("lost", "lost"), ("lost", "never_started"),
    }  # fmt: skip


def test_the_table_has_whatever_a_kill_makes_of_a_run() -> None:
    assert {(R(s), Q(r)) for r, s in contract.STATUS_OF_KILL.items()} <= set(MEANING)


def test_completed_is_reviewed_and_done() -> None:
    """§13.136."""
    change = decided(in_progress(), a_run(R.COMPLETED, Q.EXITED, exit_code=0, duration=1.5))
    assert path(change) == ["in_progress", "review", "done"]
    assert (change.task.status, change.task.finished_at) == (S.DONE, LATER)
    result = change.task.result
    assert result is not None
    assert (result.run_id, result.status, result.reason, result.exit_code, result.duration) == (
        *(5, "completed", "exited"), *(0, 1.5),
    )  # fmt: skip


def test_completed_stays_in_review_while_there_are_checks() -> None:
    """W6, W26."""
    change = decided(in_progress(expectations=({"type": "test"},)), a_run(R.COMPLETED, Q.EXITED, exit_code=0))
    assert path(change) == ["in_progress", "review"]
    assert (change.task.finished_at, change.task.applied_run) == (None, 5)


@pytest.mark.parametrize(("status", "reason"), FAILURES)
def test_a_failure_without_retries_is_the_end(status: R, reason: Q) -> None:
    change = decided(in_progress(), a_run(status, reason, exit_code=3, signal=9, error="why"))
    assert path(change) == ["in_progress", "failed"]
    assert (change.task.retries, change.task.finished_at) == (0, LATER)
    result = change.task.result
    assert result is not None
    assert (result.reason, result.exit_code, result.signal, result.error) == (reason, 3, 9, "why")


@pytest.mark.parametrize(("status", "reason"), FAILURES)
def test_a_failure_with_retries_left_waits_for_the_next(status: R, reason: Q) -> None:
    """§13.137."""
    task = in_progress(max_retries=2, retries=1, backoff=Backoff(delay=10, jitter=0.5))
    change = decided(task, a_run(status, reason), roll=0.75)
    assert path(change) == ["in_progress", "failed", "pending"]
    assert (change.task.retries, change.task.manual_retries, change.task.finished_at) == (2, 0, None)
    assert change.task.not_before == LATER + timedelta(seconds=25)
    assert body(change, "task:retry") == {"retries": 2, "delay": 25.0}


@pytest.mark.parametrize(("status", "reason"), FAILURES)
def test_the_last_retry_spent_is_the_end(status: R, reason: Q) -> None:
    change = decided(in_progress(max_retries=2, retries=2), a_run(status, reason))
    assert path(change) == ["in_progress", "failed"]


@pytest.mark.parametrize(("status", "reason"), FAILURES)
def test_an_agent_s_failure_is_tried_again_unless_nothing_could_be_executed(status: R, reason: Q) -> None:
    change = decided(in_progress(assigned_to="fixer"), a_run(status, reason))
    assert change.task.status is (S.FAILED if reason is Q.SPAWN_FAILED else S.PENDING)


@pytest.mark.parametrize(("status", "reason"), FAILURES)
def test_a_manual_retry_neither_eats_automatic_ones_nor_lengthens_their_delay(status: R, reason: Q) -> None:
    task = in_progress(max_retries=1, retries=3, manual_retries=3, backoff=Backoff(jitter=0))
    change = decided(task, a_run(status, reason))
    assert (change.task.status, change.task.retries) == (S.PENDING, 4)
    assert change.task.not_before == LATER + timedelta(seconds=1)


@pytest.mark.parametrize("reason", [Q.TIMEOUT, Q.STALE])
def test_what_ran_too_long_says_so_before_it_fails(reason: Q) -> None:
    change = decided(in_progress(), a_run(R.KILLED, reason, duration=60.5))
    assert [e.kind for e in change.events] == ["agent:finished", "task:timeout", "task:transition"]
    assert body(change, "task:timeout") == {"run_id": 5, "reason": reason, "elapsed": 60.5}


def test_other_failures_are_no_timeouts() -> None:
    change = decided(in_progress(), a_run(R.FAILED, Q.EXITED))
    assert kinds(change) == ["agent:finished"]


def test_cancelled_is_cancelled_and_says_by_whom() -> None:
    change = decided(in_progress(max_retries=5), a_run(R.KILLED, Q.CANCELLED, kill_by="uid 1000"))
    assert path(change) == ["in_progress", "cancelled"]
    assert (change.task.retries, change.task.finished_at) == (0, LATER)
    assert body(change, "task:transition")["reason"] == "uid 1000"


@pytest.mark.parametrize(("side_effects", "to"), [(False, "pending"), (True, "awaiting_approval")])
def test_a_shutdown_requeues_and_a_person_decides_where_there_are_side_effects(side_effects: bool, to: str) -> None:
    change = decided(in_progress(side_effects=side_effects, retries=1), a_run(R.KILLED, Q.SHUTDOWN))
    assert path(change) == ["in_progress", to]
    assert (change.task.retries, change.task.recoveries, change.task.not_before) == (1, 0, None)
    assert body(change, "task:recovered") == {"previous": "in_progress", "reason": "shutdown"}
    assert change.task.result is not None
    assert change.task.result.reason == "shutdown"


@pytest.mark.parametrize(
    ("values", "to"),
    [
        ({"recoveries": 0}, "pending"),
        ({"recoveries": 2}, "pending"),
        ({"recoveries": 3}, "awaiting_approval"),
        ({"recoveries": 0, "max_recoveries": 0}, "awaiting_approval"),
        ({"recoveries": 3, "max_recoveries": 4}, "pending"),
        ({"recoveries": 0, "side_effects": True}, "awaiting_approval"),
    ],
)
def test_lost_work_is_recovered_up_to_max_recoveries(values: dict[str, Any], to: str) -> None:
    """W7."""
    change = decided(in_progress(retries=1, **values), a_run(R.LOST, Q.LOST))
    assert path(change) == ["in_progress", to]
    assert (change.task.recoveries, change.task.retries) == (values["recoveries"] + 1, 1)
    assert body(change, "task:recovered")["reason"] == "lost"
    assert change.task.result is not None


def test_lost_three_times_is_recovered_three_times() -> None:
    task = a_task()
    ended = []
    for number in range(1, 6):
        run = a_run(R.LOST, Q.LOST, id=number, attempt=number)
        task = decided(launch(task, run, NOW).task, run).task
        ended.append(task.status)
        if task.status is S.AWAITING_APPROVAL:
            break
    assert ended == [S.PENDING] * 3 + [S.AWAITING_APPROVAL]


def test_what_never_started_waits_longer_each_time_and_is_parked_after_ten() -> None:
    """W38."""
    task, waits = a_task(), []
    for number in range(1, LAUNCH_FAILURES_UNTIL_PARKED + 1):
        run = a_run(R.LOST, Q.NEVER_STARTED, id=number, attempt=number)
        change = decided(launch(task, run, NOW).task, run)
        task = change.task
        assert (task.launch_failures, task.retries, task.recoveries) == (number, 0, 0)
        waits.append(task.not_before and (task.not_before - LATER).total_seconds())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, None]
    assert task.status is S.AWAITING_APPROVAL


@pytest.mark.parametrize(("status", "reason"), [p for p in TERMINAL if p[1] is not Q.NEVER_STARTED])
def test_a_run_that_started_ends_the_series_of_launch_failures(status: R, reason: Q) -> None:
    assert decided(in_progress(launch_failures=9), a_run(status, reason)).task.launch_failures == 0


def test_side_effects_do_not_park_what_never_started() -> None:
    assert decided(in_progress(side_effects=True), a_run(R.LOST, Q.NEVER_STARTED)).task.status is S.PENDING


@pytest.mark.parametrize(
    ("asked", "to", "failures"),
    [("cancelled", "cancelled", 0), ("shutdown", "pending", 0), ("timeout", "pending", 1), (None, "pending", 1)],
)
def test_what_was_ended_before_it_started_gets_what_was_asked_for(asked: str | None, to: str, failures: int) -> None:
    run = a_run(R.LOST, Q.NEVER_STARTED, kill_reason=asked, kill_by="uid 0")
    change = decided(in_progress(), run)
    assert path(change) == ["in_progress", to]
    assert (change.task.retries, change.task.recoveries, change.task.launch_failures) == (0, 0, failures)
    assert (change.task.not_before is None) == (failures == 0)


# A task whose end somebody asked for.


@pytest.mark.parametrize(("status", "reason"), TERMINAL)
@pytest.mark.parametrize("side_effects", [False, True])
def test_what_somebody_cancelled_does_not_run_again_by_itself(status: R, reason: Q, side_effects: bool) -> None:
    task = in_progress(cancelled_by="uid 1000", max_retries=5, assigned_to="fixer", side_effects=side_effects)
    change = decided(task, a_run(status, reason, kill_by="daemon"))
    expected = S.DONE if status is R.COMPLETED else S.FAILED if (status, reason) in FAILURES else S.CANCELLED
    assert (change.task.status, change.task.finished_at) == (expected, LATER)
    assert (change.task.retries, change.task.recoveries, change.task.launch_failures) == (0, 0, 0)
    if expected is S.CANCELLED:
        assert body(change, "task:transition")["reason"] == "uid 1000"
    assert change.task.result is not None
    assert change.task.result.reason == reason


@pytest.mark.parametrize("boot", [BOOT, OTHER_BOOT])
def test_what_somebody_cancelled_stays_so_without_a_row_too(boot: str) -> None:
    assert no_row(in_progress(cancelled_by="uid 1000"), boot, LATER).task.status is S.CANCELLED


# The other columns: rolled back by a power cut, and too late.

ROLLED_BACK = {
    "pending, never launched": a_task(),
    "pending, after an older run": a_task(run_id=3, applied_run=3, attempts=1),
    "awaiting approval": a_task(status=S.AWAITING_APPROVAL, run_id=3, applied_run=3, attempts=1),
}


@pytest.mark.parametrize("task", ROLLED_BACK.values(), ids=ROLLED_BACK)
@pytest.mark.parametrize(("status", "reason"), [p for p in TERMINAL if p[1] is not Q.NEVER_STARTED])
def test_a_launch_that_a_power_cut_took_back_is_walked_once_more(task: Task, status: R, reason: Q) -> None:
    run = a_run(status, reason, attempt=2)
    by = "uid 1000" if reason is Q.CANCELLED else None
    change = decided(msgspec.structs.replace(task, cancelled_by=by), run)
    expected = decided(in_progress(attempts=2, cancelled_by=by), run)
    assert path(change) == [str(task.status), "assigned", *path(expected)]
    assert change.task.status is expected.task.status
    assert (change.task.run_id, change.task.applied_run, change.task.attempts) == (5, 5, 2)
    assert kinds(change)[:2] == ["agent:spawned", "agent:finished"]


@pytest.mark.parametrize("task", ROLLED_BACK.values(), ids=ROLLED_BACK)
def test_a_task_that_nobody_cancelled_is_not_cancelled_by_the_end_of_a_stray_run(task: Task) -> None:
    stray = a_run(R.KILLED, Q.CANCELLED, kill_by="recovery: its task is not in progress with it")
    assert outcome(task, stray, LATER, 0.5) is None


@pytest.mark.parametrize(("status", "reason"), TERMINAL)
def test_a_task_in_progress_with_an_older_run_takes_the_newer_one_s_outcome(status: R, reason: Q) -> None:
    change = decided(in_progress(run_id=3), a_run(status, reason, attempt=2))
    assert path(change) == path(decided(in_progress(), a_run(status, reason)))
    assert (change.task.run_id, change.task.applied_run, change.task.attempts) == (5, 5, 2)
    assert outcome(change.task, a_run(R.COMPLETED, Q.EXITED, id=3), LATER, 0.5) is None


@pytest.mark.parametrize("task", ROLLED_BACK.values(), ids=ROLLED_BACK)
@pytest.mark.parametrize("asked", [None, "shutdown", "timeout", "cancelled"])
def test_a_launch_that_came_to_nothing_and_was_taken_back_is_nothing(task: Task, asked: str | None) -> None:
    assert outcome(task, a_run(R.LOST, Q.NEVER_STARTED, kill_reason=asked), LATER, 0.5) is None


LATE = {
    "gone": None,
    "done": a_task(status=S.DONE, run_id=5),
    "failed": a_task(status=S.FAILED, run_id=5),
    "cancelled": a_task(status=S.CANCELLED, run_id=5),
    "cancelled before": a_task(status=S.CANCELLED, run_id=3),
    "a draft": a_task(status=S.DRAFT),
    "assigned by hand": a_task(status=S.ASSIGNED),
    "in review of an older run": a_task(status=S.REVIEW, run_id=3, applied_run=3),
    "on a newer run": in_progress(run_id=6),
    "waiting after a newer run": a_task(run_id=6, applied_run=6),
    "applied": a_task(run_id=5, applied_run=5),
    "applied, in review": a_task(status=S.REVIEW, run_id=5, applied_run=5),
    "applied, and parked": a_task(status=S.AWAITING_APPROVAL, run_id=5, applied_run=5),
}


@pytest.mark.parametrize("task", LATE.values(), ids=LATE)
@pytest.mark.parametrize(("status", "reason"), TERMINAL)
def test_a_late_run_changes_nothing(task: Task | None, status: R, reason: Q) -> None:
    assert outcome(task, a_run(status, reason), LATER, 0.5) is None


@pytest.mark.parametrize("side_effects", [False, True])
def test_no_row_in_another_boot_is_as_lost(side_effects: bool) -> None:
    change = no_row(in_progress(side_effects=side_effects), OTHER_BOOT, LATER)
    lost = decided(
        in_progress(side_effects=side_effects), a_run(R.LOST, Q.LOST, error="its row is gone from the run store")
    )
    assert (change.task, kinds(change), path(change)) == (lost.task, kinds(lost), path(lost))


def test_no_row_in_the_same_boot_is_as_never_started() -> None:
    """§13.157."""
    change = no_row(in_progress(side_effects=True), BOOT, LATER)
    assert path(change) == ["in_progress", "pending"]
    assert (change.task.launch_failures, change.task.recoveries, change.task.applied_run) == (1, 0, 5)
    assert change.task.not_before == LATER + timedelta(seconds=1)


# Launching.


def test_a_launch_walks_to_in_progress_in_one_step() -> None:
    change = launch(a_task(not_before=NOW, attempts=1, assigned_to="fixer"), a_run(attempt=2), LATER)
    task = change.task
    assert path(change) == ["pending", "assigned", "in_progress"]
    assert (task.run_id, task.attempts, task.started_boot, task.started_at) == (5, 2, BOOT, LATER)
    assert (task.not_before, task.applied_run, task.version) == (None, None, 2)
    assert body(change, "agent:spawned") == {
        "run_id": 5,
        "attempt": 2,
        "agent": "fixer",
        "queue": "default",
        "waited": 60.0,
    }


# What holds for all of them.

tasks = st.builds(
    a_task,
    status=st.sampled_from(list(S)),
    run_id=st.none() | st.integers(1, 9),
    applied_run=st.none() | st.integers(1, 9),
    attempts=st.integers(0, 9),
    retries=st.integers(2, 9),
    manual_retries=st.integers(0, 2),
    recoveries=st.integers(0, 5),
    launch_failures=st.integers(0, 12),
    max_retries=st.none() | st.integers(0, 9),
    max_recoveries=st.integers(0, 4),
    side_effects=st.booleans(),
    assigned_to=st.none() | st.just("fixer"),
    expectations=st.sampled_from([(), ({"type": "test"},)]),
    hold=st.booleans(),
    cancelled_by=st.none() | st.just("uid 0"),
    started_boot=st.just(BOOT),
)
runs = st.builds(
    lambda pair, **values: a_run(*pair, **values),
    st.sampled_from(TERMINAL),
    attempt=st.integers(1, 9),
    kill_reason=st.none() | st.sampled_from(sorted(contract.STATUS_OF_KILL)),
)
rolls = st.floats(0, 1, exclude_max=True)


@given(tasks, runs, rolls, rolls)
def test_applied_twice_is_applied_once(task: Task, run: Run, roll: float, again: float) -> None:
    """W11."""
    change = outcome(task, run, LATER, roll)
    if change is not None:
        assert change.task.applied_run == run.id
        assert outcome(change.task, run, LATER, again) is None


@given(tasks, runs, rolls)
def test_events_lead_from_the_old_status_to_the_new(task: Task, run: Run, roll: float) -> None:
    """W13."""
    change = outcome(task, run, LATER, roll)
    if change is not None:
        walked = path(change)
        assert (walked[0], walked[-1]) == (task.status, change.task.status)
        assert {e.subject for e in change.events} == {"task/7"}
        assert kinds(change).count("agent:finished") == 1


@given(tasks, runs, rolls)
def test_a_failure_spends_exactly_one_retry_and_nothing_else_any(task: Task, run: Run, roll: float) -> None:
    """§13.158."""
    change = outcome(task, run, LATER, roll)
    if change is None:
        return
    again = change.task.status is S.PENDING
    spent = change.task.retries - task.retries
    assert change.task.manual_retries == task.manual_retries
    if (run.status, run.reason) in FAILURES:
        blocked = change.task.status is S.AWAITING_APPROVAL and task.side_effects
        assert blocked or change.task.status in (S.PENDING, S.FAILED)
        assert (spent, change.task.recoveries) == (int(again), task.recoveries)
    else:
        assert spent == 0
        recovered = run.reason is Q.LOST and task.cancelled_by is None
        assert change.task.recoveries - task.recoveries == recovered


@given(tasks, runs, rolls)
def test_an_outcome_leaves_no_slot_taken(task: Task, run: Run, roll: float) -> None:
    change = outcome(task, run, LATER, roll)
    if change is not None:
        assert change.task.status not in OCCUPYING


@given(st.lists(st.sampled_from(FAILURES), max_size=12), st.integers(0, 4))
def test_a_task_fails_for_good_after_as_many_retries_as_it_may_have(ends: list[tuple[R, Q]], most: int) -> None:
    task = a_task(max_retries=most)
    for number, end in enumerate(ends, 1):
        if task.status is S.FAILED:
            break
        run = a_run(*end, id=number, attempt=number)
        task = decided(launch(task, run, NOW).task, run).task
    assert task.retries == min(len(ends), most)
    assert (task.status is S.FAILED) == (len(ends) > most)


@given(st.lists(st.sampled_from(UNDECIDED), max_size=12))
def test_interruptions_never_fail_a_task(ends: list[tuple[R, Q]]) -> None:
    """§13.158."""
    task = a_task(max_retries=0)
    for number, end in enumerate(ends, 1):
        run = a_run(*end, id=number, attempt=number)
        task = decided(launch(task, run, NOW).task, run).task
        assert task.status in (S.PENDING, S.AWAITING_APPROVAL)
    assert task.retries == 0


def test_what_nothing_can_carry_out_fails_without_an_attempt() -> None:
    task = a_task(max_retries=3)
    change = inexecutable(task, LATER, "its spec is gone")
    failed = change.task
    assert (failed.status, failed.attempts, failed.retries, failed.finished_at) == (S.FAILED, 0, 0, LATER)
    assert failed.result is not None
    assert (failed.result.reason, failed.result.error) == (Q.SPAWN_FAILED, "its spec is gone")
    assert [(e.kind, e.body["to"]) for e in change.events] == [
        ("task:transition", S.AWAITING_APPROVAL),
        ("task:transition", S.FAILED),
    ]


@pytest.mark.parametrize("status", [S.ASSIGNED, S.IN_PROGRESS])
@pytest.mark.parametrize("run", [None, 5])
def test_what_was_never_a_run_of_ours_keeps_the_last_that_was(status: S, run: int | None) -> None:
    """A library's user walked it so far: the daemon that finds it has no run to judge, and makes up none."""
    change = no_row(in_progress(status=status, run_id=run, applied_run=run, started_boot=None), BOOT, LATER)
    assert (change.task.run_id, change.task.applied_run) == (run, run)
    assert (change.task.status, change.task.retries, change.task.recoveries) == (S.PENDING, 0, 1)
