-- An organisation of agents: its people, messages, costs, artifacts and workflows.

CREATE TABLE "cost_records" (
    "seq" BIGINT NOT NULL,
    "agent_id" TEXT COLLATE "C",
    "task_id" TEXT COLLATE "C" REFERENCES "tasks" ON DELETE NO ACTION,
    "cost_usd" DOUBLE PRECISION,
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
);
CREATE INDEX "cost_records_agent_id_seq" ON "cost_records" ("agent_id" NULLS FIRST, "seq");
CREATE INDEX "cost_records_task_id_seq" ON "cost_records" ("task_id" NULLS FIRST, "seq");

CREATE TABLE "messages" (
    "id" TEXT COLLATE "C" NOT NULL,
    "channel" TEXT COLLATE "C",
    "timestamp" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "messages_channel_timestamp" ON "messages" ("channel" NULLS FIRST, "timestamp" DESC NULLS LAST);

CREATE TABLE "lifecycle_events" (
    "id" TEXT COLLATE "C" NOT NULL,
    "agent_id" TEXT COLLATE "C",
    "event_type" TEXT COLLATE "C",
    "timestamp" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "lifecycle_events_agent_id_timestamp" ON "lifecycle_events" ("agent_id" NULLS FIRST, "timestamp" DESC NULLS LAST);
CREATE INDEX "lifecycle_events_event_type_timestamp" ON "lifecycle_events" ("event_type" NULLS FIRST, "timestamp" DESC NULLS LAST);

CREATE TABLE "task_metrics" (
    "id" TEXT COLLATE "C" NOT NULL,
    "agent_id" TEXT COLLATE "C",
    "task_id" TEXT COLLATE "C" REFERENCES "tasks" ON DELETE NO ACTION,
    "completed_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "task_metrics_agent_id_completed_at" ON "task_metrics" ("agent_id" NULLS FIRST, "completed_at" DESC NULLS LAST);
CREATE INDEX "task_metrics_task_id" ON "task_metrics" ("task_id" NULLS FIRST);

CREATE TABLE "collaboration_metrics" (
    "id" TEXT COLLATE "C" NOT NULL,
    "agent_id" TEXT COLLATE "C",
    "recorded_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "collaboration_metrics_agent_id_recorded_at" ON "collaboration_metrics" ("agent_id" NULLS FIRST, "recorded_at" DESC NULLS LAST);

CREATE TABLE "parked_contexts" (
    "id" TEXT COLLATE "C" NOT NULL,
    "agent_id" TEXT COLLATE "C",
    "approval_id" TEXT COLLATE "C",
    "parked_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "parked_contexts_agent_id_parked_at" ON "parked_contexts" ("agent_id" NULLS FIRST, "parked_at" DESC NULLS LAST);
CREATE INDEX "parked_contexts_approval_id_parked_at" ON "parked_contexts" ("approval_id" NULLS FIRST, "parked_at" DESC NULLS LAST);

CREATE TABLE "audit_entries" (
    "id" TEXT COLLATE "C" NOT NULL,
    "agent_id" TEXT COLLATE "C",
    "action_type" TEXT COLLATE "C",
    "verdict" TEXT COLLATE "C",
    "risk_level" TEXT COLLATE "C",
    "timestamp" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "audit_entries_timestamp" ON "audit_entries" ("timestamp" DESC NULLS LAST);
CREATE INDEX "audit_entries_agent_id_timestamp" ON "audit_entries" ("agent_id" NULLS FIRST, "timestamp" DESC NULLS LAST);
CREATE INDEX "audit_entries_action_type_timestamp" ON "audit_entries" ("action_type" NULLS FIRST, "timestamp" DESC NULLS LAST);
CREATE INDEX "audit_entries_verdict_timestamp" ON "audit_entries" ("verdict" NULLS FIRST, "timestamp" DESC NULLS LAST);
CREATE INDEX "audit_entries_risk_level_timestamp" ON "audit_entries" ("risk_level" NULLS FIRST, "timestamp" DESC NULLS LAST);

CREATE TABLE "users" (
    "id" TEXT COLLATE "C" NOT NULL,
    "username" TEXT COLLATE "C",
    "role" TEXT COLLATE "C",
    "ceo" TEXT COLLATE "C",
    "created_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "users_username" ON "users" ("username" NULLS FIRST);
CREATE UNIQUE INDEX "users_ceo" ON "users" ("ceo" NULLS FIRST) WHERE "ceo" IS NOT NULL;

CREATE TABLE "api_keys" (
    "id" TEXT COLLATE "C" NOT NULL,
    "user_id" TEXT COLLATE "C" REFERENCES "users" ON DELETE CASCADE,
    "key_hash" TEXT COLLATE "C",
    "created_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "api_keys_key_hash" ON "api_keys" ("key_hash" NULLS FIRST);
CREATE INDEX "api_keys_user_id_created_at" ON "api_keys" ("user_id" NULLS FIRST, "created_at" NULLS FIRST);

CREATE TABLE "checkpoints" (
    "id" TEXT COLLATE "C" NOT NULL,
    "execution_id" TEXT COLLATE "C",
    "task_id" TEXT COLLATE "C",
    "turn" BIGINT,
    "created_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "checkpoints_execution_id_turn_created_at" ON "checkpoints" ("execution_id" NULLS FIRST, "turn" DESC NULLS LAST, "created_at" DESC NULLS LAST);
CREATE INDEX "checkpoints_task_id_turn_created_at" ON "checkpoints" ("task_id" NULLS FIRST, "turn" DESC NULLS LAST, "created_at" DESC NULLS LAST);

CREATE TABLE "heartbeats" (
    "execution_id" TEXT COLLATE "C" NOT NULL,
    "last_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("execution_id")
);
CREATE INDEX "heartbeats_last_at" ON "heartbeats" ("last_at" NULLS FIRST);

CREATE TABLE "agent_states" (
    "agent_id" TEXT COLLATE "C" NOT NULL,
    "status" TEXT COLLATE "C",
    "last_activity_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("agent_id")
);
CREATE INDEX "agent_states_status_last_activity_at" ON "agent_states" ("status" NULLS FIRST, "last_activity_at" DESC NULLS LAST);

CREATE TABLE "namespaced_settings" (
    "namespace" TEXT COLLATE "C" NOT NULL,
    "key" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("namespace", "key")
);

CREATE TABLE "artifacts" (
    "id" TEXT COLLATE "C" NOT NULL,
    "task_id" TEXT COLLATE "C",
    "created_by" TEXT COLLATE "C",
    "type" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "artifacts_task_id_id" ON "artifacts" ("task_id" NULLS FIRST, "id");
CREATE INDEX "artifacts_created_by_id" ON "artifacts" ("created_by" NULLS FIRST, "id");
CREATE INDEX "artifacts_type_id" ON "artifacts" ("type" NULLS FIRST, "id");

CREATE TABLE "projects" (
    "id" TEXT COLLATE "C" NOT NULL,
    "status" TEXT COLLATE "C",
    "lead" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "projects_status_id" ON "projects" ("status" NULLS FIRST, "id");
CREATE INDEX "projects_lead_id" ON "projects" ("lead" NULLS FIRST, "id");

CREATE TABLE "custom_presets" (
    "name" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);

CREATE TABLE "workflow_definitions" (
    "id" TEXT COLLATE "C" NOT NULL,
    "workflow_type" TEXT COLLATE "C",
    "updated_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "workflow_definitions_workflow_type_updated_at" ON "workflow_definitions" ("workflow_type" NULLS FIRST, "updated_at" DESC NULLS LAST);

CREATE TABLE "workflow_executions" (
    "id" TEXT COLLATE "C" NOT NULL,
    "definition_id" TEXT COLLATE "C" REFERENCES "workflow_definitions" ON DELETE NO ACTION,
    "status" TEXT COLLATE "C",
    "updated_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE INDEX "workflow_executions_definition_id_updated_at" ON "workflow_executions" ("definition_id" NULLS FIRST, "updated_at" DESC NULLS LAST);
CREATE INDEX "workflow_executions_status_updated_at" ON "workflow_executions" ("status" NULLS FIRST, "updated_at" DESC NULLS LAST);
