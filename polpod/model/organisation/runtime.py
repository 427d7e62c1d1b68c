"""Agents at work: who does what now, where it can be resumed, whether it still lives, what waits for an approval."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from uuid import uuid4

from msgspec import field

from polpod.model.entity import Amount, Count, Entity, NotBlank, json_text, set_iff
from polpod.model.tasks import Instant


class ParkedContext(Entity, frozen=True, kw_only=True):
    """An execution that waits until somebody approves; `context_json` is any JSON."""

    rules = (json_text("context_json"),)

    id: NotBlank = field(default_factory=lambda: str(uuid4()))
    execution_id: NotBlank
    agent_id: NotBlank
    task_id: NotBlank | None = None
    approval_id: NotBlank
    parked_at: Instant
    context_json: str
    metadata: dict[str, str] = {}


class Checkpoint(Entity, frozen=True, kw_only=True):
    """Where an execution can be resumed; `context_json` is a JSON object."""

    rules = (json_text("context_json", dict),)

    id: NotBlank = field(default_factory=lambda: str(uuid4()))
    execution_id: NotBlank
    agent_id: NotBlank
    task_id: NotBlank
    turn_number: Count
    context_json: str
    created_at: Instant = field(default_factory=lambda: datetime.now(UTC))


class Heartbeat(Entity, frozen=True, kw_only=True):
    execution_id: NotBlank
    agent_id: NotBlank
    task_id: NotBlank
    last_heartbeat_at: Instant


class ExecutionStatus(StrEnum):
    IDLE = "idle"
    EXECUTING = "executing"
    PAUSED = "paused"


def _busy(state: AgentRuntimeState) -> bool:
    return state.status is not ExecutionStatus.IDLE


def _idle_is_clean(state: AgentRuntimeState) -> str | None:
    if _busy(state):
        return None
    if state.task_id is not None:
        return "task_id: an idle agent has none"
    if state.turn_count or state.accumulated_cost_usd:
        return "turn_count, accumulated_cost_usd: 0 of an idle agent"
    return None


class AgentRuntimeState(Entity, frozen=True, kw_only=True):
    rules = (
        set_iff("execution_id", "while the agent is not idle", _busy),
        set_iff("started_at", "while the agent is not idle", _busy),
        _idle_is_clean,
    )

    agent_id: NotBlank
    execution_id: NotBlank | None = None
    task_id: NotBlank | None = None
    status: ExecutionStatus
    turn_count: Count = 0
    accumulated_cost_usd: Amount = 0.0
    last_activity_at: Instant
    started_at: Instant | None = None
