"""The task state machine against the table of DESIGN §5: every edge that is there, and every one that is not."""

from __future__ import annotations

import itertools

import pytest
from kit.samples import LATER, NOW, a_task

from polpod.errors import InvalidTransition
from polpod.model.changes import Change
from polpod.model.tasks import FINISHED, Task, TaskStatus
from polpod.rules.tasks import EDGES, RequeueReason, event, requeue, unsafe_set_status, walk

S = TaskStatus

TABLE = """
draft               pending cancelled
pending             assigned awaiting_approval cancelled
awaiting_approval   assigned failed done pending cancelled
assigned            in_progress awaiting_approval cancelled
in_progress         review failed awaiting_approval cancelled
review              done failed awaiting_approval cancelled
failed              pending
cancelled           pending
done
"""
"""DESIGN §5, word by word; the order is that of the refusal's text."""

ALLOWED = {words[0]: words[1:] for words in (line.split() for line in TABLE.split("\n")) if words}
PAIRS = list(itertools.product(S, S))
POLPO = set(S) - {S.CANCELLED}


def transitions(change: Change) -> list[tuple[object, object]]:
    return [(e.body["from"], e.body["to"]) for e in change.events if e.kind == "task:transition"]


def test_the_table_is_the_design_s() -> None:
    assert {str(a): [str(b) for b in to] for a, to in EDGES.items()} == ALLOWED


def test_without_cancelled_there_are_polpo_s_sixteen_edges() -> None:
    edges = {(a, b) for a, to in EDGES.items() for b in to if a in POLPO and b in POLPO}
    assert len(POLPO) == 8
    assert len(edges) == 16


@pytest.mark.parametrize(("start", "to"), [p for p in PAIRS if p[1] in ALLOWED[p[0]]])
def test_an_edge_of_the_table_is_walked(start: S, to: S) -> None:
    task = a_task(status=start, retries=4, manual_retries=2, recoveries=1, version=9)
    change = walk(task, LATER, to)
    assert change.task.status is to
    assert (change.task.version, change.task.updated_at) == (10, LATER)
    assert transitions(change) == [(start, to)]
    assert [(e.subject, e.at) for e in change.events] == [("task/7", LATER)]
    assert change.task.retries == (5 if (start, to) == (S.FAILED, S.PENDING) else 4)
    assert (change.task.manual_retries, change.task.recoveries) == (2, 1)


@pytest.mark.parametrize(("start", "to"), [p for p in PAIRS if p[1] not in ALLOWED[p[0]]])
def test_any_other_is_refused_in_words(start: S, to: S) -> None:
    with pytest.raises(InvalidTransition) as refused:
        walk(a_task(status=start), NOW, to)
    allowed = ", ".join(ALLOWED[start]) or "none"
    assert str(refused.value) == f"Invalid transition: {start} → {to} (allowed: {allowed})"


def test_a_refusal_reads_as_documented() -> None:
    with pytest.raises(InvalidTransition, match=r"^Invalid transition: done → pending \(allowed: none\)$"):
        walk(a_task(status=S.DONE), NOW, S.PENDING)
    with pytest.raises(InvalidTransition, match=r"^Invalid transition: failed → done \(allowed: pending\)$"):
        walk(a_task(status=S.FAILED), NOW, S.DONE)


def test_a_path_is_one_change_and_an_event_for_each_edge() -> None:
    change = walk(a_task(), LATER, S.ASSIGNED, S.IN_PROGRESS, S.REVIEW, S.DONE, why="because", phase="end")
    steps = [S.PENDING, S.ASSIGNED, S.IN_PROGRESS, S.REVIEW, S.DONE]
    assert transitions(change) == list(itertools.pairwise(steps))
    assert {e.body["reason"] for e in change.events} == {"because"}
    assert (change.task.version, change.task.phase) == (2, "end")


def test_a_path_with_a_gap_is_refused_whole() -> None:
    with pytest.raises(InvalidTransition, match="assigned → review"):
        walk(a_task(), NOW, S.ASSIGNED, S.REVIEW)


def test_each_pass_from_failed_to_pending_within_a_path_counts() -> None:
    path = (S.FAILED, S.PENDING, S.ASSIGNED, S.IN_PROGRESS, S.FAILED, S.PENDING)
    assert walk(a_task(status=S.IN_PROGRESS), NOW, *path).task.retries == 2


@pytest.mark.parametrize("to", sorted(FINISHED))
def test_a_finished_task_has_its_time_and_one_that_goes_on_has_none(to: S) -> None:
    path = {S.DONE: (S.REVIEW, S.DONE), S.FAILED: (S.FAILED,), S.CANCELLED: (S.CANCELLED,)}[to]
    finished = walk(a_task(status=S.IN_PROGRESS), LATER, *path).task
    assert finished.finished_at == LATER
    if to is not S.DONE:
        assert walk(finished, LATER, S.PENDING).task.finished_at is None


REASONS: list[RequeueReason] = ["never_started", "lost", "shutdown"]
ON_ITS_WAY = [S.ASSIGNED, S.IN_PROGRESS, S.REVIEW]


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("start", ON_ITS_WAY)
@pytest.mark.parametrize("park", [False, True])
def test_requeue_spends_no_retry_and_only_lost_counts_as_a_recovery(
    start: S, reason: RequeueReason, park: bool
) -> None:
    task = a_task(status=start, retries=2, manual_retries=1, recoveries=1)
    change = requeue(task, LATER, reason, park=park)
    to = S.AWAITING_APPROVAL if park else S.PENDING
    assert change.task.status is to
    assert (change.task.retries, change.task.manual_retries) == (2, 1)
    assert change.task.recoveries == (2 if reason == "lost" else 1)
    assert transitions(change) == [(start, to)]
    recovered = change.events[0]
    assert (recovered.kind, recovered.body) == ("task:recovered", {"previous": start, "reason": reason})


@pytest.mark.parametrize("start", [s for s in S if s not in ON_ITS_WAY])
def test_only_work_on_its_way_is_requeued(start: S) -> None:
    with pytest.raises(InvalidTransition, match=f"^Invalid transition: {start} → pending "):
        requeue(a_task(status=start), NOW, "lost", park=False)


@pytest.mark.parametrize(("start", "to"), PAIRS)
def test_the_machine_can_be_overruled_and_the_journal_says_so(start: S, to: S) -> None:
    task = a_task(status=start, retries=3, finished_at=NOW if start in FINISHED else None)
    change = unsafe_set_status(task, to, "the disk was full", LATER)
    assert (change.task.status, change.task.retries) == (to, 3)
    (moved,) = change.events
    assert moved.body == {"from": start, "to": to, "queue": "default", "reason": "the disk was full", "unsafe": True}
    assert (change.task.finished_at is not None) == (to in FINISHED)


def test_overruling_keeps_the_time_of_what_was_finished_already() -> None:
    task = a_task(status=S.FAILED, finished_at=NOW)
    assert unsafe_set_status(task, S.DONE, "it was good", LATER).task.finished_at == NOW


@pytest.mark.parametrize("reason", ["", " \n"])
def test_overruling_needs_a_reason(reason: str) -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        unsafe_set_status(a_task(), S.DONE, reason, NOW)


def test_changes_join_in_order() -> None:
    first, second = walk(a_task(), NOW, S.ASSIGNED), walk(a_task(status=S.ASSIGNED), NOW, S.IN_PROGRESS)
    joined = first.and_then(second)
    assert joined.task is second.task
    assert joined.events == (*first.events, *second.events)


def test_an_event_is_about_its_task() -> None:
    made = event(Task(id="a b", seq=1, created_at=NOW, updated_at=NOW), "task:retry", LATER, delay=1.0)
    assert (made.kind, made.subject, made.at, made.body) == ("task:retry", "task/a b", LATER, {"delay": 1.0})
