"""Work: tasks with their state machine, and what was measured of those that are completed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self
from uuid import uuid4

import msgspec
from msgspec import Meta, field

from polpod.model.described import described
from polpod.model.entity import Amount, Count, Entity, NotBlank, distinct, iso, without
from polpod.model.organisation.artifacts import ArtifactType
from polpod.model.tasks import Instant


class TaskType(StrEnum):
    DEVELOPMENT = "development"
    DESIGN = "design"
    RESEARCH = "research"
    REVIEW = "review"
    MEETING = "meeting"
    ADMIN = "admin"


class Priority(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Complexity(StrEnum):
    SIMPLE = "simple"
    MEDIUM = "medium"
    COMPLEX = "complex"
    EPIC = "epic"


class TaskStructure(StrEnum):
    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    MIXED = "mixed"


class CoordinationTopology(StrEnum):
    SAS = "sas"
    CENTRALIZED = "centralized"
    DECENTRALIZED = "decentralized"
    CONTEXT_DEPENDENT = "context_dependent"
    AUTO = "auto"


class TaskStatus(StrEnum):
    CREATED = "created"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    IN_REVIEW = "in_review"
    COMPLETED = "completed"
    BLOCKED = "blocked"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


_S = TaskStatus

TRANSITIONS: Mapping[TaskStatus, tuple[TaskStatus, ...]] = {
    _S.CREATED: (_S.ASSIGNED,),
    _S.ASSIGNED: (_S.IN_PROGRESS, _S.BLOCKED, _S.CANCELLED, _S.FAILED, _S.INTERRUPTED),
    _S.IN_PROGRESS: (_S.IN_REVIEW, _S.BLOCKED, _S.CANCELLED, _S.FAILED, _S.INTERRUPTED),
    _S.IN_REVIEW: (_S.COMPLETED, _S.IN_PROGRESS, _S.BLOCKED, _S.CANCELLED),
    _S.BLOCKED: (_S.ASSIGNED,),
    _S.FAILED: (_S.ASSIGNED,),
    _S.INTERRUPTED: (_S.ASSIGNED,),
    _S.COMPLETED: (),
    _S.CANCELLED: (),
}
"""The edges that `Task.with_transition` walks.  The store takes any task in place of any other."""

ASSIGNEE_NEEDED = frozenset({_S.ASSIGNED, _S.IN_PROGRESS, _S.IN_REVIEW, _S.COMPLETED})


class ExpectedArtifact(Entity, frozen=True, kw_only=True):
    type: ArtifactType
    path: NotBlank


class AcceptanceCriterion(Entity, frozen=True, kw_only=True):
    description: NotBlank
    met: bool = False


def _assignee_fits_status(task: Task) -> str | None:
    if task.status is TaskStatus.CREATED and task.assigned_to is not None:
        return "assigned_to: a task that is created has none yet"
    if task.status in ASSIGNEE_NEEDED and task.assigned_to is None:
        return f"assigned_to: a task that is {task.status} has one"
    return None


@described
class Task(Entity, frozen=True, kw_only=True):
    rules = (
        distinct("reviewers"),
        distinct("dependencies"),
        without("dependencies", "id"),
        iso("deadline"),
        without("parent_task_id", "id"),
        distinct("delegation_chain"),
        without("delegation_chain", "assigned_to"),
        _assignee_fits_status,
    )

    id: NotBlank
    title: NotBlank
    description: NotBlank
    type: TaskType
    priority: Priority = Priority.MEDIUM
    project: NotBlank
    created_by: NotBlank
    assigned_to: NotBlank | None = None
    reviewers: tuple[NotBlank, ...] = ()
    dependencies: tuple[NotBlank, ...] = ()
    artifacts_expected: tuple[ExpectedArtifact, ...] = ()
    acceptance_criteria: tuple[AcceptanceCriterion, ...] = ()
    estimated_complexity: Complexity = Complexity.MEDIUM
    budget_limit: Amount = 0.0
    """0 is no limit."""
    deadline: str | None = None
    max_retries: Count = 1
    status: TaskStatus = TaskStatus.CREATED
    parent_task_id: NotBlank | None = None
    delegation_chain: tuple[NotBlank, ...] = ()
    task_structure: TaskStructure | None = None
    coordination_topology: CoordinationTopology = CoordinationTopology.AUTO

    def with_transition(self, status: TaskStatus, **changes: object) -> Self:
        """The task in that status, with these values.  Raises ValueError unless TRANSITIONS has the edge."""
        if status not in (allowed := TRANSITIONS[self.status]):
            raise ValueError(f"status: {self.status} → {status} (allowed: {', '.join(allowed) or 'none'})")
        return msgspec.structs.replace(self, status=status, **changes)


def _started_before_it_completed(record: TaskMetricRecord) -> str | None:
    if record.started_at is None or record.started_at < record.completed_at:
        return None
    return "started_at: must be before completed_at"


class TaskMetricRecord(Entity, frozen=True, kw_only=True):
    rules = (_started_before_it_completed,)

    id: NotBlank = field(default_factory=lambda: str(uuid4()))
    agent_id: NotBlank
    task_id: NotBlank
    task_type: TaskType
    started_at: Instant | None = None
    completed_at: Instant
    is_success: bool
    duration_seconds: Amount
    cost_usd: Amount
    turns_used: Count
    tokens_used: Count
    quality_score: Annotated[float, Meta(ge=0, le=10)] | None = None
    complexity: Complexity
    cpu_seconds: Amount | None = None
    max_rss: Count | None = None
    """Bytes; as the CPU time, of what polpod ran itself."""
    spec_id: str | None = None
    """What was executed, where a spec says that."""
    work: str | None = None
    """Equal for tasks that are the same work by their agent, title and project."""
