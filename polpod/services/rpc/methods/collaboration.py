"""collaboration.*: how well agents work together, as whoever measures that says."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from polpod.model.entity import Amount, Share
from polpod.model.organisation.people import CollaborationMetricRecord
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call
from polpod.store.organisation import CollaborationMetrics
from polpod.store.records import Tx


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    agent_id: Annotated[str, Meta(min_length=1, max_length=200)]
    delegation_success: bool | None = None
    delegation_response_seconds: Amount | None = None
    conflict_constructiveness: Share | None = None
    meeting_contribution: Share | None = None
    loop_triggered: bool = False
    handoff_completeness: Share | None = None
    interaction_summary: Annotated[str, Meta(max_length=4096)] | None = None


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    return Made(CollaborationMetricRecord(recorded_at=at, **msgspec.structs.asdict(params)))


METHODS = methods("collaboration", CollaborationMetrics, Add, _made)
