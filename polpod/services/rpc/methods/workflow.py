"""workflow.*: definitions of workflows: graphs of what shall be done; and carrying one out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import trio
from msgspec import Meta, Struct

from polpod import crash
from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.entity import Version
from polpod.model.organisation.workflows import WorkflowDefinition, WorkflowExecution
from polpod.services.instance import now
from polpod.services.missions import workflows
from polpod.services.missions.preparing import lasting
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.own import require_own
from polpod.services.rpc.refusal import entity
from polpod.services.submission import enterable
from polpod.store.changes import note
from polpod.store.organisation import WorkflowDefinitions
from polpod.store.records import Tx

Id = Annotated[str, Meta(min_length=1, max_length=200)]


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    definition: dict[str, Any]
    """Its fields, without who made it and when."""
    id: Id | None = None
    """Null: as the definition says."""


class Save(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id
    version: Version
    """The one that was read, and changed."""
    definition: dict[str, Any]


class Execute(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id
    project: Annotated[str, Meta(max_length=200, pattern=r"\S")] | None = None
    """Null: that of polpo.json."""


class Executed(Struct, frozen=True):
    execution: WorkflowExecution
    """Its id is that of its mission's execution, too."""
    tasks: int


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    return Made(_definition(params.definition, params.id, created_by=call.caller.name, created_at=at, version=1, at=at))


async def save(call: Call, params: Save) -> dict[str, object]:
    """The definition becomes the next version, if nobody else was faster."""
    call.desk.instance.refuse_when_full()

    def body(tx: Tx) -> WorkflowDefinition:
        at, old = now(), _require(tx, params.id)
        if old.version != params.version:
            raise Conflict(f"workflow {old.id} is of version {old.version} by now, not {params.version}: read it again")
        definition = _definition(
            params.definition, old.id, created_by=old.created_by, created_at=old.created_at, version=old.version + 1,
            at=at,
        )  # fmt: skip
        tx[WorkflowDefinitions].save(definition)
        note(tx, at, "workflow:saved", f"workflow/{old.id}", by=call.caller.name, version=definition.version)
        return definition

    return {"workflow": await call.desk.instance.tasks.write(body)}


async def execute(call: Call, params: Execute) -> Executed:
    instance, by = call.desk.instance, call.caller
    instance.refuse_when_full()
    config = instance.config
    definition = await instance.tasks.read(lambda tx: _require(tx, params.id))
    agents = await lasting(instance)
    ready = workflows.prepare(definition, params.project or config.project, agents, config, instance.paths.root)
    for cwd in {one.spec.cwd for one in ready.planned}:
        await trio.to_thread.run_sync(enterable, cwd)

    def body(tx: Tx) -> Executed:
        if (mission := workflows.mission_of(tx, definition)) is not None:
            require_own(by, mission)
        begun = workflows.execute(tx, ready, config, by.uid, now(), by.name)
        return Executed(begun, len(ready.planned))

    executed = await instance.tasks.write(body)
    crash.point("mission.executed")
    return executed


def _require(tx: Tx, id: str) -> WorkflowDefinition:
    found = tx[WorkflowDefinitions].get(id)
    if found is None:
        raise NotFound(f"there is no workflow {id}: `polpoctl workflow list` shows what there is")
    return found


def _definition(given: dict[str, Any], id: str | None, *, at: datetime, **ours: Any) -> WorkflowDefinition:
    fields = given | ({"id": id} if id else {}) | ours | {"updated_at": at}
    with entity("$.definition"):
        definition = msgspec.convert(fields, WorkflowDefinition)
    _require_kept(fields, msgspec.to_builtins(definition), "$.definition")
    return definition


def _require_kept(given: Any, kept: Any, at: str) -> None:
    """Raises InvalidRequest for a field that there is not: one that was mistyped would be lost."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name not in kept:
                raise InvalidRequest(f"unknown field `{name}`", f"{at}.{name}")
            _require_kept(value, kept[name], f"{at}.{name}")
    elif isinstance(given, list) and isinstance(kept, list | tuple):
        for number, (value, there) in enumerate(zip(given, kept, strict=True)):
            _require_kept(value, there, f"{at}[{number}]")


METHODS = (
    *methods("workflow", WorkflowDefinitions, Add, _made),
    Method(
        "workflow.save",
        Save,
        {"workflow": WorkflowDefinition},
        save,
        "Store the next version of a workflow.",
        Right.OWNER,
        writes=True,
    ),
    Method("workflow.execute", Execute, Executed, execute, "Carry a workflow out, as a mission.", writes=True),
)
