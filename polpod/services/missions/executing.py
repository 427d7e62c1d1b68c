"""Carries a mission out: an execution with all its tasks, barriers and agents, in one transaction or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import structs

from polpod.config import Config
from polpod.errors import Conflict, NotFound
from polpod.model.agents import volatile_name
from polpod.model.documents import DocumentBarrier, DocumentDelay, DocumentGate, MissionDocument
from polpod.model.executions import Barrier, BarrierKind, BarrierTask, Document, Execution
from polpod.model.notifying import Scope
from polpod.model.polpo.missions import Mission, MissionStatus
from polpod.model.tasks import Dependency
from polpod.rules import durations
from polpod.rules.missions import require_edge
from polpod.services import agents
from polpod.services.missions.planning import Planned, team_of
from polpod.services.submission import create
from polpod.store import changes, queries
from polpod.store.missions import Barriers, BarrierTasks, Documents, Executions
from polpod.store.polpo import Missions, next_number
from polpod.store.records import Tx
from polpod.store.tables import Dependencies

KINDS: Mapping[type[DocumentBarrier], BarrierKind] = {
    DocumentGate: BarrierKind.GATE,
    DocumentDelay: BarrierKind.DELAY,
}


def require_mission(tx: Tx, name: str) -> Mission:
    """The mission of that id, or of that name.  Raises NotFound."""
    found = tx[Missions].get(name)
    if found is None:
        found = next(iter(tx[Missions].find(Missions.mission.eq(name))), None)
    if found is None:
        raise NotFound(f"there is no mission {name}: `polpoctl mission list` shows what there is")
    return found


def execute(
    tx: Tx,
    mission: Mission,
    document: MissionDocument,
    planned: Sequence[Planned],
    config: Config,
    uid: int,
    at: datetime,
    by: str,
    trigger: str = "manual",
) -> Execution:
    """A new execution of the mission, whose `data` is the document; its first tasks are ready when this returns.

    Raises InvalidTransition, Conflict, TooLarge.
    """
    if (live := tx[Executions].find(Executions.live.eq(mission.id), limit=1)) and trigger == "manual":
        raise Conflict(f"mission {mission.name} is being carried out: execution {live[0].id} is {live[0].status}")
    if mission.status is not MissionStatus.ACTIVE:
        require_edge(mission.status, MissionStatus.ACTIVE)
    number = mission.execution_count + 1
    text = mission.data
    team = team_of(document, config)
    execution = Execution(
        id=f"{mission.id}.{number}",
        seq=next_number(tx, Executions, Executions.seq),
        mission_id=mission.id,
        number=number,
        group=mission.name if number == 1 else f"{mission.name} #{number}",
        document_id=f"{mission.id}/{hashlib.sha256(text.encode()).hexdigest()}",
        returns_to=mission.status if not live else live[0].returns_to,
        on_deadlock=document.on_deadlock,
        budget=None if document.budget is None else document.budget.in_seconds(),
        deadline=mission.deadline,
        volatile=config.settings.volatile_cleanup if team else None,
        trigger=trigger,
        started_by=by,
        started_at=at,
        updated_at=at,
    )
    tx[Documents].save(Document(execution.document_id, text))
    tx[Executions].add(execution)
    tx[Missions].save(
        structs.replace(
            mission, status=MissionStatus.ACTIVE, execution_count=number, version=mission.version + 1, updated_at=at
        )
    )
    note(tx, at, execution, "mission:executed", task_count=len(planned), by=by, trigger=trigger)
    agents.engage(tx, execution, team, uid, at)
    named = {agent.name: volatile_name(agent.name, execution.id) for agent in team}
    ids = {one.said.title: queries.next_task_id(tx) for one in planned}
    holding = _barriers(tx, execution, document, ids)
    for one in planned:
        _add(tx, execution, one, ids, holding.get(one.said.title, ()), named, config, uid, at)
    return execution


def _add(
    tx: Tx, execution: Execution, one: Planned, ids: Mapping[str, str], barriers: Sequence[str],
    team: Mapping[str, str], config: Config, uid: int, at: datetime,
) -> None:  # fmt: skip
    said = one.said
    depends_on = tuple(dict.fromkeys(ids[title] for title in said.depends_on))
    agent = one.submission.agent
    task = create(
        tx, one.submission, one.spec, config, uid, at,
        id=ids[said.title], mission_id=execution.mission_id, execution_id=execution.id, group=execution.group,
        depends_on=depends_on, unmet=len(depends_on) + len(barriers),
        assigned_to=agent if agent is None else team.get(agent, agent),
        expected_outcomes=said.expected_outcomes, retry_policy=msgspec.to_builtins(said.retry_policy),
        notifications=as_stored(said.notifications),
    )  # fmt: skip
    for on_id in depends_on:
        tx[Dependencies].add(Dependency(task_id=task.id, on_id=on_id))
    for barrier_id in barriers:
        tx[Dependencies].add(Dependency(task_id=task.id, on_id=barrier_id, barrier=True))


def _barriers(tx: Tx, execution: Execution, document: MissionDocument, ids: Mapping[str, str]) -> dict[str, list[str]]:
    """Store them; the ids of those that hold back each task, by its title."""
    holding: dict[str, list[str]] = {}
    for said in document.barriers:
        after = [ids[title] for title in dict.fromkeys(said.after_tasks)]
        barrier = _barrier(execution, said, next_number(tx, Barriers, Barriers.seq), len(after))
        tx[Barriers].add(barrier)
        for task_id in after:
            tx[BarrierTasks].add(BarrierTask(barrier.id, task_id))
        for title in dict.fromkeys(said.blocks_tasks):
            holding.setdefault(title, []).append(barrier.id)
    return holding


def _barrier(execution: Execution, said: DocumentBarrier, seq: int, remaining: int) -> Barrier:
    kind = KINDS.get(type(said), BarrierKind.CHECKPOINT)
    return Barrier(
        id=f"{execution.id}/{kind}/{said.name}",
        seq=seq,
        execution_id=execution.id,
        kind=kind,
        name=said.name,
        message=said.message,
        notify_channels=said.notify_channels,
        remaining=remaining,
        blocks=said.blocks_tasks,
        min_score=said.min_score if isinstance(said, DocumentGate) else None,
        require_all_passed=isinstance(said, DocumentGate) and said.require_all_passed,
        duration=durations.seconds(said.duration) if isinstance(said, DocumentDelay) else None,
    )


def as_stored(scope: Scope | None) -> dict[str, object] | None:
    """What a document says of notifications, as missions and tasks keep it."""
    return None if scope is None else msgspec.to_builtins(scope)


def note(tx: Tx, at: datetime, execution: Execution, kind: str, **body: object) -> None:
    """An event about the execution's mission."""
    if execution.deadline is not None:
        body.setdefault("deadline", execution.deadline)
    changes.note(
        tx, at, kind, f"mission/{execution.mission_id}", execution_id=execution.id, group=execution.group, **body
    )
