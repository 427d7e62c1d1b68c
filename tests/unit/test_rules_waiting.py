"""Why a task waits, and how waiting for one ends: computed from rows, in sentences that name the next step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from kit.samples import NOW, a_run, a_task

from polpod.model.agents import Busy, Queue
from polpod.model.polpo.approvals import ApprovalKind, ApprovalRequest, ApprovalStatus
from polpod.model.runs import RunStatus
from polpod.model.tasks import OCCUPYING, Task, TaskResult, TaskStatus
from polpod.rules.deadlines import BY_DEADLINE
from polpod.rules.pick import Capacity
from polpod.rules.waiting import Ending, State, Surroundings, Why, blocked, ending, state, why

S = TaskStatus
ALONE = Surroundings()
PLAIN = [S.DRAFT, S.AWAITING_APPROVAL, S.REVIEW, S.DONE, S.FAILED, S.CANCELLED]
WAITS_FOR = a_task(id="3", seq=3, title="build", status=S.IN_PROGRESS)
FAILED = a_task(id="4", seq=4, title="tests", status=S.FAILED)
CANCELLED = a_task(id="5", seq=5, title="docs", status=S.CANCELLED)
FREE = Capacity(4, {}, {})
IDLE = Busy({}, {})


def explained(
    task: Task, around: Surroundings = ALONE, capacity: Capacity = FREE, busy: Busy = IDLE, ahead: int = 0, **more: Any
) -> Why:
    return why(task, around, capacity, busy, ahead, more.get("paused"), NOW)


def result(reason: str, status: str = "failed", **values: Any) -> TaskResult:
    return TaskResult(run_id=5, status=status, reason=reason, **values)


@pytest.mark.parametrize("status", PLAIN)
def test_a_status_that_says_it_all_is_the_state_whatever_is_around(status: S) -> None:
    task = a_task(status=status, hold=True, unmet=1, not_before=NOW)
    assert str(state(task, Surroundings([FAILED], a_run(kill_reason="cancelled"), stuck=True))) == str(status)


@pytest.mark.parametrize("status", sorted(OCCUPYING))
@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (ALONE, State.RUNNING),
        (Surroundings(run=a_run()), State.RUNNING),
        (Surroundings(run=a_run(kill_reason="timeout")), State.CANCELLING),
        (Surroundings(run=a_run(kill_reason="cancelled"), stuck=True), State.STUCK),
    ],
)
def test_what_runs_may_be_on_its_way_to_the_end(status: S, around: Surroundings, expected: State) -> None:
    assert state(a_task(status=status), around) is expected


@pytest.mark.parametrize(
    ("values", "dependencies", "expected"),
    [
        ({}, [], State.READY),
        ({"not_before": NOW}, [], State.DELAYED),
        ({"unmet": 1, "not_before": NOW}, [WAITS_FOR], State.WAITING),
        ({"unmet": 2, "not_before": NOW}, [WAITS_FOR, FAILED], State.BLOCKED),
        ({"unmet": 1}, [CANCELLED], State.BLOCKED),
        ({"hold": True, "unmet": 1, "not_before": NOW}, [FAILED], State.HELD),
    ],
)
def test_a_pending_task_waits_for_one_thing_at_a_time(
    values: dict[str, Any], dependencies: list[Task], expected: State
) -> None:
    assert state(a_task(**values), Surroundings(dependencies)) is expected


def test_a_task_is_blocked_by_a_quarantined_one() -> None:
    around = Surroundings([WAITS_FOR], quarantined=["9"])
    assert state(a_task(unmet=2), around) is State.BLOCKED
    assert explained(a_task(unmet=2), around) == Why(
        ("Task 7 is blocked: task 9 is quarantined, since its record cannot be read.",),
        ("polpoctl show 9", "polpoctl cancel 7"),
    )
    assert blocked("9", None) == Ending("blocked", "task 9, which it waits for, is quarantined")


ENDINGS = [
    (a_task(status=S.DONE), Ending("done")),
    (a_task(status=S.CANCELLED), Ending("cancelled")),
    (
        a_task(status=S.FAILED, result=result("exited", exit_code=2)),
        Ending("failed", "Task 7 failed: its command exited with 2."),
    ),
    (a_task(status=S.AWAITING_APPROVAL), Ending("unknown", "Task 7 waits for approval.")),
    *((a_task(status=s), Ending(None)) for s in (S.DRAFT, S.PENDING, S.ASSIGNED, S.IN_PROGRESS, S.REVIEW)),
]


@pytest.mark.parametrize(("task", "expected"), ENDINGS, ids=[t.status for t, _ in ENDINGS])
def test_how_waiting_ends(task: Task, expected: Ending) -> None:
    assert ending(task) == expected


@pytest.mark.parametrize(("status", "message"), [(S.FAILED, "failed"), (S.CANCELLED, "was cancelled")])
def test_waiting_ends_for_a_task_whose_dependency_will_not_be_done(status: S, message: str) -> None:
    assert blocked("9", status) == Ending("blocked", f"task 9, which it waits for, {message}")


def test_a_held_task_is_released() -> None:
    assert explained(a_task(hold=True)) == Why(("Task 7 is on hold.",), ("polpoctl release 7",))


def test_a_waiting_task_names_what_it_waits_for() -> None:
    assert explained(a_task(unmet=1), Surroundings([WAITS_FOR])).sentences == (
        "Task 7 waits for task 3 (in_progress) to be done.",
    )


def test_a_task_that_waits_for_many_names_ten() -> None:
    many = [a_task(id=str(n), seq=n) for n in range(100, 113)]
    (sentence,) = explained(a_task(unmet=13), Surroundings(many)).sentences
    assert sentence.count("(pending)") == 10
    assert sentence.endswith("109 (pending) and 3 more to be done.")


def test_a_blocked_task_names_what_blocks_it_and_both_ways_out() -> None:
    assert explained(a_task(unmet=3), Surroundings([WAITS_FOR, FAILED, CANCELLED])) == Why(
        (
            "Task 7 is blocked: task 4 (tests) failed.",
            "Task 7 is blocked: task 5 (docs) was cancelled.",
        ),
        ("polpoctl retry 4", "polpoctl retry 5", "polpoctl cancel 7"),
    )


@pytest.mark.parametrize(("attempts", "because"), [(0, ""), (1, " after a failed attempt")])
def test_a_delayed_task_says_until_when(attempts: int, because: str) -> None:
    task = a_task(not_before=NOW + timedelta(seconds=90), attempts=attempts)
    assert explained(task) == Why((f"Task 7 waits{because} until 2026-03-01 12:01:30 UTC, 90 s from now.",))


def test_a_delay_that_is_over_is_not_negative() -> None:
    assert explained(a_task(not_before=NOW - timedelta(days=1))).sentences[0].endswith(", 0 s from now.")


BUILDS = {"builds": Queue(name="builds", slots=2)}
QUEUED = [
    (a_task(), FREE, IDLE, "the disk is full", "Nothing starts at the moment: the disk is full.", "polpoctl status"),
    (
        a_task(queue="q"),
        Capacity(1, {"q": Queue(name="q", slots=0, paused=True)}, {}),
        *(Busy({"q": 9}, {}), None, "Queue q is paused.", "polpoctl resume q"),
    ),
    (
        a_task(queue="builds"),
        Capacity(1, BUILDS, {}),
        *(Busy({"builds": 2}, {}), None, "All 2 slots of queue builds are taken.", "polpoctl queue builds --slots 3"),
    ),
    (
        a_task(queue="builds"),
        Capacity(3, BUILDS, {}),
        Busy({"x": 3}, {}),
        None,
        "All 3 slots are taken.",
        "polpoctl list",
    ),
    (
        a_task(assigned_to="fixer"),
        Capacity(9, {}, {"fixer": 1}),
        *(Busy({"x": 1}, {"fixer": 1}), None, "Agent fixer is busy.", "polpoctl list"),
    ),
    (
        a_task(assigned_to="free"),
        Capacity(9, {}, {"fixer": 1}),
        Busy({"x": 1}, {"free": 1}),
        None,
        "Task 7 is about to start.",
        None,
    ),
]


def test_a_task_whose_agent_is_gone_says_so_and_who_could_take_it() -> None:
    """§13.117 where somebody still has work for it."""
    because = explained(a_task(assigned_to="ann"), capacity=Capacity(9, {}, {"ann": 0}))
    assert because.sentences == ("Task 7 waits for agent ann, and there is none of that name any more.",)
    assert because.next == ("polpoctl agent list", "polpoctl edit 7 --agent NAME")


@pytest.mark.parametrize(("task", "capacity", "busy", "paused", "sentence", "step"), QUEUED)
def test_a_ready_task_says_which_slot_it_lacks(
    task: Task, capacity: Capacity, busy: Busy, paused: str | None, sentence: str, step: str | None
) -> None:
    assert explained(task, capacity=capacity, busy=busy, paused=paused) == Why((sentence,), (step,) if step else ())


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(0, ""), (1, " 1 ready task of this queue goes first."), (2, " 2 ready tasks of this queue go first.")],
)
def test_a_ready_task_says_who_goes_first(ahead: int, said: str) -> None:
    assert explained(a_task(), ahead=ahead).sentences == (f"Task 7 is about to start.{said}",)


def test_what_runs_shows_where_to_look() -> None:
    task = a_task(status=S.IN_PROGRESS, run_id=5)
    assert explained(task) == Why(("Task 7 is running (run 5).",), ("polpoctl logs -f 7",))
    asked = (NOW - timedelta(seconds=12)).isoformat()
    for grace, then in ((15.0, "SIGKILL follows in 3 s"), (10.0, "SIGKILL 2 s ago")):
        run = a_run(RunStatus.RUNNING, kill_reason="timeout", kill_at=asked, kill_grace=grace)
        ended = explained(task, Surroundings(run=run))
        assert ended.sentences == (f"Run 5 is being ended (timeout): SIGTERM 12 s ago, {then}.",)
    stuck = explained(task, Surroundings(stuck=True))
    assert stuck.sentences == ("Run 5 cannot be ended: something of it survives SIGKILL.",)


PARKED = [
    ({}, "Task 7 waits for approval."),
    ({"launch_failures": 10}, "It could not be started 10 times in a row."),
    ({"launch_failures": 10, "result": result("lost", "lost")}, "It could not be started 10 times in a row."),
    (
        {"result": result("lost", "lost"), "recoveries": 4},
        "The outcome of run 5 is unknown (lost 4 times): a person has to decide.",
    ),
    (
        {"result": result("lost", "lost"), "recoveries": 1, "max_recoveries": 0},
        "The outcome of run 5 is unknown (lost once): a person has to decide.",
    ),
    (
        {"result": result("lost", "lost"), "recoveries": 1, "side_effects": True},
        "The outcome of run 5 is unknown and it has side effects: a person has to decide.",
    ),
    (
        {"result": result("shutdown", "killed"), "side_effects": True},
        "Run 5 was ended as polpod stopped and it has side effects: a person has to decide.",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), PARKED)
def test_a_parked_task_says_what_a_person_has_to_decide(values: dict[str, Any], sentence: str) -> None:
    because = explained(a_task(status=S.AWAITING_APPROVAL, **values))
    assert because == Why((sentence,), ("polpoctl retry 7", "polpoctl cancel 7"))


FAILURES = [
    (result("exited", exit_code=2), "its command exited with 2"),
    (result("signalled", signal=11), "its command was ended by signal 11"),
    (result("oom"), "it used more memory than it may"),
    (result("oom", error="at a peak of 2 MiB"), "at a peak of 2 MiB"),
    (result("spawn_failed", error="no such file"), "its command could not be executed: no such file"),
    (result("timeout", "killed"), "it ran longer than its max_duration"),
    (result("stale", "killed"), "it showed no activity"),
]


@pytest.mark.parametrize(("ended", "how"), FAILURES)
@pytest.mark.parametrize(("attempts", "tried"), [(1, ""), (3, " It was tried 3 times.")])
def test_a_failed_task_says_how_it_ended(ended: TaskResult, how: str, attempts: int, tried: str) -> None:
    because = explained(a_task(status=S.FAILED, result=ended, attempts=attempts))
    assert because == Why((f"Task 7 failed: {how}.{tried}",), ("polpoctl logs 7", "polpoctl retry 7"))


def rejected(status: ApprovalStatus, by: str, feedback: str | None = None) -> ApprovalRequest:
    return ApprovalRequest(
        id="a3", seq=3, gate_id="polpod", task_id="7", kind=ApprovalKind.DONE, status=status, requested_at=NOW,
        resolved_at=NOW, resolved_by=by, feedback=feedback,
    )  # fmt: skip


@pytest.mark.parametrize("ended", [None, result("exited", "completed", exit_code=0), result("timeout", "killed")])
@pytest.mark.parametrize(
    ("values", "request_", "how"),
    [
        ({"cancelled_by": BY_DEADLINE}, None, "its deadline had passed"),
        ({}, rejected(ApprovalStatus.REJECTED, "uid 0"), "uid 0 rejected it (a3)"),
        ({}, rejected(ApprovalStatus.REJECTED, "uid 0", "not\nso"), "uid 0 rejected it (a3): not so"),
        ({}, rejected(ApprovalStatus.TIMEOUT, "timeout"), "nobody approved it in time (a3)"),
    ],
)
def test_what_was_decided_is_why_a_task_failed_however_well_it_ran(
    ended: TaskResult | None, values: dict[str, Any], request_: ApprovalRequest | None, how: str
) -> None:
    task = a_task(status=S.FAILED, result=ended, attempts=1, **values)
    first = ("polpoctl logs 7",) if ended is not None else ()
    assert explained(task, Surroundings(rejected=request_)) == Why(
        (f"Task 7 failed: {how}.",), (*first, "polpoctl retry 7")
    )
    assert ending(task, request_) == Ending("failed", f"Task 7 failed: {how}.")


@pytest.mark.parametrize(("agent", "who"), [(None, "somebody"), ("fixer", "agent fixer")])
def test_what_says_nothing_to_execute_waits_and_says_so(agent: str | None, who: str) -> None:
    task = a_task(spec_id=None, assigned_to=agent)
    assert state(task, Surroundings()) is State.WAITING
    said = f"Task 7 says nothing to execute: it waits for {who} outside polpod to take it."
    assert explained(task) == Why((said,), ("polpoctl cancel 7",))
    assert "waits for task 3" in explained(a_task(spec_id=None, unmet=1), Surroundings((WAITS_FOR,))).sentences[0]


def in_review(**values: Any) -> Task:
    check = {"type": "test", "command": "make check"}
    fixed: dict[str, Any] = {"run_id": 5, "applied_run": 5, "assessing": "initial", "expectations": (check,)}
    return a_task(**{"status": S.REVIEW} | fixed | values)


def test_why_explains_what_work_in_review_waits_for() -> None:
    busy = Busy({"default": 4}, {})
    assert explained(in_review(), busy=busy, ahead=1).sentences == (
        "The work of task 7 is done; 1 check of it comes next.",
        "All 4 slots are taken. 1 ready task of this queue goes first.",
    )
    going_on = explained(in_review(run_id=6), Surroundings(run=a_run(id=6)))
    assert going_on == Why(("The work of task 7 is done, and goes through 1 check (run 6).",), ("polpoctl logs -f 7",))
    assert "could not be started" in explained(in_review(not_before=NOW)).sentences[1]
    assert explained(in_review(assessing=None)).next == ("polpoctl reassess 7", "polpoctl cancel 7")
    assert explained(in_review(expectations=(), assessing=None)).next == ("polpoctl cancel 7",)


@pytest.mark.parametrize(("around", "expected"), [
    (Surroundings(run=a_run()), State.REVIEW),
    (Surroundings(run=a_run(kill_reason="cancelled")), State.CANCELLING),
    (Surroundings(run=a_run(kill_reason="cancelled"), stuck=True), State.STUCK),
])  # fmt: skip
def test_checks_that_go_on_are_of_a_run_as_work_is(around: Surroundings, expected: State) -> None:
    assert state(in_review(run_id=6), around) is expected


def test_work_that_did_not_pass_says_what_was_found() -> None:
    bad = {"type": "test", "label": "make check", "passed": False, "message": "exit code 2"}
    found = {"passed": False, "checks": [bad, bad | {"passed": True}] + [bad] * 3, "metrics": []}
    ended = result("exited", "completed", exit_code=0, assessment=found)
    failed = explained(a_task(status=S.FAILED, result=ended))
    assert failed.sentences[0].endswith(
        "did not pass its checks: make check (exit code 2), make check (exit code 2), make check (exit code 2) and 1 more."
    )
    assert failed.next == ("polpoctl show 7", "polpoctl reassess 7", "polpoctl retry 7")
    parked = explained(a_task(status=S.AWAITING_APPROVAL, result=ended, side_effects=True))
    assert "it has side effects" in parked.sentences[0]


def test_a_task_may_fail_without_a_run() -> None:
    assert explained(a_task(status=S.FAILED)).sentences == ("Task 7 failed before it ran.",)


@pytest.mark.parametrize("status", [S.DRAFT, S.DONE, S.CANCELLED])
def test_the_rest_is_said_plainly(status: S) -> None:
    assert explained(a_task(status=status)) == Why((f"Task 7 is {status}.",))


def test_what_was_cancelled_says_by_whom() -> None:
    gone = a_task(status=S.CANCELLED, cancelled_by="uid 0")
    assert explained(gone) == Why(("Task 7 was cancelled by uid 0.",), ("polpoctl retry 7",))
