"""What is written down beside work, as rows: heartbeats, turns, states of agents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.samples import LATER, NOW, a_run, a_task, task_store

from polpod.model.organisation.runtime import Checkpoint, ExecutionStatus
from polpod.model.runs import Reason, RunStatus
from polpod.model.tasks import TaskStatus
from polpod.services import bookkeeping
from polpod.store.group import GroupCommit
from polpod.store.organisation import AgentStates, Checkpoints, Heartbeats, LifecycleEvents, TaskMetrics
from polpod.store.records import Tx
from polpod.store.tables import Tasks

CREATED = "2026-03-01T11:00:00.000000Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GroupCommit[Tx]]:
    with task_store(tmp_path) as store:
        yield store


def test_a_heartbeat_goes_with_its_run(store: GroupCommit[Tx]) -> None:
    task, live = a_task(), a_run(agent="ann", created_at=CREATED)
    store.write(lambda tx: tx[Tasks].add(task))
    store.write(lambda tx: bookkeeping.beat(tx, [live], NOW))
    store.write(lambda tx: bookkeeping.beat(tx, [live], LATER))
    (beat,) = store.write(lambda tx: tx[Heartbeats].find())
    assert (beat.execution_id, beat.agent_id, beat.task_id, beat.last_heartbeat_at) == ("5", "ann", "7", LATER)
    over = a_run(RunStatus.COMPLETED, Reason.EXITED, created_at=CREATED, heartbeat_at=CREATED)
    store.write(lambda tx: bookkeeping.finished(tx, task, over, LATER))
    assert store.write(lambda tx: tx[Heartbeats].count()) == 0


def test_turns_are_those_of_the_run(store: GroupCommit[Tx]) -> None:
    """They are counted on from run to run of a task; each metric has those of its own run."""
    task = a_task()
    store.write(lambda tx: tx[Tasks].add(task))
    turn = 0
    for run_id, turns in ((5, 3), (6, 0), (7, 2)):
        for _ in range(turns):
            turn += 1
            saved = Checkpoint(
                execution_id=str(run_id), agent_id="a", task_id="7", turn_number=turn, context_json="{}", created_at=NOW
            )
            store.write(lambda tx, saved=saved: tx[Checkpoints].add(saved))
        over = a_run(RunStatus.COMPLETED, Reason.EXITED, id=run_id, created_at=CREATED)
        store.write(lambda tx, over=over: bookkeeping.finished(tx, task, over, NOW))
    assert [m.turns_used for m in store.write(lambda tx: tx[TaskMetrics].find(order_by=(TaskMetrics.id.asc(),)))] == [
        3,
        0,
        2,
    ]


def test_booking_the_same_run_again_changes_nothing(store: GroupCommit[Tx]) -> None:
    task = a_task(status=TaskStatus.DONE, assigned_to="ann")
    over = a_run(RunStatus.COMPLETED, Reason.EXITED, created_at=CREATED)
    saved = Checkpoint(execution_id="5", agent_id="a", task_id="7", turn_number=2, context_json="{}", created_at=NOW)
    store.write(lambda tx: tx[Tasks].add(task))
    store.write(lambda tx: tx[Checkpoints].add(saved))
    store.write(lambda tx: bookkeeping.launched(tx, task, over, NOW))
    store.write(lambda tx: bookkeeping.finished(tx, task, over, NOW))
    before = store.write(lambda tx: (tx[TaskMetrics].find(), tx[AgentStates].find(), tx[LifecycleEvents].find()))
    store.write(lambda tx: bookkeeping.finished(tx, task, over, NOW))
    after = store.write(lambda tx: (tx[TaskMetrics].find(), tx[AgentStates].find(), tx[LifecycleEvents].find()))
    assert after == before
    assert [metric.turns_used for metric in after[0]] == [2]


def test_an_agent_spends_and_turns_in_the_run_that_it_is_at(store: GroupCommit[Tx]) -> None:
    task, run = a_task(status=TaskStatus.IN_PROGRESS, assigned_to="ann", run_id=5), a_run()
    store.write(lambda tx: tx[Tasks].add(task))
    store.write(lambda tx: bookkeeping.launched(tx, task, run, NOW))
    store.write(lambda tx: bookkeeping.acted(tx, task, run, LATER, turns=1, cost_usd=0.5))
    store.write(lambda tx: bookkeeping.acted(tx, task, a_run(id=4), LATER, turns=1))  # another one is none of it
    (state,) = store.write(lambda tx: tx[AgentStates].find())
    assert (state.status, state.turn_count, state.accumulated_cost_usd) == (ExecutionStatus.EXECUTING, 1, 0.5)
    assert (state.last_activity_at, state.started_at) == (LATER, NOW)
