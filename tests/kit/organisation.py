"""Entities of an organisation that tests start from, one of everything, and the repositories that keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from polpod import persistence as p

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
"""The least by which two instants differ."""

X = TypeVar("X")

REPOSITORIES: Mapping[str, type] = {
    "tasks": p.TaskRepository,
    "cost_records": p.CostRecordRepository,
    "messages": p.MessageRepository,
    "lifecycle_events": p.LifecycleEventRepository,
    "task_metrics": p.TaskMetricRepository,
    "collaboration_metrics": p.CollaborationMetricRepository,
    "parked_contexts": p.ParkedContextRepository,
    "audit_entries": p.AuditRepository,
    "users": p.UserRepository,
    "api_keys": p.ApiKeyRepository,
    "checkpoints": p.CheckpointRepository,
    "heartbeats": p.HeartbeatRepository,
    "agent_states": p.AgentStateRepository,
    "settings": p.SettingsRepository,
    "artifacts": p.ArtifactRepository,
    "projects": p.ProjectRepository,
    "custom_presets": p.PersonalityPresetRepository,
    "workflow_definitions": p.WorkflowDefinitionRepository,
    "workflow_executions": p.WorkflowExecutionRepository,
}
"""The protocol of each repository, by its name on the backend."""


def maker(cls: type[X], **fixed: Any) -> Callable[..., X]:
    return lambda **values: cls(**fixed | values)


a_task = maker(
    p.Task, id="t1", title="Wash up", description="All of it", type="admin", project="home", created_by="eve"
)
a_cost = maker(
    p.CostRecord, agent_id="ann", task_id="t1", provider="x", model="m", input_tokens=3, output_tokens=4,
    cost_usd=0.5, timestamp=T0,
)  # fmt: skip
a_message = maker(p.Message, timestamp=T0, sender="ann", to="bob", type="question", channel="#home", content="Well?")
an_event = maker(
    p.AgentLifecycleEvent, id="e1", agent_id="ann", agent_name="Ann", event_type="hired", timestamp=T0, initiated_by="eve"
)  # fmt: skip
a_metric = maker(
    p.TaskMetricRecord, id="m1", agent_id="ann", task_id="t1", task_type="admin", completed_at=T0, is_success=True,
    duration_seconds=1.5, cost_usd=0.25, turns_used=2, tokens_used=70, complexity="simple",
)  # fmt: skip
a_collaboration = maker(p.CollaborationMetricRecord, id="c1", agent_id="ann", recorded_at=T0)
a_parked = maker(
    p.ParkedContext, id="p1", execution_id="x1", agent_id="ann", approval_id="a1", parked_at=T0, context_json="{}"
)
an_audit = maker(
    p.AuditEntry, id="d1", timestamp=T0, tool_name="rm", tool_category="terminal", action_type="file:delete",
    arguments_hash="0f" * 32, verdict="deny", risk_level="high", reason="too much", evaluation_duration_ms=0.5,
)  # fmt: skip
a_user = maker(
    p.User, id="u1", username="eve", password_hash="$argon2id$x", role="manager", created_at=T0, updated_at=T0
)
a_key = maker(p.ApiKey, id="k1", key_hash="ab" * 32, name="laptop", role="manager", user_id="u1", created_at=T0)
a_checkpoint = maker(
    p.Checkpoint,
    id="h1",
    execution_id="x1",
    agent_id="ann",
    task_id="t1",
    turn_number=1,
    context_json="{}",
    created_at=T0,
)
a_heartbeat = maker(p.Heartbeat, execution_id="x1", agent_id="ann", task_id="t1", last_heartbeat_at=T0)
an_idle_agent = maker(p.AgentRuntimeState, agent_id="ann", status="idle", last_activity_at=T0)
a_busy_agent = maker(
    p.AgentRuntimeState, agent_id="ann", status="executing", execution_id="x1", task_id="t1", turn_count=3,
    accumulated_cost_usd=0.5, last_activity_at=T0, started_at=T0,
)  # fmt: skip
an_artifact = maker(p.Artifact, id="f1", type="code", path="a.py", task_id="t1", created_by="ann", created_at=T0)
a_project = maker(p.Project, id="home", name="Home")
START = p.WorkflowNode(id="s", type="start", label="Start")
TASK = p.WorkflowNode(id="n", type="task", label="Work", position_x=1.5, config={"a": [1, {"b": None}]})
END = p.WorkflowNode(id="e", type="end", label="End")
a_definition = maker(
    p.WorkflowDefinition, id="w1", name="Release", created_by="eve", nodes=(START, TASK, END),
    edges=({"id": "1", "source_node_id": "s", "target_node_id": "n"}, {"id": "2", "source_node_id": "n", "target_node_id": "e"}),
    created_at=T0, updated_at=T0,
)  # fmt: skip
an_execution = maker(
    p.WorkflowExecution, id="y1", definition_id="w1", definition_version=1, activated_by="eve", project="home",
    created_at=T0, updated_at=T0,
)  # fmt: skip


async def fill(backend: p.PersistenceBackend) -> None:
    """Save one of everything, as it is made above."""
    await backend.tasks.save(a_task())
    await backend.cost_records.save(a_cost())
    await backend.messages.save(a_message())
    await backend.lifecycle_events.save(an_event())
    await backend.task_metrics.save(a_metric())
    await backend.collaboration_metrics.save(a_collaboration())
    await backend.parked_contexts.save(a_parked())
    await backend.audit_entries.save(an_audit())
    await backend.users.save(a_user())
    await backend.api_keys.save(a_key())
    await backend.checkpoints.save(a_checkpoint())
    await backend.heartbeats.save(a_heartbeat())
    await backend.agent_states.save(a_busy_agent())
    await backend.settings.set("n", "k", "v", "1")
    await backend.artifacts.save(an_artifact())
    await backend.projects.save(a_project())
    await backend.custom_presets.save("calm", "{}", "", "1", "1")
    await backend.workflow_definitions.save(a_definition())
    await backend.workflow_executions.save(an_execution())
