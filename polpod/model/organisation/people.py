"""People and agents: who may log in and with which key, and how agents come, go and work together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import uuid4

from msgspec import Meta, field

from polpod.model.entity import Amount, Entity, NotBlank, Share
from polpod.model.tasks import Instant


class HumanRole(StrEnum):
    CEO = "ceo"
    MANAGER = "manager"
    BOARD_MEMBER = "board_member"
    PAIR_PROGRAMMER = "pair_programmer"
    OBSERVER = "observer"
    SYSTEM = "system"
    """The one user who is no human; not listed, and never removed."""


class User(Entity, frozen=True, kw_only=True):
    hidden = frozenset({"password_hash"})

    id: NotBlank
    username: NotBlank
    password_hash: str
    role: HumanRole
    must_change_password: bool = True
    created_at: Instant
    updated_at: Instant


class ApiKey(Entity, frozen=True, kw_only=True):
    hidden = frozenset({"key_hash"})

    id: NotBlank
    key_hash: NotBlank
    name: NotBlank
    role: HumanRole
    user_id: NotBlank
    created_at: Instant
    expires_at: Instant | None = None
    revoked: bool = False
    last_used_at: Instant | None = None


class LifecycleEventType(StrEnum):
    HIRED = "hired"
    ONBOARDED = "onboarded"
    FIRED = "fired"
    OFFBOARDED = "offboarded"
    STATUS_CHANGED = "status_changed"
    PROMOTED = "promoted"
    DEMOTED = "demoted"


class AgentLifecycleEvent(Entity, frozen=True, kw_only=True):
    id: NotBlank = field(default_factory=lambda: str(uuid4()))
    agent_id: NotBlank
    agent_name: NotBlank
    event_type: LifecycleEventType
    timestamp: Instant
    initiated_by: NotBlank
    details: str = ""
    metadata: dict[str, str] = {}


class CollaborationMetricRecord(Entity, frozen=True, kw_only=True):
    id: NotBlank = field(default_factory=lambda: str(uuid4()))
    agent_id: NotBlank
    recorded_at: Instant
    delegation_success: bool | None = None
    delegation_response_seconds: Amount | None = None
    conflict_constructiveness: Share | None = None
    meeting_contribution: Share | None = None
    loop_triggered: bool = False
    handoff_completeness: Share | None = None
    interaction_summary: Annotated[str, Meta(pattern=r"\S", max_length=4096)] | None = None
