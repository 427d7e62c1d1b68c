"""Executions: one carrying out of a mission, with what holds its tasks back.  Each is its own record, kept as history.

A barrier is a quality gate, a checkpoint or a delay of one execution.  The tasks that it holds back have it among their
dependencies, so that readiness is one counter (`Task.unmet`) whatever a task waits for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from polpod.model.budgets import Budget, Spent
from polpod.model.polpo.missions import MissionStatus
from polpod.model.tasks import Count, Instant, Sla


class ExecutionStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    """Nothing of it starts any more, and not all of it is over."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED})
IDLE = frozenset({ExecutionStatus.PAUSED, ExecutionStatus.CANCELLING})
"""Of these nothing starts, though they are not over."""


class Execution(Struct, frozen=True, kw_only=True):
    id: str
    """`MISSION.NUMBER`."""
    seq: int
    mission_id: str
    number: int
    """The how manieth of its mission, from 1."""
    group: str
    """What its tasks are grouped by: the mission's name, and from the second one on `NAME #NUMBER`."""
    document_id: str
    """Key of the document as it was then."""
    status: ExecutionStatus = ExecutionStatus.ACTIVE
    returns_to: MissionStatus = MissionStatus.DRAFT
    """What its mission was before: a recurring one is so again, whatever became of this execution."""
    trigger: str = "manual"
    """Or `schedule`, `workflow`."""
    started_by: str
    ended_by: str | None = None
    """Who aborted it."""
    on_deadlock: Literal["fail", "wait"] = "fail"
    deadline: Instant | None = None
    """Its mission's, when it began."""
    sla: Sla | None = None
    volatile: Literal["on_complete", "manual"] | None = None
    """When the agents leave that came with it; None: none did."""
    reason: str | None = None
    """Why it is paused, or ended as it did."""
    report: dict[str, object] | None = None
    budget: Budget | None = None
    spent: Spent = Spent()
    """Kept where there is a budget."""
    version: int = 1
    started_at: Instant
    updated_at: Instant
    finished_at: Instant | None = None


class Document(Struct, frozen=True):
    """A mission document; `id` is `MISSION/HASH`, so that executions of the same are stored once, and it goes with them."""

    id: str
    text: str


class BarrierKind(StrEnum):
    GATE = "gate"
    CHECKPOINT = "checkpoint"
    DELAY = "delay"


class BarrierState(StrEnum):
    WAITING = "waiting"
    """For the tasks before it."""
    HOLDING = "holding"
    """They are over, and it holds back those behind it for its own reason."""
    OPEN = "open"
    """For ever."""


class Barrier(Struct, frozen=True, kw_only=True):
    id: str
    """`EXECUTION/KIND/NAME`, which is the id of no task."""
    seq: int
    execution_id: str
    kind: BarrierKind
    name: str
    message: str | None = None
    notify_channels: tuple[str, ...] = ()
    remaining: Count
    """Tasks before it that are not over."""
    blocks: tuple[str, ...] = ()
    """Titles, for people; the dependencies of the tasks are what counts."""
    min_score: float | None = None
    require_all_passed: bool = False
    duration: float | None = None
    """Seconds of a delay."""
    state: BarrierState = BarrierState.WAITING
    reason: str | None = None
    """Why a gate does not open."""
    reached_at: Instant | None = None
    until: Instant | None = None
    """When a delay is over."""
    opened_at: Instant | None = None
    opened_by: str | None = None


class BarrierTask(Struct, frozen=True):
    """The barrier waits until this task is over."""

    barrier_id: str
    task_id: str
    over: bool = False


class Unsettled(Struct, frozen=True):
    """This task of the execution began or ceased to be over, or to be able to go on: others have to hear of it."""

    task_id: str
    execution_id: str
