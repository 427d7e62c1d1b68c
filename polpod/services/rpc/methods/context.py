"""context.*: executions of agents that wait until somebody approves, with what they need to go on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from polpod.model.organisation.runtime import ParkedContext
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call, Right
from polpod.store.organisation import ParkedContexts
from polpod.store.records import Tx

Id = Annotated[str, Meta(min_length=1, max_length=200)]


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    execution_id: Id
    agent_id: Id
    approval_id: Id
    context_json: Annotated[str, Meta(min_length=1, max_length=2**20)]
    task_id: Id | None = None
    metadata: dict[str, str] = {}


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    return Made(ParkedContext(parked_at=at, **msgspec.structs.asdict(params)))


METHODS = methods("context", ParkedContexts, Add, _made, read=Right.OWNER)  # it may be all that an agent was told
