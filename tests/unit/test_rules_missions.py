"""Missions and executions: which status follows which, when a barrier opens, how an execution ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from kit.samples import NOW, a_task

from polpod.errors import InvalidTransition
from polpod.model.executions import Barrier, BarrierKind, BarrierState, ExecutionStatus
from polpod.model.polpo.missions import MissionStatus
from polpod.model.tasks import Task, TaskResult, TaskStatus
from polpod.rules import missions
from polpod.rules.missions import Verdict, ending, judge, mission_after, reached, refused

M, S, X = MissionStatus, TaskStatus, ExecutionStatus


def a_barrier(kind: BarrierKind, **values: Any) -> Barrier:
    return Barrier(
        **{"id": "1.1/x", "seq": 1, "execution_id": "1.1", "kind": kind, "name": "x", "remaining": 0} | values
    )


def scored(status: S, score: float | None, **values: Any) -> Task:
    assessment = None if score is None else {"globalScore": score}
    result = TaskResult(run_id=1, status="completed", reason="exited", assessment=assessment)
    return a_task(status=status, result=result, **values)


@pytest.mark.parametrize("edges", [missions.EDGES, missions.EXECUTION_EDGES])
def test_every_status_has_its_edges_and_none_leads_to_itself(edges: dict[Any, tuple[Any, ...]]) -> None:
    """W35: there was no table."""
    (kind,) = {type(status) for status in edges}
    assert set(edges) == set(kind)
    assert all(status not in to and len(set(to)) == len(to) for status, to in edges.items())


def test_an_edge_that_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(InvalidTransition, match=r"draft → paused .allowed: scheduled, recurring, active"):
        missions.require_edge(M.DRAFT, M.PAUSED)
    with pytest.raises(InvalidTransition, match="allowed: none"):
        missions.require_edge(X.COMPLETED, X.ACTIVE)
    missions.require_edge(M.PAUSED, M.COMPLETED)  # W35


def test_a_checkpoint_holds_until_somebody_opens_it() -> None:
    held = reached(a_barrier(BarrierKind.CHECKPOINT), [a_task(status=S.FAILED)], NOW)
    assert (held.state, held.reached_at, held.until) == (BarrierState.HOLDING, NOW, None)


def test_a_delay_holds_for_its_time() -> None:
    held = reached(a_barrier(BarrierKind.DELAY, duration=90.0), [], NOW)
    assert (held.state, held.until) == (BarrierState.HOLDING, NOW + timedelta(seconds=90))


@pytest.mark.parametrize(
    ("gate", "before", "why"),
    [
        ({}, [(S.FAILED, None)], None),  # §13.183: no score is asked for
        ({"require_all_passed": True}, [(S.DONE, None), (S.DONE, None)], None),
        ({"require_all_passed": True}, [(S.DONE, None), (S.FAILED, None)], "not all passed: build (failed)"),
        ({"require_all_passed": True}, [(S.CANCELLED, None)], "not all passed: build (cancelled)"),
        ({"min_score": 3.0}, [(S.DONE, 2.0), (S.DONE, 4.0)], None),
        ({"min_score": 3.1}, [(S.DONE, 2.0), (S.DONE, 4.0)], "the mean score is 3.00, below 3.1"),
        ({"min_score": 3.0}, [(S.DONE, None), (S.DONE, 3.0)], None),
        ({"min_score": 3.0}, [(S.DONE, None)], "no scores, and 3 is asked for"),
    ],
)
def test_a_gate_says_why_it_does_not_open(
    gate: dict[str, Any], before: list[tuple[S, float | None]], why: str | None
) -> None:
    """§13.183, §13.184, §13.185."""
    tasks = [scored(status, score, title="build") for status, score in before]
    assert refused(a_barrier(BarrierKind.GATE, **gate), tasks) == why
    after = reached(a_barrier(BarrierKind.GATE, **gate), tasks, NOW)
    assert after.state is (BarrierState.OPEN if why is None else BarrierState.HOLDING)
    assert after.reason == why


@pytest.mark.parametrize(
    ("blocked", "held", "verdict"),
    [
        (True, True, Verdict.GOES_ON),  # W31: a reached checkpoint or a failed gate is no deadlock
        (True, False, Verdict.DEADLOCK),
        (False, True, Verdict.OVER),
        (False, False, Verdict.OVER),
    ],
)
def test_it_is_judged_by_what_it_has_left(blocked: bool, held: bool, verdict: Verdict) -> None:
    assert judge(blocked=blocked, held=held) is verdict


@pytest.mark.parametrize(
    ("tasks", "threshold", "status"),
    [
        ([(S.DONE, None)], None, X.COMPLETED),
        ([(S.DONE, None), (S.FAILED, None)], None, X.FAILED),
        ([(S.DONE, None), (S.CANCELLED, None)], None, X.FAILED),
        ([(S.DONE, 4.0), (S.DONE, 3.0)], 3.5, X.COMPLETED),
        ([(S.DONE, 4.0), (S.DONE, 2.0)], 3.5, X.FAILED),
        ([(S.DONE, None)], 3.5, X.COMPLETED),
    ],
)
def test_how_it_ends(tasks: list[tuple[S, float | None]], threshold: float | None, status: X) -> None:
    """§13.167, §13.188."""
    made = [scored(task, score) for task, score in tasks]
    assert ending(made, threshold, aborted=False)[0] is status
    assert ending(made, threshold, aborted=True)[0] is X.CANCELLED


def test_the_threshold_weighs_tasks_by_their_priority() -> None:
    """§13.188."""
    made = [scored(S.DONE, 5.0, priority=3), scored(S.DONE, 1.0, priority=1)]
    assert ending(made, 4.0, aborted=False)[0] is X.COMPLETED
    assert ending(made, 4.1, aborted=False)[0] is X.FAILED


@pytest.mark.parametrize("ended", [X.COMPLETED, X.FAILED])
def test_a_recurring_mission_recurs(ended: X) -> None:
    """W32: what it was before was forgotten at a restart."""
    assert mission_after(M.RECURRING, ended) is M.RECURRING
    assert str(mission_after(M.DRAFT, ended)) == str(ended)


def test_an_aborted_one_is_cancelled_whatever_it_was() -> None:
    assert mission_after(M.RECURRING, X.CANCELLED) is M.CANCELLED
