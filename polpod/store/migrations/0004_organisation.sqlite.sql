-- An organisation of agents: its people, messages, costs, artifacts and workflows.

CREATE TABLE "cost_records" (
    "seq" INTEGER NOT NULL,
    "agent_id" TEXT,
    "task_id" TEXT REFERENCES "tasks" ON DELETE NO ACTION,
    "cost_usd" REAL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
) STRICT;
CREATE INDEX "cost_records_agent_id_seq" ON "cost_records" ("agent_id", "seq");
CREATE INDEX "cost_records_task_id_seq" ON "cost_records" ("task_id", "seq");

CREATE TABLE "messages" (
    "id" TEXT NOT NULL,
    "channel" TEXT,
    "timestamp" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "messages_channel_timestamp" ON "messages" ("channel", "timestamp" DESC);

CREATE TABLE "lifecycle_events" (
    "id" TEXT NOT NULL,
    "agent_id" TEXT,
    "event_type" TEXT,
    "timestamp" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "lifecycle_events_agent_id_timestamp" ON "lifecycle_events" ("agent_id", "timestamp" DESC);
CREATE INDEX "lifecycle_events_event_type_timestamp" ON "lifecycle_events" ("event_type", "timestamp" DESC);

CREATE TABLE "task_metrics" (
    "id" TEXT NOT NULL,
    "agent_id" TEXT,
    "task_id" TEXT REFERENCES "tasks" ON DELETE NO ACTION,
    "completed_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "task_metrics_agent_id_completed_at" ON "task_metrics" ("agent_id", "completed_at" DESC);
CREATE INDEX "task_metrics_task_id" ON "task_metrics" ("task_id");

CREATE TABLE "collaboration_metrics" (
    "id" TEXT NOT NULL,
    "agent_id" TEXT,
    "recorded_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "collaboration_metrics_agent_id_recorded_at" ON "collaboration_metrics" ("agent_id", "recorded_at" DESC);

CREATE TABLE "parked_contexts" (
    "id" TEXT NOT NULL,
    "agent_id" TEXT,
    "approval_id" TEXT,
    "parked_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "parked_contexts_agent_id_parked_at" ON "parked_contexts" ("agent_id", "parked_at" DESC);
CREATE INDEX "parked_contexts_approval_id_parked_at" ON "parked_contexts" ("approval_id", "parked_at" DESC);

CREATE TABLE "audit_entries" (
    "id" TEXT NOT NULL,
    "agent_id" TEXT,
    "action_type" TEXT,
    "verdict" TEXT,
    "risk_level" TEXT,
    "timestamp" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "audit_entries_timestamp" ON "audit_entries" ("timestamp" DESC);
CREATE INDEX "audit_entries_agent_id_timestamp" ON "audit_entries" ("agent_id", "timestamp" DESC);
CREATE INDEX "audit_entries_action_type_timestamp" ON "audit_entries" ("action_type", "timestamp" DESC);
CREATE INDEX "audit_entries_verdict_timestamp" ON "audit_entries" ("verdict", "timestamp" DESC);
CREATE INDEX "audit_entries_risk_level_timestamp" ON "audit_entries" ("risk_level", "timestamp" DESC);

CREATE TABLE "users" (
    "id" TEXT NOT NULL,
    "username" TEXT,
    "role" TEXT,
    "ceo" TEXT,
    "created_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "users_username" ON "users" ("username");
CREATE UNIQUE INDEX "users_ceo" ON "users" ("ceo") WHERE "ceo" IS NOT NULL;

CREATE TABLE "api_keys" (
    "id" TEXT NOT NULL,
    "user_id" TEXT REFERENCES "users" ON DELETE CASCADE,
    "key_hash" TEXT,
    "created_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "api_keys_key_hash" ON "api_keys" ("key_hash");
CREATE INDEX "api_keys_user_id_created_at" ON "api_keys" ("user_id", "created_at");

CREATE TABLE "checkpoints" (
    "id" TEXT NOT NULL,
    "execution_id" TEXT,
    "task_id" TEXT,
    "turn" INTEGER,
    "created_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "checkpoints_execution_id_turn_created_at" ON "checkpoints" ("execution_id", "turn" DESC, "created_at" DESC);
CREATE INDEX "checkpoints_task_id_turn_created_at" ON "checkpoints" ("task_id", "turn" DESC, "created_at" DESC);

CREATE TABLE "heartbeats" (
    "execution_id" TEXT NOT NULL,
    "last_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("execution_id")
) STRICT;
CREATE INDEX "heartbeats_last_at" ON "heartbeats" ("last_at");

CREATE TABLE "agent_states" (
    "agent_id" TEXT NOT NULL,
    "status" TEXT,
    "last_activity_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("agent_id")
) STRICT;
CREATE INDEX "agent_states_status_last_activity_at" ON "agent_states" ("status", "last_activity_at" DESC);

CREATE TABLE "namespaced_settings" (
    "namespace" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("namespace", "key")
) STRICT;

CREATE TABLE "artifacts" (
    "id" TEXT NOT NULL,
    "task_id" TEXT,
    "created_by" TEXT,
    "type" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "artifacts_task_id_id" ON "artifacts" ("task_id", "id");
CREATE INDEX "artifacts_created_by_id" ON "artifacts" ("created_by", "id");
CREATE INDEX "artifacts_type_id" ON "artifacts" ("type", "id");

CREATE TABLE "projects" (
    "id" TEXT NOT NULL,
    "status" TEXT,
    "lead" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "projects_status_id" ON "projects" ("status", "id");
CREATE INDEX "projects_lead_id" ON "projects" ("lead", "id");

CREATE TABLE "custom_presets" (
    "name" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;

CREATE TABLE "workflow_definitions" (
    "id" TEXT NOT NULL,
    "workflow_type" TEXT,
    "updated_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "workflow_definitions_workflow_type_updated_at" ON "workflow_definitions" ("workflow_type", "updated_at" DESC);

CREATE TABLE "workflow_executions" (
    "id" TEXT NOT NULL,
    "definition_id" TEXT REFERENCES "workflow_definitions" ON DELETE NO ACTION,
    "status" TEXT,
    "updated_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE INDEX "workflow_executions_definition_id_updated_at" ON "workflow_executions" ("definition_id", "updated_at" DESC);
CREATE INDEX "workflow_executions_status_updated_at" ON "workflow_executions" ("status", "updated_at" DESC);
