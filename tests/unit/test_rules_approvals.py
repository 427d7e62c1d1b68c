"""What an answer means for the task that waits for it: each row of the table, and what holds for all of them.

Polpo 63–65 are the store's; W36: every approval has a request, an approved task goes on, a rejected one ends.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import LATER, NOW, a_run, a_task

from polpod.errors import Conflict
from polpod.model.budgets import Budget, Spent
from polpod.model.changes import Change
from polpod.model.gates import ApprovalGate
from polpod.model.polpo.approvals import ApprovalKind, ApprovalRequest, ApprovalStatus
from polpod.model.questions import Question
from polpod.model.runs import Reason, RunStatus
from polpod.model.tasks import Task, TaskStatus
from polpod.rules import approvals, budgets
from polpod.rules.outcome import outcome
from polpod.rules.tasks import EDGES

S = TaskStatus
K = ApprovalKind
DONE = a_run(RunStatus.COMPLETED, Reason.EXITED, exit_code=0, duration=3.0, cpu_seconds=1.0)
FAILED = a_run(RunStatus.FAILED, Reason.EXITED, exit_code=3, duration=3.0, cpu_seconds=1.0)
SPENT_OUT = a_run(RunStatus.KILLED, Reason.CANCELLED, kill_by=budgets.BY, duration=3.0)


def waiting(**values: Any) -> Task:
    return a_task(**{"status": S.AWAITING_APPROVAL, "approval_id": "a1", "description": "build it"} | values)


def request(kind: ApprovalKind, **values: Any) -> ApprovalRequest:
    fixed: dict[str, Any] = {"id": "a1", "gate_id": "polpod", "task_id": "7", "requested_at": NOW, "kind": kind}
    return ApprovalRequest(**fixed | values)


def running(**values: Any) -> Task:
    return a_task(**{"status": S.IN_PROGRESS, "run_id": 5, "attempts": 1} | values)


def ended(task: Task, run: Any = DONE, gates: tuple[ApprovalGate, ...] = ()) -> Change:
    change = outcome(task, run, LATER, 0.5)
    assert change is not None
    return approvals.after_run(change, run, LATER, gates)


def gate(**values: Any) -> ApprovalGate:
    return msgspec.convert({"id": "g", "hook": "task:complete"} | values, ApprovalGate)


@pytest.mark.parametrize("kind", K)
def test_every_kind_has_a_way_out_in_both_directions(kind: ApprovalKind) -> None:
    """W36: nothing that is approved stays where nobody moves it."""
    meaning = approvals.MEANING[kind]
    assert {meaning.approved, meaning.rejected} <= set(EDGES[S.AWAITING_APPROVAL]) - {S.ASSIGNED}
    assert meaning.approved in (S.PENDING, S.DONE)
    assert meaning.rejected in (S.FAILED, S.CANCELLED)


@pytest.mark.parametrize("kind", [k for k in K if k is not K.QUESTION])
def test_approved_and_rejected(kind: ApprovalKind) -> None:
    meaning = approvals.MEANING[kind]
    let = approvals.approve(waiting(), request(kind), "uid 0", LATER)
    assert let.task.status is meaning.approved
    assert let.resolution is not None
    assert (let.resolution.status, let.resolution.by) == (ApprovalStatus.APPROVED, "uid 0")
    ended = approvals.reject(waiting(), request(kind), "uid 0", LATER)
    assert ended.task.status is meaning.rejected
    assert ended.task.cancelled_by == ("uid 0" if meaning.rejected is S.CANCELLED else None)
    assert ended.task.retries == 0


def test_what_was_lost_again_and_again_starts_anew() -> None:
    task = waiting(launch_failures=10, recoveries=3, not_before=LATER)
    let = approvals.approve(task, request(K.LAUNCH), "uid 0", LATER).task
    assert (let.launch_failures, let.recoveries, let.not_before) == (0, 0, None)


def test_an_approved_start_still_waits_for_its_time() -> None:
    later = LATER + timedelta(hours=1)
    assert approvals.approve(waiting(not_before=later), request(K.START), "uid 0", LATER).task.not_before == later


def test_judged_work_is_done_over_with_the_feedback_as_often_as_it_may() -> None:
    """W36, §9.2: revise, and a final rejection, which Polpo has no way to."""
    task = waiting()
    for revision in (1, 2, 3):
        again = approvals.reject(task, request(K.DONE), "uid 0", LATER, feedback="more tests")
        assert (again.task.status, again.task.revision_count, again.task.retries) == (S.PENDING, revision, 0)
        assert again.task.description.count("more tests") == revision
        assert again.task.original_description == "build it"
        told = next(e for e in again.events if e.kind == "approval:rejected")
        assert (told.body["feedback"], told.body["rejection_count"]) == ("more tests", revision)
        task = msgspec.structs.replace(again.task, status=S.AWAITING_APPROVAL)
    assert approvals.reject(task, request(K.DONE), "uid 0", LATER, feedback="more").task.status is S.FAILED


def test_a_final_rejection_is_final_whatever_the_feedback() -> None:
    rejected = approvals.reject(waiting(), request(K.DONE), "uid 0", LATER, feedback="never", final=True)
    assert (rejected.task.status, rejected.task.revision_count) == (S.FAILED, 0)


def test_timeout_is_not_denial() -> None:
    """F89, W36: without a declared default nothing changes; with one it does, and no person is said to have done it."""
    assert approvals.timed_out(waiting(), request(K.DONE), LATER) is None
    let = approvals.timed_out(waiting(), request(K.DONE, on_timeout="approve"), LATER)
    ended = approvals.timed_out(waiting(), request(K.START, on_timeout="reject"), LATER)
    assert let is not None
    assert ended is not None
    assert (let.task.status, ended.task.status) == (S.DONE, S.CANCELLED)
    assert let.resolution is not None
    assert let.resolution.status is ApprovalStatus.TIMEOUT


# Gates.


def test_a_gate_holds_what_its_condition_says_and_nothing_else() -> None:
    """§9.2, §10.5, W36: conditions are data."""
    urgent = gate(condition={"field": "task.priority", "op": ">", "value": 5}, timeoutMs=1500, timeoutAction="reject")
    held = ended(running(priority=6), gates=(urgent,))
    assert (held.task.status, held.task.finished_at) == (S.AWAITING_APPROVAL, None)
    assert held.asked is not None
    assert (held.asked.kind, held.asked.gate_id, held.asked.timeout, held.asked.on_timeout) == (
        K.DONE,
        "g",
        1.5,
        "reject",
    )
    moves = [e.body["to"] for e in held.events if e.kind == "task:transition"]
    assert moves == ["review", "awaiting_approval"]
    assert ended(running(priority=5), gates=(urgent,)).task.status is S.DONE
    assert ended(running(), FAILED, gates=(gate(),)).task.status is S.FAILED


def test_a_gate_before_the_start_holds_new_tasks() -> None:
    spawn = gate(hook="task:spawn", condition={"field": "task.labels.prod", "op": "exists"})
    held = approvals.held_to_start(a_task(labels={"prod": "1"}), NOW, (spawn,))
    assert held is not None
    assert (held.task.status, held.asked and held.asked.kind) == (S.AWAITING_APPROVAL, K.START)
    assert approvals.held_to_start(a_task(), NOW, (spawn,)) is None
    assert approvals.held_to_start(a_task(), NOW, (gate(),)) is None


def test_work_that_says_so_is_done_when_a_person_says_so() -> None:
    held = ended(running(approve_done=True))
    assert (held.task.status, held.task.result and held.task.result.exit_code) == (S.AWAITING_APPROVAL, 0)
    assert approvals.approve(held.task, request(K.DONE), "uid 0", LATER).task.status is S.DONE


# Questions.


def test_a_run_that_asked_and_ended_well_parks_whatever_it_would_have_meant() -> None:
    """§9.1, §14.5: no retry is spent, and nothing is done."""
    asks = Question(approval_id="a1", run_id=5, text="which?")
    for fields in ({}, {"approve_done": True}, {"expectations": ({"type": "test"},)}):
        parked = ended(running(question=asks, approval_id="a1", **fields)).task
        assert (parked.status, parked.phase, parked.retries) == (S.AWAITING_APPROVAL, "clarification", 0)
    assert ended(running(question=asks), FAILED).task.status is S.FAILED
    of_before = msgspec.structs.replace(asks, run_id=4)
    assert ended(running(question=of_before)).task.status is S.DONE
    delivered = msgspec.structs.replace(asks, answer="left", delivered=True)
    assert ended(running(question=delivered)).task.status is S.DONE


def test_an_answer_lets_it_go_on_with_question_and_answer() -> None:
    asks = Question(approval_id="a1", run_id=5, text="which?")
    task = waiting(question=asks)
    answered = approvals.answer(task, request(K.QUESTION, message="which?"), "left", "uid 0", LATER).task
    assert (answered.status, answered.question, answered.retries) == (S.PENDING, None, 0)
    assert "which?" in answered.description
    assert "left" in answered.description
    assert answered.original_description == "build it"


def test_an_answer_that_comes_before_the_run_is_over_is_not_forgotten() -> None:
    asks = Question(approval_id="a1", run_id=5, text="which?")
    task = running(question=asks, approval_id="a1", description="build it")
    meanwhile = approvals.answer(task, request(K.QUESTION, message="which?"), "left", "uid 0", LATER)
    assert meanwhile.task.status is S.IN_PROGRESS
    after = ended(meanwhile.task).task
    assert (after.status, after.question) == (S.PENDING, None)
    assert after.description.endswith("left\n")


def test_a_question_that_was_rejected_before_the_run_is_over_fails_it() -> None:
    asks = Question(approval_id="a1", run_id=5, text="which?")
    task = running(question=asks, approval_id="a1")
    refused = approvals.reject(task, request(K.QUESTION), "uid 0", LATER)
    assert refused.task.status is S.IN_PROGRESS
    assert ended(refused.task).task.status is S.FAILED


def test_a_question_is_answered_and_nothing_else_is() -> None:
    with pytest.raises(Conflict, match="polpoctl answer"):
        approvals.approve(waiting(), request(K.QUESTION), "uid 0", LATER)
    with pytest.raises(Conflict, match="no question"):
        approvals.answer(waiting(), request(K.START), "left", "uid 0", LATER)


# Budgets.


def test_a_run_that_was_ended_for_its_budget_parks_and_is_no_failure() -> None:
    """F90: nothing is killed silently, and nothing is retried behind anybody's back."""
    task = running(budget=Budget(money=2.5), spent=Spent(money=2.61), over_budget="money", max_retries=3)
    parked = ended(task, SPENT_OUT)
    assert (parked.task.status, parked.task.retries, parked.task.over_budget) == (S.AWAITING_APPROVAL, 0, "money")
    assert parked.asked is not None
    assert parked.asked.message == "2.61 USD spent of 2.50 USD"


def test_what_somebody_cancelled_is_cancelled_whatever_it_spent() -> None:
    task = running(budget=Budget(money=1), over_budget="money", cancelled_by="uid 0")
    assert ended(task, SPENT_OUT).task.status is S.CANCELLED


def test_a_failure_over_the_budget_is_not_tried_again_by_itself() -> None:
    """F90, and the work of a run that ended well is kept, whatever it spent."""
    task = running(budget=Budget(wall_time=2), max_retries=3)
    parked = ended(task, FAILED)
    assert (parked.task.status, parked.task.over_budget, parked.task.retries) == (S.AWAITING_APPROVAL, "wall_time", 1)
    assert [e.kind for e in parked.events].count("budget:exceeded") == 1
    assert ended(task).task.status is S.DONE
    assert ended(running(budget=Budget(wall_time=3), max_retries=3), FAILED).task.status is S.PENDING


def test_what_is_spent_is_the_sum_of_all_runs() -> None:
    spent = ended(running(spent=Spent(wall_time=10, cpu_time=1, money=4))).task.spent
    assert (spent.wall_time, spent.cpu_time, spent.money) == (13, 2, 4)


def test_a_budget_is_raised_as_said_or_doubled() -> None:
    task = waiting(budget=Budget(money=1, tokens=10), spent=Spent(money=5), over_budget="money")
    asked = request(K.BUDGET)
    doubled = approvals.approve(task, asked, "uid 0", LATER).task
    assert (doubled.status, doubled.budget, doubled.over_budget) == (S.PENDING, Budget(money=10, tokens=10), None)
    given_ = approvals.approve(task, asked, "uid 0", LATER, budget=Budget(money=6)).task
    assert given_.budget == Budget(money=6, tokens=10)
    with pytest.raises(Conflict, match="allow more"):
        approvals.approve(task, asked, "uid 0", LATER, budget=Budget(tokens=20))


def test_exactly_the_budget_is_not_over_it() -> None:
    spent = Spent(money=0.1 + 0.1 + 0.1, tokens=3)
    assert spent.money > 0.3
    assert budgets.first_over(Budget(money=0.3, tokens=3), spent) is None
    assert budgets.first_over(Budget(money=0.3, tokens=2), spent) == "tokens"


AMOUNT, NUMBER = st.floats(min_value=0.01, max_value=1e9), st.integers(1, 2**53)


@given(
    st.builds(Budget, money=AMOUNT, cpu_time=AMOUNT, tokens=NUMBER),
    st.builds(Spent, money=AMOUNT.map(lambda n: 10 * n), cpu_time=AMOUNT, tokens=NUMBER.map(lambda n: 10 * n)),
)
def test_a_doubled_budget_lets_it_go_on(budget: Budget, spent: Spent) -> None:
    """And is one: what is more than a budget may be is no limit."""
    field = budgets.first_over(budget, spent)
    raised = budgets.raised(budget, spent, field, None)
    assert budgets.first_over(raised, spent) is None
    assert msgspec.convert(msgspec.to_builtins(raised), Budget | None) == raised
