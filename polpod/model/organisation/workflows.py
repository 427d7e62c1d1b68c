"""Workflows: graphs of what shall be done, and how each execution of one went."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from msgspec import field

from polpod.model.entity import Entity, NotBlank, Version, distinct, set_iff, without
from polpod.model.tasks import Instant


class WorkflowType(StrEnum):
    SEQUENTIAL_PIPELINE = "sequential_pipeline"
    PARALLEL_EXECUTION = "parallel_execution"
    KANBAN = "kanban"
    AGILE_KANBAN = "agile_kanban"


class WorkflowNodeType(StrEnum):
    START = "start"
    END = "end"
    TASK = "task"
    AGENT_ASSIGNMENT = "agent_assignment"
    CONDITIONAL = "conditional"
    PARALLEL_SPLIT = "parallel_split"
    PARALLEL_JOIN = "parallel_join"


class WorkflowEdgeType(StrEnum):
    SEQUENTIAL = "sequential"
    CONDITIONAL_TRUE = "conditional_true"
    CONDITIONAL_FALSE = "conditional_false"
    PARALLEL_BRANCH = "parallel_branch"


class WorkflowNode(Entity, frozen=True, kw_only=True):
    id: NotBlank
    type: WorkflowNodeType
    label: NotBlank
    position_x: float = 0.0
    position_y: float = 0.0
    config: dict[str, object] = {}


class WorkflowEdge(Entity, frozen=True, kw_only=True):
    rules = (without("target_node_id", "source_node_id"),)

    id: NotBlank
    source_node_id: NotBlank
    target_node_id: NotBlank
    type: WorkflowEdgeType = WorkflowEdgeType.SEQUENTIAL
    label: NotBlank | None = None


def _one_start_one_end(definition: WorkflowDefinition) -> str | None:
    for kind in (WorkflowNodeType.START, WorkflowNodeType.END):
        if (number := sum(node.type is kind for node in definition.nodes)) != 1:
            return f"nodes: {number} of type {kind}, not one"
    return None


def _edges_join_nodes(definition: WorkflowDefinition) -> str | None:
    ids = {node.id for node in definition.nodes}
    for edge in definition.edges:
        if missing := {edge.source_node_id, edge.target_node_id} - ids:
            return f"edges: {edge.id!r} names no node of it: {min(missing)!r}"
    return None


class WorkflowDefinition(Entity, frozen=True, kw_only=True):
    rules = (
        distinct("nodes", of=lambda node: node.id),
        distinct("edges", of=lambda edge: edge.id),
        _one_start_one_end,
        _edges_join_nodes,
    )

    id: NotBlank
    name: NotBlank
    description: str = ""
    workflow_type: WorkflowType = WorkflowType.SEQUENTIAL_PIPELINE
    nodes: tuple[WorkflowNode, ...] = ()
    edges: tuple[WorkflowEdge, ...] = ()
    created_by: NotBlank
    created_at: Instant = field(default_factory=lambda: datetime.now(UTC))
    updated_at: Instant = field(default_factory=lambda: datetime.now(UTC))
    version: Version = 1


class WorkflowExecutionStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset(
    {WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.CANCELLED}
)


class WorkflowNodeExecutionStatus(StrEnum):
    PENDING = "pending"
    SKIPPED = "skipped"
    TASK_CREATED = "task_created"
    TASK_COMPLETED = "task_completed"
    TASK_FAILED = "task_failed"
    COMPLETED = "completed"


OF_TASKS = frozenset(
    {
        WorkflowNodeExecutionStatus.TASK_CREATED,
        WorkflowNodeExecutionStatus.TASK_COMPLETED,
        WorkflowNodeExecutionStatus.TASK_FAILED,
    }
)


def _task_statuses_are_of_task_nodes(node: WorkflowNodeExecution) -> str | None:
    if node.status in OF_TASKS and node.node_type is not WorkflowNodeType.TASK:
        return f"status: {node.status} is of task nodes, not of {node.node_type}"
    return None


class WorkflowNodeExecution(Entity, frozen=True, kw_only=True):
    rules = (
        _task_statuses_are_of_task_nodes,
        set_iff("task_id", "in the statuses of tasks", lambda node: node.status in OF_TASKS),
        set_iff("skipped_reason", "if it was skipped", lambda node: node.status is WorkflowNodeExecutionStatus.SKIPPED),
    )

    node_id: NotBlank
    node_type: WorkflowNodeType
    status: WorkflowNodeExecutionStatus = WorkflowNodeExecutionStatus.PENDING
    task_id: NotBlank | None = None
    skipped_reason: NotBlank | None = None


class WorkflowExecution(Entity, frozen=True, kw_only=True):
    rules = (
        distinct("node_executions", of=lambda node: node.node_id),
        set_iff("completed_at", "once it is over", lambda execution: execution.status in TERMINAL),
        set_iff("error", "if it failed", lambda execution: execution.status is WorkflowExecutionStatus.FAILED),
    )

    id: NotBlank
    definition_id: NotBlank
    definition_version: Version
    status: WorkflowExecutionStatus = WorkflowExecutionStatus.PENDING
    node_executions: tuple[WorkflowNodeExecution, ...] = ()
    activated_by: NotBlank
    project: NotBlank
    created_at: Instant = field(default_factory=lambda: datetime.now(UTC))
    updated_at: Instant = field(default_factory=lambda: datetime.now(UTC))
    completed_at: Instant | None = None
    error: NotBlank | None = None
    version: Version = 1
