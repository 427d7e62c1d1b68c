-- The task store: each table is the key and the columns that queries need, beside the whole record as JSON.

CREATE TABLE "tasks" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "owner" TEXT,
    "status" TEXT,
    "queue" TEXT,
    "project" TEXT,
    "assigned_to" TEXT,
    "mission_id" TEXT,
    "priority" INTEGER,
    "created_by" INTEGER,
    "idempotency_key" TEXT,
    "created_at" TEXT,
    "finished_at" TEXT,
    "ready_queue" TEXT,
    "wake_at" TEXT,
    "busy_queue" TEXT,
    "live_run" INTEGER,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "tasks_seq" ON "tasks" ("seq");
CREATE UNIQUE INDEX "tasks_created_by_idempotency_key" ON "tasks" ("created_by", "idempotency_key") WHERE "idempotency_key" IS NOT NULL;
CREATE INDEX "tasks_ready_queue_priority_seq" ON "tasks" ("ready_queue", "priority" DESC, "seq") WHERE "ready_queue" IS NOT NULL;
CREATE INDEX "tasks_wake_at_seq" ON "tasks" ("wake_at", "seq") WHERE "wake_at" IS NOT NULL;
CREATE INDEX "tasks_busy_queue_seq" ON "tasks" ("busy_queue", "seq") WHERE "busy_queue" IS NOT NULL;
CREATE INDEX "tasks_status_seq" ON "tasks" ("status", "seq");
CREATE INDEX "tasks_finished_at_seq" ON "tasks" ("finished_at", "seq") WHERE "finished_at" IS NOT NULL;

CREATE TABLE "specs" (
    "id" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;

CREATE TABLE "dependencies" (
    "task_id" TEXT NOT NULL REFERENCES "tasks" ON DELETE CASCADE,
    "on_id" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("task_id", "on_id")
) STRICT;
CREATE INDEX "dependencies_on_id_task_id" ON "dependencies" ("on_id", "task_id");

CREATE TABLE "events" (
    "seq" INTEGER NOT NULL,
    "at" TEXT,
    "kind" TEXT,
    "subject" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
) STRICT;
CREATE INDEX "events_subject_seq" ON "events" ("subject", "seq");

CREATE TABLE "queues" (
    "name" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;

CREATE TABLE "settings" (
    "name" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;
