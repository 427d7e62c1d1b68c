-- Missions, and what a library's users keep beside their tasks.

CREATE TABLE "missions" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "name" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "missions_seq" ON "missions" ("seq");
CREATE UNIQUE INDEX "missions_name" ON "missions" ("name");

CREATE TABLE "project_state" (
    "name" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;

CREATE TABLE "mission_checkpoints" (
    "name" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;

CREATE TABLE "mission_delays" (
    "name" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;

CREATE TABLE "recorded_runs" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "task_id" TEXT,
    "status" TEXT,
    "started_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "recorded_runs_seq" ON "recorded_runs" ("seq");
CREATE INDEX "recorded_runs_task_id_started_at_seq" ON "recorded_runs" ("task_id", "started_at", "seq");
CREATE INDEX "recorded_runs_status_seq" ON "recorded_runs" ("status", "seq");

CREATE TABLE "chat_sessions" (
    "id" TEXT NOT NULL,
    "agent" TEXT,
    "touched" INTEGER,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "chat_sessions_touched" ON "chat_sessions" ("touched");

CREATE TABLE "chat_messages" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "session_id" TEXT REFERENCES "chat_sessions" ON DELETE CASCADE,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "chat_messages_seq" ON "chat_messages" ("seq");
CREATE INDEX "chat_messages_session_id_seq" ON "chat_messages" ("session_id", "seq");

CREATE TABLE "memories" (
    "scope" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("scope")
) STRICT;

CREATE TABLE "log_sessions" (
    "session_id" TEXT NOT NULL,
    "seq" INTEGER,
    doc TEXT NOT NULL,
    PRIMARY KEY ("session_id")
) STRICT;
CREATE UNIQUE INDEX "log_sessions_seq" ON "log_sessions" ("seq");

CREATE TABLE "log_entries" (
    "seq" INTEGER NOT NULL,
    "session_id" TEXT REFERENCES "log_sessions" ON DELETE CASCADE,
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
) STRICT;
CREATE INDEX "log_entries_session_id_seq" ON "log_entries" ("session_id", "seq");

CREATE TABLE "sent_notifications" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "channel" TEXT,
    "rule_id" TEXT,
    "status" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "sent_notifications_seq" ON "sent_notifications" ("seq");
CREATE INDEX "sent_notifications_channel_seq" ON "sent_notifications" ("channel", "seq");
CREATE INDEX "sent_notifications_rule_id_seq" ON "sent_notifications" ("rule_id", "seq");
CREATE INDEX "sent_notifications_status_seq" ON "sent_notifications" ("status", "seq");

CREATE TABLE "approvals" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "task_id" TEXT,
    "status" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "approvals_seq" ON "approvals" ("seq");
CREATE INDEX "approvals_task_id_seq" ON "approvals" ("task_id", "seq");
CREATE INDEX "approvals_status_seq" ON "approvals" ("status", "seq");
