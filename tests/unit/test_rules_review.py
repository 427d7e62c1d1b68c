"""What the end of a run of checks means: each cell of the table in rules/review.py, and what follows a failure.

Polpo's behaviours: §13.202, §13.203; its weaknesses that are absent: W6, W12, W26, W38.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import BOOT, LATER, NOW, a_run, a_task
from msgspec.structs import replace

from polpod.model.assessments import HISTORY, Assessment, CheckResult, decode
from polpod.model.changes import Change
from polpod.model.policies import EscalationLevel, EscalationPolicy, RetryPolicy, Terms
from polpod.model.runs import Phase, Reason, Run, RunStatus
from polpod.model.tasks import Backoff, Task, TaskResult, TaskStatus
from polpod.rules import review
from polpod.rules.outcome import MEANING, launch, no_row, outcome
from polpod.store.tables import Tasks

S, R, Q = TaskStatus, RunStatus, Reason
CHECK = {"type": "test", "command": "make check"}
WORK = TaskResult(run_id=5, status="completed", reason="exited", exit_code=0, duration=2.0)
BAD = CheckResult(type="test", label="make check", passed=False, message="exit code 2", output="2 tests failed")
UNDECIDED = [
    (R.FAILED, Q.SIGNALLED), (R.FAILED, Q.OOM), (R.FAILED, Q.SPAWN_FAILED), (R.KILLED, Q.TIMEOUT), (R.KILLED, Q.STALE),
]  # fmt: skip
STAYS = [(R.KILLED, Q.SHUTDOWN), (R.LOST, Q.LOST), (R.LOST, Q.NEVER_STARTED)]
AGENTS = Terms(superiors={"fixer": "chief", "chief": None, "other": None})


def waiting(**values: Any) -> Task:
    """Task 7, whose work run 5 did, before its checks."""
    fixed = {
        "status": S.REVIEW,
        "run_id": 5,
        "applied_run": 5,
        "attempts": 1,
        "phase": "review",
        "assessing": "initial",
    }
    return a_task(**fixed | {"expectations": (CHECK,), "result": WORK, "started_boot": BOOT} | values)


def checking(**values: Any) -> Task:
    """Task 7 while run 6 carries out its checks."""
    return waiting(**{"run_id": 6} | values)


def of_agent(**values: Any) -> Task:
    return checking(**{"assigned_to": "fixer", "description": "Make it work."} | values)


def checks(status: R = R.COMPLETED, reason: Q = Q.EXITED, exit_code: int | None = 0, **values: Any) -> Run:
    return a_run(status, reason, id=6, phase=Phase.REVIEW, exit_code=exit_code, **values)


def found(passed: bool | None, **values: Any) -> Assessment:
    return Assessment(**{"run_id": 6, "passed": passed, "timestamp": "now", "message": "said"} | values)


def judged(task: Task, passed: bool, **values: Any) -> Change:
    run = checks() if passed else checks(R.FAILED, exit_code=1)
    assessment = found(passed, checks=() if passed else (BAD,))
    return decided(task, run, **{"assessment": assessment} | values)


def decided(task: Task, run: Run, **values: Any) -> Change:
    change = outcome(task, run, LATER, 0.5, **{"terms": AGENTS} | values)
    assert change is not None
    return change


def path(change: Change) -> list[str]:
    moves = [(e.body["from"], e.body["to"]) for e in change.events if e.kind == "task:transition"]
    assert all(one[1] == next_[0] for one, next_ in itertools.pairwise(moves))
    return [str(moves[0][0]), *(str(to) for _, to in moves)] if moves else []


def kinds(change: Change) -> list[str]:
    return [e.kind for e in change.events if e.kind != "task:transition"]


def body(change: Change, kind: str) -> dict[str, Any]:
    (told,) = [e for e in change.events if e.kind == kind]
    return told.body


# Before the checks


def test_the_table_has_what_a_run_can_end_as() -> None:
    assert review.MEANING.keys() == MEANING.keys()


def test_work_with_checks_is_not_done_before_them() -> None:
    """§13.202: review first; W26: nothing is done without its checks."""
    task = a_task(status=S.IN_PROGRESS, run_id=5, attempts=1, expectations=(CHECK,))
    change = decided(task, a_run(R.COMPLETED, Q.EXITED, exit_code=0))
    assert path(change) == ["in_progress", "review"]
    assert (change.task.awaits_checks, change.task.assessing, change.task.phase) == (True, "initial", "review")
    assert Tasks.ready_queue.get(change.task) == "default"
    assert Tasks.busy_queue.get(change.task) is None


def test_metrics_alone_are_checks() -> None:
    metric = {"name": "coverage", "command": "x", "threshold": 1}
    task = a_task(status=S.IN_PROGRESS, run_id=5, attempts=1, metrics=(metric,))
    assert decided(task, a_run(R.COMPLETED, Q.EXITED, exit_code=0)).task.awaits_checks


def test_a_failure_is_not_checked() -> None:
    """§13.202: exit code other than 0 → retry, then failed for good."""
    task = a_task(status=S.IN_PROGRESS, run_id=5, attempts=1, expectations=(CHECK,))
    assert path(decided(task, a_run(R.FAILED, Q.EXITED, exit_code=3))) == ["in_progress", "failed"]


@pytest.mark.parametrize(
    ("phase", "retries", "trigger"), [("fix", 1, "fix"), ("execution", 1, "retry"), (None, 0, "initial")]
)
def test_it_is_known_what_the_checks_are_for(phase: str | None, retries: int, trigger: str) -> None:
    task = a_task(status=S.IN_PROGRESS, run_id=5, attempts=1, expectations=(CHECK,), phase=phase, retries=retries)
    assert decided(task, a_run(R.COMPLETED, Q.EXITED, exit_code=0)).task.assessing == trigger


def test_a_run_of_checks_leaves_the_task_in_review_and_takes_a_slot() -> None:
    change = launch(waiting(), a_run(R.STARTING, id=6, phase=Phase.REVIEW), LATER)
    assert (change.task.status, change.task.run_id, change.task.attempts) == (S.REVIEW, 6, 1)
    assert [e.kind for e in change.events] == ["assessment:started"]
    assert (change.task.occupies, change.task.awaits_checks, change.task.may_have_live_run) == (True, False, True)
    assert (Tasks.busy_queue.get(change.task), Tasks.live_run.get(change.task)) == ("default", 6)
    assert Tasks.ready_queue.get(change.task) is None


def test_a_task_that_a_library_keeps_in_review_is_left_alone() -> None:
    for task in (waiting(assessing=None), waiting(run_id=None, applied_run=None), waiting(run_id=6, assessing=None)):
        assert (Tasks.ready_queue.get(task), task.occupies) == (None, False)


# The verdict


def test_passed_is_done() -> None:
    """§13.203: the result is always stored."""
    change = judged(checking(), passed=True)
    assert path(change) == ["review", "done"]
    result = change.task.result
    assert result is not None
    assert result.assessment is not None
    assert (result.run_id, result.exit_code, result.assessment["passed"]) == (5, 0, True)
    assert (change.task.applied_run, change.task.assessing, change.task.retries) == (6, None, 0)
    assert body(change, "assessment:complete")["passed"] is True


def test_a_command_whose_checks_fail_is_failed_and_never_fixed() -> None:
    change = judged(checking(description="d"), passed=False)
    assert path(change) == ["review", "failed"]
    assert (change.task.fix_attempts, change.task.description) == (0, "d")
    assert change.task.result is not None
    assert change.task.result.exit_code == 0


def test_a_command_s_retries_are_for_its_checks_too_and_wait() -> None:
    """W38: there is a backoff, and it is a row."""
    task = checking(max_retries=2, backoff=Backoff(delay=10, jitter=0))
    change = judged(task, passed=False)
    assert path(change) == ["review", "failed", "pending"]
    assert (change.task.retries, change.task.not_before) == (1, LATER + timedelta(seconds=10))


def test_an_agent_s_work_is_fixed_without_a_retry() -> None:
    """§13.202, §13.203: fix attempts are counted, originalDescription is kept."""
    change = judged(of_agent(), passed=False)
    assert path(change) == ["review", "pending"]
    task = change.task
    assert (task.phase, task.fix_attempts, task.retries, task.not_before) == ("fix", 1, 0, None)
    assert task.original_description == "Make it work."
    assert task.description.startswith("Make it work.\n\n")
    for said in ("make check", "exit code 2", "2 tests failed"):
        assert said in task.description
    assert body(change, "task:fix") == {"attempt": 1, "max_fix": 2}
    assert launch(task, a_run(R.STARTING, id=7, attempt=2), LATER).task.phase == "fix"


def test_after_the_fixes_comes_a_retry_and_after_the_retries_the_end() -> None:
    """§13.203: fixAttempts counted, then full retry; in all (1 + fixes) · (1 + retries) runs."""
    task, runs = of_agent(max_retries=1), 0
    while True:
        runs += 1
        change = judged(replace(task, status=S.REVIEW, run_id=6, applied_run=5, assessing="initial"), passed=False)
        task = change.task
        if task.status is S.FAILED:
            break
        assert task.description.count("Make it work.") == 1
    assert (runs, task.retries) == (6, 1)
    assert kinds(change) == ["assessment:complete", "task:maxRetries"]


def test_a_full_retry_begins_with_new_fixes() -> None:
    change = judged(of_agent(fix_attempts=2, max_retries=1), passed=False)
    assert (change.task.fix_attempts, change.task.phase, change.task.retries) == (0, "execution", 1)
    assert "make check" in change.task.description


def test_fixes_can_be_off() -> None:
    change = judged(of_agent(max_retries=0), passed=False, terms=replace(AGENTS, max_fix_attempts=0))
    assert path(change) == ["review", "failed"]


def test_what_has_side_effects_is_neither_fixed_nor_retried_by_itself() -> None:
    """§9.2."""
    for task in (of_agent(side_effects=True), checking(side_effects=True, max_retries=1)):
        change = judged(task, passed=False)
        assert path(change) == ["review", "awaiting_approval"]
        assert "task:retry:blocked" in kinds(change)
        assert (change.task.retries, change.task.fix_attempts) == (0, 0)
    assert path(judged(checking(side_effects=True), passed=False)) == ["review", "failed"]


def test_what_was_cancelled_is_not_tried_again() -> None:
    assert path(judged(of_agent(cancelled_by="x", max_retries=3), passed=False)) == ["review", "failed"]
    assert path(decided(of_agent(cancelled_by="x"), checks(R.FAILED, exit_code=2))) == ["review", "cancelled"]
    assert path(decided(checking(), checks(R.KILLED, Q.CANCELLED, None))) == ["review", "cancelled"]


def test_a_reassessment_judges_and_no_more() -> None:
    failed = judged(of_agent(assessing="reassess", max_retries=3), passed=False)
    assert path(failed) == ["review", "failed"]
    assert (failed.task.fix_attempts, failed.task.retries) == (0, 0)
    assert path(judged(of_agent(assessing="reassess"), passed=True)) == ["review", "done"]


# No verdict


@pytest.mark.parametrize(
    ("run", "assessment"),
    [
        *((checks(status, reason, None), None) for status, reason in UNDECIDED),
        (checks(R.FAILED, exit_code=1), None),
        (checks(), None),
        (checks(R.FAILED, exit_code=2), found(None)),
        (checks(), found(False)),
        (checks(R.FAILED, exit_code=1), found(True)),
    ],
)
def test_what_came_to_no_verdict_is_checked_once_more_and_then_failed(run: Run, assessment: Assessment | None) -> None:
    """§9.1: maxAssessmentRetries; a claim that the exit code does not bear out is no verdict."""
    change = decided(checking(), run, assessment=assessment)
    assert path(change) == []
    assert (change.task.awaits_checks, change.task.assessment_retries, change.task.retries) == (True, 1, 0)
    assert kinds(change) == ["assessment:complete"]
    again = decided(replace(change.task, run_id=7), replace(run, id=7), assessment=assessment)
    assert path(again) == ["review", "failed"]
    (reason,) = [e.body["reason"] for e in again.events if e.kind == "task:transition"]
    assert review.NOT_CARRIED_OUT in reason


def test_work_that_could_not_be_checked_is_not_given_back_to_be_fixed() -> None:
    change = decided(of_agent(assessment_retries=1, max_retries=0), checks(R.FAILED, exit_code=2))
    assert (path(change), change.task.fix_attempts) == (["review", "failed"], 0)


@pytest.mark.parametrize(("status", "reason"), STAYS)
def test_recovery_and_shutdown_spend_nothing(status: R, reason: Q) -> None:
    """W6, W26: the work is kept, and its checks are carried out later (invariants 4 and 5)."""
    change = decided(of_agent(side_effects=True), checks(status, reason, None))
    task = change.task
    assert (path(change), task.status, task.retries, task.assessment_retries) == ([], S.REVIEW, 0, 0)
    assert (task.recoveries, task.launch_failures) == (reason is Q.LOST, reason is Q.NEVER_STARTED)
    assert task.result == WORK
    assert task.awaits_checks
    assert (task.not_before is not None) is (reason is Q.NEVER_STARTED)
    assert Tasks.wake_at.get(task) == task.not_before
    assert kinds(change) == ["assessment:complete", "task:recovered"]


def test_checks_that_are_lost_again_and_again_are_a_person_s() -> None:
    change = decided(checking(recoveries=3), checks(R.LOST, Q.LOST, None))
    assert (path(change), change.task.recoveries) == (["review", "awaiting_approval"], 4)


def test_checks_that_cannot_be_started_are_a_person_s_after_ten_times() -> None:
    change = decided(checking(launch_failures=9), checks(R.LOST, Q.NEVER_STARTED, None))
    assert path(change) == ["review", "awaiting_approval"]


def test_checks_that_were_cancelled_before_they_started_are() -> None:
    run = checks(R.LOST, Q.NEVER_STARTED, None, kill_reason="cancelled")
    assert path(decided(checking(), run)) == ["review", "cancelled"]
    run = checks(R.LOST, Q.NEVER_STARTED, None, kill_reason="shutdown")
    assert decided(checking(), run).task.launch_failures == 0


def test_a_task_whose_run_of_checks_has_no_row_is_checked_again() -> None:
    for boot in (BOOT, "another"):
        change = no_row(checking(), boot, LATER)
        assert (path(change), change.task.awaits_checks) == ([], True)


# Once, and in order


@given(st.sampled_from(list(review.MEANING)), st.sampled_from([True, False, None]), st.booleans())
def test_it_is_applied_once(end: tuple[R, Q], passed: bool | None, agent: bool) -> None:
    task = of_agent() if agent else checking()
    run = checks(*end, exit_code=0 if end[0] is R.COMPLETED else 1)
    change = decided(task, run, assessment=found(passed))
    assert change.task.applied_run == 6
    assert not change.task.occupies
    assert outcome(change.task, run, LATER, 0.5) is None


def test_a_launch_that_a_power_cut_took_back_is_walked_once_more() -> None:
    change = judged(waiting(), passed=True)
    assert kinds(change) == ["assessment:started", "assessment:complete"]
    assert path(change) == ["review", "done"]
    assert outcome(waiting(), checks(R.LOST, Q.NEVER_STARTED, None), LATER, 0.5) is None
    assert outcome(waiting(), checks(R.KILLED, Q.CANCELLED, None), LATER, 0.5) is None


@pytest.mark.parametrize("status", [s for s in S if s is not S.REVIEW])
def test_a_task_that_somebody_moved_on_is_not_touched(status: S) -> None:
    """§13.202: a result for a task that is over is ignored."""
    assert outcome(checking(status=status), checks(), LATER, 0.5, assessment=found(True)) is None


# Who does it


def test_from_a_certain_retry_on_another_agent_does_it() -> None:
    """§13.151."""
    policy = {"escalateAfter": 2, "fallbackAgent": "other"}
    first = judged(of_agent(fix_attempts=2, max_retries=3, retry_policy=policy), passed=False)
    assert first.task.assigned_to == "fixer"
    second = judged(of_agent(fix_attempts=2, max_retries=3, retry_policy=policy, retries=1), passed=False)
    assert second.task.assigned_to == "other"
    assert body(second, "task:retry")["agent"] == "other"


@pytest.mark.parametrize(("fallback", "agent"), [(None, "chief"), ("nobody", "fixer"), ("other", "other")])
def test_the_policy_of_polpo_json_holds_for_tasks_without_one(fallback: str | None, agent: str) -> None:
    """§13.152: a fallback that does not exist is ignored; without one it is whom the agent reports to."""
    terms = replace(AGENTS, retry_policy=RetryPolicy(escalate_after=1, fallback_agent=fallback))
    change = judged(of_agent(fix_attempts=2, max_retries=1), passed=False, terms=terms)
    assert change.task.assigned_to == agent


def test_a_policy_that_means_nothing_is_none() -> None:
    change = judged(of_agent(fix_attempts=2, max_retries=1, retry_policy={"escalateAfter": "x"}), passed=False)
    assert change.task.assigned_to == "fixer"


ESCALATION = EscalationPolicy(
    levels=(EscalationLevel(level=2, handler="human"), EscalationLevel(level=1, handler="agent", target="other"))
)


def test_with_all_retries_spent_the_escalation_policy_s_levels_follow() -> None:
    """§9.2; W32: the level is a field of the task."""
    terms = replace(AGENTS, escalation=ESCALATION)
    first = judged(of_agent(fix_attempts=2, max_retries=0), passed=False, terms=terms)
    assert path(first) == ["review", "failed", "pending"]
    assert (first.task.assigned_to, first.task.escalations) == ("other", 1)
    assert kinds(first) == ["assessment:complete", "escalation:triggered", "escalation:resolved"]
    task = replace(first.task, status=S.REVIEW, run_id=6, applied_run=5, assessing="retry", fix_attempts=2)
    second = judged(task, passed=False, terms=terms)
    assert path(second) == ["review", "awaiting_approval"]
    assert [e.body["reason"] for e in second.events if e.kind == "task:transition"] == ["escalation"]
    assert "escalation:human" in kinds(second)
    spent = replace(task, escalations=2)
    assert path(judged(spent, passed=False, terms=terms)) == ["review", "failed"]


def test_an_agent_that_fails_is_escalated_as_one_whose_work_is_bad() -> None:
    task = a_task(status=S.IN_PROGRESS, run_id=6, attempts=1, assigned_to="fixer", max_retries=0)
    run = a_run(R.FAILED, Q.EXITED, id=6, exit_code=1)
    assert decided(task, run, terms=replace(AGENTS, escalation=ESCALATION)).task.assigned_to == "other"


def test_a_command_s_failure_goes_to_nobody() -> None:
    assert path(judged(checking(), passed=False, terms=replace(AGENTS, escalation=ESCALATION))) == ["review", "failed"]


# What is said and kept


def test_the_next_attempt_is_told_what_failed() -> None:
    """§13.143: description, exit code, what it wrote, scores, and the lowest of them."""
    task = a_task(status=S.IN_PROGRESS, run_id=6, attempts=1, assigned_to="fixer", description="Do it.")
    told = decided(task, a_run(R.FAILED, Q.EXITED, id=6, exit_code=3), tail="no such file").task.description
    assert told.startswith("Do it.\n")
    assert "exit code was 3" in told
    assert "no such file" in told
    scores = found(False, checks=(BAD,), scores={"correctness": 4.0, "completeness": 2.0})
    told = decided(of_agent(fix_attempts=2), checks(R.FAILED, exit_code=1), assessment=scores).task.description
    assert "the lowest is completeness" in told


def test_a_prompt_does_not_grow_without_bound() -> None:
    many = tuple(replace(BAD, output="x" * 2000) for _ in range(64))
    told = decided(of_agent(), checks(R.FAILED, exit_code=1), assessment=found(False, checks=many)).task.description
    assert len(told) < 9000


def test_earlier_assessments_are_kept_in_short_and_not_without_bound() -> None:
    result = WORK
    task = checking(result=result)
    for _ in range(HISTORY + 5):
        change = judged(replace(task, status=S.REVIEW, run_id=6, applied_run=5, assessing="reassess"), passed=False)
        task = change.task
    assert task.result is not None
    assert task.result.assessment is not None
    assert task.result.assessment["trigger"] == "reassess"
    assert task.result.assessment["checks"][0]["output"] == "2 tests failed"  # type: ignore[index]
    assert len(task.result.assessment_history) == HISTORY
    assert "output" not in task.result.assessment_history[0]["checks"][0]  # type: ignore[index]


def test_another_attempt_keeps_what_was_found_of_those_before() -> None:
    fixed = judged(of_agent(), passed=False).task
    launched = launch(fixed, a_run(R.STARTING, id=7, attempt=2), LATER).task
    done = decided(launched, a_run(R.COMPLETED, Q.EXITED, id=7, attempt=2, exit_code=0)).task
    assert done.result is not None
    assert (done.result.run_id, done.result.assessment) == (7, None)
    assert [one["passed"] for one in done.result.assessment_history] == [False]


REVIEWED = b'{"type": "llm_review", "passed": true, "message": "", "reviewers": [{"reviewer": ?}]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"runId": 5, "passed": true, "timestamp": "t"}',
        b'{"runId": 6, "passed": 1, "timestamp": "t"}',
        b'{"runId": 6, "passed": true, "timestamp": "t", "message": "\\u0000"}',
        b'{"runId": 6, "passed": true, "timestamp": "t", "globalScore": 1e999}',
        b'{"runId": 6, "passed": true, "timestamp": "t", "checks": [%s]}' % REVIEWED.replace(b"?", b"1" + b"0" * 60),
        b'{"runId": 6, "passed": true, "timestamp": "t", "checks": [%s]}'
        % REVIEWED.replace(b"?", b"[" * 400 + b"]" * 400),
    ],
)
def test_what_is_no_assessment_of_this_run_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- of several causes
        decode(data, 6)
    assert decode(b'{"runId": 6, "passed": true, "timestamp": "t"}', 6).passed


def test_a_check_may_write_of_nul() -> None:
    """Six characters of text that say NUL are none."""
    assert decode(b'{"runId": 6, "passed": true, "timestamp": "t", "message": "\\\\u0000"}', 6).message == "\\u0000"


def test_now_is_nobody_s_clock() -> None:
    assert judged(checking(), passed=True).task.finished_at == LATER != NOW
