"""The tables of an organisation of agents; its tasks are rows of the daemon's table (store/tables.py, rule 1).

Each column and index is there for a filter or an order of polpod/contracts/persistence.  A change needs a migration.
"""

from __future__ import annotations

from msgspec import Struct

from polpod.model.organisation.artifacts import Artifact, Project
from polpod.model.organisation.messages import Message
from polpod.model.organisation.money import CostRecord
from polpod.model.organisation.people import AgentLifecycleEvent, ApiKey, CollaborationMetricRecord, HumanRole, User
from polpod.model.organisation.runtime import AgentRuntimeState, Checkpoint, Heartbeat, ParkedContext
from polpod.model.organisation.security import AuditEntry
from polpod.model.organisation.settings import CustomPreset, NamespacedSetting
from polpod.model.organisation.work import TaskMetricRecord
from polpod.model.organisation.workflows import WorkflowDefinition, WorkflowExecution
from polpod.store.table import Columns, Index, Ref, Table, Unique
from polpod.store.tables import Tasks

ORGANISATION = "synthorg"
"""The owner of its tasks (DESIGN §8)."""


class StoredCost(Struct, frozen=True):
    """Cost records have no id of their own: one is told from the next by its place."""

    seq: int
    record: CostRecord


_c = Columns[StoredCost]()


class CostRecords(Table[StoredCost, int]):
    name = "cost_records"
    noun = "cost_record"
    entity = StoredCost
    seq = _c.integer("seq", lambda c: c.seq)
    agent_id = _c.text("agent_id", lambda c: c.record.agent_id)
    task_id = _c.text("task_id", lambda c: c.record.task_id)
    cost_usd = _c.real("cost_usd", lambda c: c.record.cost_usd)
    key = (seq,)
    order = (seq.asc(),)
    indexes = (Index((agent_id.asc(), seq.asc())), Index((task_id.asc(), seq.asc())))
    refs = (Ref(task_id, Tasks),)


_m = Columns[Message]()


class Messages(Table[Message, str]):
    name = "messages"
    noun = "message"
    entity = Message
    id = _m.text("id", lambda m: str(m.id))
    channel = _m.text("channel", lambda m: m.channel)
    timestamp = _m.instant("timestamp", lambda m: m.timestamp)
    key = (id,)
    order = (timestamp.desc(),)
    indexes = (Index((channel.asc(), timestamp.desc())),)


_l = Columns[AgentLifecycleEvent]()


class LifecycleEvents(Table[AgentLifecycleEvent, str]):
    name = "lifecycle_events"
    noun = "lifecycle_event"
    entity = AgentLifecycleEvent
    id = _l.text("id", lambda e: e.id)
    agent_id = _l.text("agent_id", lambda e: e.agent_id)
    event_type = _l.text("event_type", lambda e: e.event_type)
    timestamp = _l.instant("timestamp", lambda e: e.timestamp)
    key = (id,)
    order = (timestamp.desc(),)
    indexes = (Index((agent_id.asc(), timestamp.desc())), Index((event_type.asc(), timestamp.desc())))


_t = Columns[TaskMetricRecord]()


class TaskMetrics(Table[TaskMetricRecord, str]):
    name = "task_metrics"
    noun = "task_metric"
    entity = TaskMetricRecord
    id = _t.text("id", lambda r: r.id)
    agent_id = _t.text("agent_id", lambda r: r.agent_id)
    task_id = _t.text("task_id", lambda r: r.task_id)
    completed_at = _t.instant("completed_at", lambda r: r.completed_at)
    spec_id = _t.text("spec_id", lambda r: r.spec_id if r.is_success else None)
    work = _t.text("work", lambda r: r.work if r.is_success else None)
    key = (id,)
    order = (completed_at.desc(),)
    indexes = (
        Index((agent_id.asc(), completed_at.desc())),
        Index((task_id.asc(),)),
        Index((spec_id.asc(), completed_at.desc()), where_not_null=spec_id),
        Index((work.asc(), completed_at.desc()), where_not_null=work),
    )
    refs = (Ref(task_id, Tasks),)


_o = Columns[CollaborationMetricRecord]()


class CollaborationMetrics(Table[CollaborationMetricRecord, str]):
    name = "collaboration_metrics"
    noun = "collaboration_metric"
    entity = CollaborationMetricRecord
    id = _o.text("id", lambda r: r.id)
    agent_id = _o.text("agent_id", lambda r: r.agent_id)
    recorded_at = _o.instant("recorded_at", lambda r: r.recorded_at)
    key = (id,)
    order = (recorded_at.desc(),)
    indexes = (Index((agent_id.asc(), recorded_at.desc())),)


_p = Columns[ParkedContext]()


class ParkedContexts(Table[ParkedContext, str]):
    name = "parked_contexts"
    noun = "parked_context"
    entity = ParkedContext
    id = _p.text("id", lambda p: p.id)
    agent_id = _p.text("agent_id", lambda p: p.agent_id)
    approval_id = _p.text("approval_id", lambda p: p.approval_id)
    parked_at = _p.instant("parked_at", lambda p: p.parked_at)
    key = (id,)
    order = (parked_at.desc(),)
    indexes = (Index((agent_id.asc(), parked_at.desc())), Index((approval_id.asc(), parked_at.desc())))


_a = Columns[AuditEntry]()


class AuditEntries(Table[AuditEntry, str]):
    name = "audit_entries"
    noun = "audit_entry"
    entity = AuditEntry
    id = _a.text("id", lambda a: a.id)
    agent_id = _a.text("agent_id", lambda a: a.agent_id)
    action_type = _a.text("action_type", lambda a: a.action_type)
    verdict = _a.text("verdict", lambda a: a.verdict)
    risk_level = _a.text("risk_level", lambda a: a.risk_level)
    timestamp = _a.instant("timestamp", lambda a: a.timestamp)
    key = (id,)
    order = (timestamp.desc(),)
    indexes = (
        Index((timestamp.desc(),)),
        Index((agent_id.asc(), timestamp.desc())),
        Index((action_type.asc(), timestamp.desc())),
        Index((verdict.asc(), timestamp.desc())),
        Index((risk_level.asc(), timestamp.desc())),
    )


_u = Columns[User]()


class Users(Table[User, str]):
    """`ceo` is set for whoever is: there is one at most."""

    name = "users"
    noun = "user"
    entity = User
    id = _u.text("id", lambda u: u.id)
    username = _u.text("username", lambda u: u.username)
    role = _u.text("role", lambda u: u.role)
    ceo = _u.text("ceo", lambda u: u.role if u.role is HumanRole.CEO else None)
    created_at = _u.instant("created_at", lambda u: u.created_at)
    key = (id,)
    order = (created_at.asc(),)
    unique = (Unique((username,)), Unique((ceo,), where_not_null=ceo))


_k = Columns[ApiKey]()


class ApiKeys(Table[ApiKey, str]):
    name = "api_keys"
    noun = "api_key"
    entity = ApiKey
    id = _k.text("id", lambda k: k.id)
    user_id = _k.text("user_id", lambda k: k.user_id)
    key_hash = _k.text("key_hash", lambda k: k.key_hash)
    created_at = _k.instant("created_at", lambda k: k.created_at)
    key = (id,)
    order = (created_at.asc(),)
    unique = (Unique((key_hash,)),)
    indexes = (Index((user_id.asc(), created_at.asc())),)
    refs = (Ref(user_id, Users, on_delete="cascade"),)


_h = Columns[Checkpoint]()


class Checkpoints(Table[Checkpoint, str]):
    name = "checkpoints"
    noun = "checkpoint"
    entity = Checkpoint
    id = _h.text("id", lambda c: c.id)
    execution_id = _h.text("execution_id", lambda c: c.execution_id)
    task_id = _h.text("task_id", lambda c: c.task_id)
    turn = _h.integer("turn", lambda c: c.turn_number)
    created_at = _h.instant("created_at", lambda c: c.created_at)
    key = (id,)
    order = (turn.desc(), created_at.desc())
    indexes = (
        Index((execution_id.asc(), turn.desc(), created_at.desc())),
        Index((task_id.asc(), turn.desc(), created_at.desc())),
    )


_b = Columns[Heartbeat]()


class Heartbeats(Table[Heartbeat, str]):
    name = "heartbeats"
    noun = "heartbeat"
    entity = Heartbeat
    execution_id = _b.text("execution_id", lambda h: h.execution_id)
    last_at = _b.instant("last_at", lambda h: h.last_heartbeat_at)
    key = (execution_id,)
    order = (last_at.asc(),)
    indexes = (Index((last_at.asc(),)),)


_s = Columns[AgentRuntimeState]()


class AgentStates(Table[AgentRuntimeState, str]):
    name = "agent_states"
    noun = "agent_state"
    entity = AgentRuntimeState
    agent_id = _s.text("agent_id", lambda s: s.agent_id)
    status = _s.text("status", lambda s: s.status)
    last_activity_at = _s.instant("last_activity_at", lambda s: s.last_activity_at)
    key = (agent_id,)
    order = (last_activity_at.desc(),)
    indexes = (Index((status.asc(), last_activity_at.desc())),)


_n = Columns[NamespacedSetting]()


class NamespacedSettings(Table[NamespacedSetting, tuple[str, str]]):
    name = "namespaced_settings"
    noun = "namespaced_setting"
    entity = NamespacedSetting
    namespace = _n.text("namespace", lambda s: s.namespace)
    setting = _n.text("key", lambda s: s.key)
    key = (namespace, setting)
    order = (namespace.asc(), setting.asc())


_f = Columns[Artifact]()


class Artifacts(Table[Artifact, str]):
    name = "artifacts"
    noun = "artifact"
    entity = Artifact
    id = _f.text("id", lambda a: a.id)
    task_id = _f.text("task_id", lambda a: a.task_id)
    created_by = _f.text("created_by", lambda a: a.created_by)
    type = _f.text("type", lambda a: a.type)
    key = (id,)
    order = (id.asc(),)
    indexes = (
        Index((task_id.asc(), id.asc())),
        Index((created_by.asc(), id.asc())),
        Index((type.asc(), id.asc())),
    )


_j = Columns[Project]()


class Projects(Table[Project, str]):
    name = "projects"
    noun = "project"
    entity = Project
    id = _j.text("id", lambda p: p.id)
    status = _j.text("status", lambda p: p.status)
    lead = _j.text("lead", lambda p: p.lead)
    key = (id,)
    order = (id.asc(),)
    indexes = (Index((status.asc(), id.asc())), Index((lead.asc(), id.asc())))


_r = Columns[CustomPreset]()


class CustomPresets(Table[CustomPreset, str]):
    name = "custom_presets"
    noun = "custom_preset"
    entity = CustomPreset
    preset = _r.text("name", lambda p: p.name)
    key = (preset,)
    order = (preset.asc(),)


_w = Columns[WorkflowDefinition]()


class WorkflowDefinitions(Table[WorkflowDefinition, str]):
    name = "workflow_definitions"
    noun = "workflow_definition"
    entity = WorkflowDefinition
    id = _w.text("id", lambda w: w.id)
    workflow_type = _w.text("workflow_type", lambda w: w.workflow_type)
    updated_at = _w.instant("updated_at", lambda w: w.updated_at)
    key = (id,)
    order = (updated_at.desc(),)
    indexes = (Index((workflow_type.asc(), updated_at.desc())),)


_x = Columns[WorkflowExecution]()


class WorkflowExecutions(Table[WorkflowExecution, str]):
    name = "workflow_executions"
    noun = "workflow_execution"
    entity = WorkflowExecution
    id = _x.text("id", lambda w: w.id)
    definition_id = _x.text("definition_id", lambda w: w.definition_id)
    status = _x.text("status", lambda w: w.status)
    updated_at = _x.instant("updated_at", lambda w: w.updated_at)
    key = (id,)
    order = (updated_at.desc(),)
    indexes = (Index((definition_id.asc(), updated_at.desc())), Index((status.asc(), updated_at.desc())))
    refs = (Ref(definition_id, WorkflowDefinitions),)


TABLES = (
    CostRecords,
    Messages,
    LifecycleEvents,
    TaskMetrics,
    CollaborationMetrics,
    ParkedContexts,
    AuditEntries,
    Users,
    ApiKeys,
    Checkpoints,
    Heartbeats,
    AgentStates,
    NamespacedSettings,
    Artifacts,
    Projects,
    CustomPresets,
    WorkflowDefinitions,
    WorkflowExecutions,
)
