"""workflow.*: definitions of workflows: graphs of what shall be done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.entity import Version
from polpod.model.organisation.workflows import WorkflowDefinition
from polpod.services.instance import now
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.refusal import entity
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


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    return Made(_definition(params.definition, params.id, created_by=call.caller.name, created_at=at, version=1, at=at))


async def save(call: Call, params: Save) -> dict[str, object]:
    """The definition becomes the next version, if nobody else was faster."""
    call.desk.instance.refuse_when_full()

    def body(tx: Tx) -> WorkflowDefinition:
        at, old = now(), tx[WorkflowDefinitions].get(params.id)
        if old is None:
            raise NotFound(f"there is no workflow {params.id}: `polpoctl workflow list` shows what there is")
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
    Method("workflow.save", Save, dict, save, "Store the next version of a workflow.", Right.OWNER, writes=True),
)
