"""Workflow definitions carried out as missions: SynthOrg's rows on one side, polpod's on the other, kept alike.

Rules:

1. A definition has one mission, of its name, whose document is made anew of each version of it.
2. An execution of a workflow has the id of its mission's execution; both are made in one transaction, and are removed in one.
3. It is brought up to date by whoever settles the mission's tasks (services/missions/settling.py), in that transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from polpod.config import Config
from polpod.errors import AlreadyExists, Conflict, InvalidRequest
from polpod.model.agents import Agent
from polpod.model.documents import MissionDocument
from polpod.model.executions import Execution
from polpod.model.organisation.workflows import (
    TERMINAL,
    WorkflowDefinition,
    WorkflowExecution,
    WorkflowExecutionStatus,
)
from polpod.model.polpo.missions import Mission
from polpod.rules import workflows as rules
from polpod.rules.organisation import STAND_IN
from polpod.services.missions import executing
from polpod.services.missions.planning import Planned, checked, plan
from polpod.services.missions.saving import save
from polpod.services.rpc.refusal import entity, invalid
from polpod.store import changes
from polpod.store.missions import Executions
from polpod.store.organisation import WorkflowDefinitions, WorkflowExecutions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.tables import Tasks

TRIGGER = "workflow"

_OF_TASK = re.compile(r"\$\.tasks\[(\d+)\]\.?(.*)")


class Ready(NamedTuple):
    """A definition that can be carried out."""

    definition: WorkflowDefinition
    project: str | None
    text: str
    document: MissionDocument
    planned: list[Planned]
    nodes: tuple[str, ...]
    """Which node each task is, by their order."""


def prepare(
    definition: WorkflowDefinition, project: str | None, agents: Mapping[str, Agent], config: Config, root: str
) -> Ready:
    """What the definition becomes.  Raises InvalidRequest, with the path in the definition of what is wrong."""
    carried = rules.carried_out(definition, _configs(definition), project)
    text = msgspec.json.encode(carried.document).decode()
    try:
        document = checked(text)
        planned = plan(document, agents, config, root)
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc), _in_definition(exc.path, definition, carried.nodes)) from exc
    return Ready(definition, project, text, document, planned, carried.nodes)


def _configs(definition: WorkflowDefinition) -> dict[str, Struct]:
    found = {}
    for n, node in enumerate(definition.nodes):
        if (kind := rules.CONFIGS.get(node.type)) is None:
            continue
        try:
            found[node.id] = msgspec.convert(node.config, kind)
        except msgspec.ValidationError as exc:
            fault = invalid(exc, f"$.nodes[{n}].config")
            raise InvalidRequest(f"node {node.label!r}: {fault}", fault.path) from exc
    return found


def _in_definition(path: str, definition: WorkflowDefinition, nodes: tuple[str, ...]) -> str:
    """The place in the definition of what is wrong at a place of its document."""
    found = _OF_TASK.fullmatch(path)
    if found is None:
        return "$"
    n = next(n for n, node in enumerate(definition.nodes) if node.id == nodes[int(found[1])])
    if found[2] == "title":
        return f"$.nodes[{n}].label"
    field = re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", found[2])
    return f"$.nodes[{n}].config" + (f".{field}" if field else "")


def mission_of(tx: Tx, definition: WorkflowDefinition) -> Mission | None:
    """Its mission, where it was carried out before.  Raises Conflict: one of that name is something else."""
    mission = next(iter(tx[Missions].find(Missions.mission.eq(definition.name))), None)
    if mission is not None and mission.workflow_id != definition.id:
        raise Conflict(f"mission {mission.id} has the name {definition.name!r}, and is not made of this workflow")
    return mission


def execute(tx: Tx, ready: Ready, config: Config, uid: int, at: datetime, by: str) -> WorkflowExecution:
    """Begin it, with all its tasks.  Raises Conflict: it goes on already, or was changed meanwhile."""
    definition = ready.definition
    if tx[WorkflowDefinitions].get(definition.id) != definition:
        raise Conflict(f"workflow {definition.id} was changed meanwhile: execute it again")
    mission = _mission(tx, ready, uid, at)
    if live := tx[Executions].find(Executions.live.eq(mission.id), limit=1):
        raise Conflict(f"workflow {definition.id} is being carried out: execution {live[0].id} is {live[0].status}")
    execution = executing.execute(tx, mission, ready.document, ready.planned, config, uid, at, by, TRIGGER)
    ids = {task.title: task.id for task in tx[Tasks].find(Tasks.execution_id.eq(execution.id))}
    tasks = {node: ids[task.title] for node, task in zip(ready.nodes, ready.document.tasks, strict=True)}
    with entity():  # what the caller says is its project, others' rules hold for, too
        begun = WorkflowExecution(
            id=execution.id,
            definition_id=definition.id,
            definition_version=definition.version,
            status=WorkflowExecutionStatus.RUNNING,
            node_executions=rules.begun(definition, tasks),
            activated_by=by,
            project=ready.project or STAND_IN,
            created_at=at,
            updated_at=at,
        )
    try:
        tx[WorkflowExecutions].add(begun)
    except AlreadyExists as exc:
        raise Conflict(f"there is a workflow execution {begun.id} already, which polpod did not make") from exc
    _note(tx, at, begun, "executed", mission_id=mission.id, version=definition.version, by=by)
    return begun


def _mission(tx: Tx, ready: Ready, uid: int, at: datetime) -> Mission:
    definition = ready.definition
    mission = mission_of(tx, definition)
    if mission is None:
        return _made(tx, ready, uid, at)
    if mission.data == ready.text:
        return mission
    mission = structs.replace(mission, data=ready.text, version=mission.version + 1, updated_at=at)
    tx[Missions].save(mission)
    changes.note(tx, at, "mission:updated", f"mission/{mission.id}", fields=["data"], workflow_id=definition.id)
    return mission


def _made(tx: Tx, ready: Ready, uid: int, at: datetime) -> Mission:
    definition = ready.definition
    with entity():  # a name that is too long for a mission
        return save(
            tx, definition.name, ready.text, at, f"uid {uid}",
            prompt=definition.description or None, created_by=uid, workflow_id=definition.id,
        )  # fmt: skip


def follow(tx: Tx, execution: Execution | None, task_ids: Iterable[str], at: datetime) -> None:
    """Bring the execution of a workflow up to date with these tasks of it; nothing for any other."""
    if execution is None or execution.trigger != TRIGGER:
        return
    if (kept := tx[WorkflowExecutions].get(execution.id)) is None:
        return
    tasks = {task_id: None if (task := tx[Tasks].get(task_id)) is None else task.status for task_id in task_ids}
    now = rules.brought_up_to_date(kept, execution.status, execution.reason, tasks, at)
    if now is kept:
        return
    tx[WorkflowExecutions].save(now)
    if now.status is not kept.status:
        _note(tx, at, now, "completed" if now.status in TERMINAL else "resumed", status=now.status, error=now.error)


def forget(tx: Tx, execution: Execution) -> None:
    """The execution of the mission goes, and that of the workflow with it."""
    if execution.trigger == TRIGGER:
        tx[WorkflowExecutions].delete(execution.id)


def _note(tx: Tx, at: datetime, execution: WorkflowExecution, kind: str, **body: object) -> None:
    body = {"workflow_execution_id": execution.id, **body}
    changes.note(tx, at, f"workflow:{kind}", f"workflow/{execution.definition_id}", **body)
