"""What polpod writes down about work beside the work itself: metrics, what its agents do, who came and went.

Rules:

1. Each function is a part of the body that carries out what it tells of, called where that happens: both are stored, or
   neither.
2. Each may be carried out again for the same run and changes nothing then: a record goes by its run.
3. A plain command is nobody's work: it has metrics, but no agent whose state would change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from polpod import __version__
from polpod.config import Config
from polpod.model.organisation.money import CostRecord
from polpod.model.organisation.people import AgentLifecycleEvent, LifecycleEventType
from polpod.model.organisation.runtime import AgentRuntimeState, ExecutionStatus, Heartbeat
from polpod.model.organisation.settings import NamespacedSetting
from polpod.model.runs import Phase, Reason, Run
from polpod.model.tasks import Task
from polpod.rules.metrics import agent_of, metric, metric_id
from polpod.store import queries
from polpod.store.organisation import (
    AgentStates,
    Checkpoints,
    CostRecords,
    Heartbeats,
    LifecycleEvents,
    NamespacedSettings,
    TaskMetrics,
)
from polpod.store.records import Tx

NAMESPACE = "polpod"
"""Of the settings that are the daemon's own."""

BY = "polpod"


def execution_id(run_id: int) -> str:
    """A run, as agents' records name it."""
    return str(run_id)


def began(tx: Tx, config: Config, at: datetime) -> None:
    """A daemon starts: which version, and which agents of polpo.json it has that the one before had not, or has no more."""
    names = sorted(agent.name for agent in config.agents if agent.name.strip())
    before = tx[NamespacedSettings].get((NAMESPACE, "agents"))
    known: list[str] = [] if before is None else msgspec.json.decode(before.value, type=list[str])
    for name in names:
        if name not in known:
            hired(tx, name, at)
    for name in known:
        if name not in names:
            fired(tx, name, at)
    for key, value in (("version", __version__), ("agents", msgspec.json.encode(names).decode())):
        tx[NamespacedSettings].save(
            NamespacedSetting(namespace=NAMESPACE, key=key, value=value, updated_at=at.isoformat())
        )


def hired(tx: Tx, agent: str, at: datetime) -> None:
    """There is an agent more, and it has nothing to do."""
    _note(tx, agent, LifecycleEventType.HIRED, at)
    _enter(tx, AgentRuntimeState(agent_id=agent, status=ExecutionStatus.IDLE, last_activity_at=at))


def fired(tx: Tx, agent: str, at: datetime) -> None:
    """The agent is gone; what it is at work on goes on to its end."""
    _note(tx, agent, LifecycleEventType.FIRED, at)
    tx[AgentStates].delete_where(AgentStates.agent_id.eq(agent), AgentStates.status.eq(ExecutionStatus.IDLE))


def launched(tx: Tx, task: Task, run: Run, at: datetime) -> None:
    """The run is the task's, and about to start; checks are nobody's work."""
    if run.phase is Phase.EXECUTION and task.assigned_to and task.assigned_to.strip():
        _enter(tx, _executing(task, run.id, at, at))


def finished(tx: Tx, task: Task, run: Run, at: datetime) -> None:
    """The outcome of the run was applied to the task."""
    if run.reason is not Reason.NEVER_STARTED and run.phase is Phase.EXECUTION:
        tx[TaskMetrics].save(metric(task, run, _costs(tx, run), _turns(tx, run), at))
    if run.heartbeat_at is not None:
        tx[Heartbeats].delete(execution_id(run.id))
    stopped(tx, task, at)


def stopped(tx: Tx, task: Task, at: datetime) -> None:
    """Nothing is at work on the task any more: its agent is at another one, or idle."""
    if task.assigned_to and task.assigned_to.strip():
        _settle(tx, task.assigned_to, at)


def beat(tx: Tx, runs: Iterable[Run], at: datetime) -> None:
    """Somebody watches over these live runs."""
    for run in runs:
        tx[Heartbeats].save(
            Heartbeat(
                execution_id=execution_id(run.id),
                agent_id=run.agent if run.agent and run.agent.strip() else BY,
                task_id=run.task_id,
                last_heartbeat_at=at,
            )
        )


def acted(tx: Tx, task: Task, run: Run, at: datetime, *, turns: int = 0, cost_usd: float = 0.0) -> None:
    """The run took so many turns more, and cost that much."""
    state = tx[AgentStates].get(agent_of(task))
    if state is not None and state.execution_id == execution_id(run.id):
        tx[AgentStates].save(
            msgspec.structs.replace(
                state,
                last_activity_at=at,
                turn_count=state.turn_count + turns,
                accumulated_cost_usd=state.accumulated_cost_usd + cost_usd,
            )
        )


def _settle(tx: Tx, agent: str, at: datetime) -> None:
    task = queries.at_work(tx, agent)
    if task is None or task.run_id is None:
        _enter(tx, AgentRuntimeState(agent_id=agent, status=ExecutionStatus.IDLE, last_activity_at=at))
        return
    state = tx[AgentStates].get(agent)
    if state is None or state.execution_id != execution_id(task.run_id):
        _enter(tx, _executing(task, task.run_id, task.started_at or at, at))


def _executing(task: Task, run_id: int, started_at: datetime, at: datetime) -> AgentRuntimeState:
    return AgentRuntimeState(
        agent_id=agent_of(task),
        execution_id=execution_id(run_id),
        task_id=task.id,
        status=ExecutionStatus.EXECUTING,
        last_activity_at=at,
        started_at=started_at,
    )


def _enter(tx: Tx, state: AgentRuntimeState) -> None:
    before = tx[AgentStates].get(state.agent_id)
    tx[AgentStates].save(state)
    if before is not None and before.status is not state.status:
        about = {"from": before.status, "to": state.status} | ({"task_id": state.task_id} if state.task_id else {})
        _note(tx, state.agent_id, LifecycleEventType.STATUS_CHANGED, state.last_activity_at, about)


def _note(tx: Tx, agent: str, kind: LifecycleEventType, at: datetime, about: dict[str, str] | None = None) -> None:
    tx[LifecycleEvents].add(
        AgentLifecycleEvent(
            agent_id=agent, agent_name=agent, event_type=kind, timestamp=at, initiated_by=BY, metadata=about or {}
        )
    )


def _costs(tx: Tx, run: Run) -> Sequence[CostRecord]:
    """Those of the run's task since it was made: one run of a task goes on at a time."""
    since = datetime.fromisoformat(run.created_at)
    found = (cost.record for cost in tx[CostRecords].find(CostRecords.task_id.eq(run.task_id)))
    return [record for record in found if record.timestamp >= since]


def _turns(tx: Tx, run: Run) -> int:
    """Turns are counted on from one run of a task to the next, so that the newest checkpoint has the highest."""
    newest = tx[Checkpoints].find(Checkpoints.execution_id.eq(execution_id(run.id)), limit=1)
    if not newest:
        return 0
    others = tx[TaskMetrics].find(TaskMetrics.task_id.eq(run.task_id), TaskMetrics.id.lt(metric_id(run.id)))
    return max(0, newest[0].turn_number - sum(other.turns_used for other in others))
