"""workflow.*: definitions of workflows: graphs of what shall be done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from polpod.model.organisation.workflows import WorkflowDefinition
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call
from polpod.services.rpc.refusal import entity
from polpod.store.organisation import WorkflowDefinitions
from polpod.store.records import Tx


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    definition: dict[str, Any]
    """Its fields, without who made it and when."""
    id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """Null: as the definition says."""


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    given = params.definition | ({"id": params.id} if params.id else {})
    fields = given | {"created_by": call.caller.name, "created_at": at, "updated_at": at, "version": 1}
    with entity("$.definition"):
        return Made(msgspec.convert(fields, WorkflowDefinition))


METHODS = methods("workflow", WorkflowDefinitions, Add, _made)
