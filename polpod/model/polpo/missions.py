"""Missions: graphs of tasks that are carried out, scheduled and judged as one; and where one of them stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from polpod.model.entity import Entity
from polpod.model.submissions import Name
from polpod.model.tasks import Count, Instant

Score = Annotated[float, Meta(ge=1, le=5)]


class MissionStatus(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RECURRING = "recurring"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Mission(Entity, frozen=True, kw_only=True):
    id: str
    seq: int
    """Order of creation."""
    name: Name
    """No other mission has it: it is the name of the mission's group of tasks, too."""
    data: str
    """The mission document, as JSON; read when the mission is executed."""
    prompt: str | None = None
    status: MissionStatus = MissionStatus.DRAFT
    deadline: Instant | None = None
    schedule: str | None = None
    """A cron expression or an instant."""
    end_date: Instant | None = None
    """The schedule stops there."""
    quality_threshold: Score | None = None
    notifications: dict[str, object] | None = None
    execution_count: Count = 0
    created_by: Count = 0
    """The uid of who made it."""
    workflow_id: str | None = None
    """The workflow definition that its document is made of."""
    version: int = 1
    created_at: Instant
    updated_at: Instant


class Gate(Entity, frozen=True, kw_only=True):
    """What holds back `blocks_tasks` once all of `after_tasks` are over; both are titles."""

    name: Name
    after_tasks: tuple[str, ...] = ()
    blocks_tasks: tuple[str, ...] = ()
    message: str | None = None
    notify_channels: tuple[str, ...] = ()


class Checkpoint(Gate, frozen=True, kw_only=True):
    """It holds them back until somebody resumes it."""


class Delay(Gate, frozen=True, kw_only=True):
    """It holds them back for some time."""

    duration: str
    """ISO 8601: `PT2H`."""


class ActiveCheckpoint(Entity, frozen=True, kw_only=True):
    checkpoint: Checkpoint
    reached_at: Instant


class ActiveDelay(Entity, frozen=True, kw_only=True):
    delay: Delay
    started_at: Instant
    expires_at: Instant


class CheckpointState(Entity, frozen=True, kw_only=True):
    """Of all groups: what is defined, by group; what was reached and holds tasks back; what was resumed."""

    definitions: dict[str, tuple[Checkpoint, ...]] = {}
    active: dict[str, dict[str, ActiveCheckpoint]] = {}
    """By group and name."""
    resumed: dict[str, tuple[str, ...]] = {}


class DelayState(Entity, frozen=True, kw_only=True):
    """Of all groups: what is defined, by group; what holds tasks back now; what is over."""

    definitions: dict[str, tuple[Delay, ...]] = {}
    active: dict[str, dict[str, ActiveDelay]] = {}
    """By group and name."""
    expired: dict[str, tuple[str, ...]] = {}
