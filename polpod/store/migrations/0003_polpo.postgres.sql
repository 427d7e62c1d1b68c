-- Missions, and what a library's users keep beside their tasks.

CREATE TABLE "missions" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "name" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "missions_seq" ON "missions" ("seq" NULLS FIRST);
CREATE UNIQUE INDEX "missions_name" ON "missions" ("name" NULLS FIRST);

CREATE TABLE "project_state" (
    "name" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);

CREATE TABLE "mission_checkpoints" (
    "name" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);

CREATE TABLE "mission_delays" (
    "name" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);

CREATE TABLE "recorded_runs" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "task_id" TEXT COLLATE "C",
    "status" TEXT COLLATE "C",
    "started_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "recorded_runs_seq" ON "recorded_runs" ("seq" NULLS FIRST);
CREATE INDEX "recorded_runs_task_id_started_at_seq" ON "recorded_runs" ("task_id" NULLS FIRST, "started_at" NULLS FIRST, "seq" NULLS FIRST);
CREATE INDEX "recorded_runs_status_seq" ON "recorded_runs" ("status" NULLS FIRST, "seq" NULLS FIRST);

CREATE TABLE "chat_sessions" (
    "id" TEXT COLLATE "C" NOT NULL,
    "agent" TEXT COLLATE "C",
    "touched" BIGINT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "chat_sessions_touched" ON "chat_sessions" ("touched" NULLS FIRST);

CREATE TABLE "chat_messages" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "session_id" TEXT COLLATE "C" REFERENCES "chat_sessions" ON DELETE CASCADE,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "chat_messages_seq" ON "chat_messages" ("seq" NULLS FIRST);
CREATE INDEX "chat_messages_session_id_seq" ON "chat_messages" ("session_id" NULLS FIRST, "seq" NULLS FIRST);

CREATE TABLE "memories" (
    "scope" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("scope")
);

CREATE TABLE "log_sessions" (
    "session_id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("session_id")
);
CREATE UNIQUE INDEX "log_sessions_seq" ON "log_sessions" ("seq" NULLS FIRST);

CREATE TABLE "log_entries" (
    "seq" BIGINT NOT NULL,
    "session_id" TEXT COLLATE "C" REFERENCES "log_sessions" ON DELETE CASCADE,
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
);
CREATE INDEX "log_entries_session_id_seq" ON "log_entries" ("session_id" NULLS FIRST, "seq");

CREATE TABLE "sent_notifications" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "channel" TEXT COLLATE "C",
    "rule_id" TEXT COLLATE "C",
    "status" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "sent_notifications_seq" ON "sent_notifications" ("seq" NULLS FIRST);
CREATE INDEX "sent_notifications_channel_seq" ON "sent_notifications" ("channel" NULLS FIRST, "seq" NULLS FIRST);
CREATE INDEX "sent_notifications_rule_id_seq" ON "sent_notifications" ("rule_id" NULLS FIRST, "seq" NULLS FIRST);
CREATE INDEX "sent_notifications_status_seq" ON "sent_notifications" ("status" NULLS FIRST, "seq" NULLS FIRST);

CREATE TABLE "approvals" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "task_id" TEXT COLLATE "C",
    "status" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "approvals_seq" ON "approvals" ("seq" NULLS FIRST);
CREATE INDEX "approvals_task_id_seq" ON "approvals" ("task_id" NULLS FIRST, "seq" NULLS FIRST);
CREATE INDEX "approvals_status_seq" ON "approvals" ("status" NULLS FIRST, "seq" NULLS FIRST);
