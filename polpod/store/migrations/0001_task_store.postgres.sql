-- The task store: each table is the key and the columns that queries need, beside the whole record as JSON.

CREATE TABLE "tasks" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "owner" TEXT COLLATE "C",
    "status" TEXT COLLATE "C",
    "queue" TEXT COLLATE "C",
    "project" TEXT COLLATE "C",
    "assigned_to" TEXT COLLATE "C",
    "mission_id" TEXT COLLATE "C",
    "priority" BIGINT,
    "created_by" BIGINT,
    "idempotency_key" TEXT COLLATE "C",
    "created_at" TEXT COLLATE "C",
    "finished_at" TEXT COLLATE "C",
    "ready_queue" TEXT COLLATE "C",
    "wake_at" TEXT COLLATE "C",
    "busy_queue" TEXT COLLATE "C",
    "live_run" BIGINT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "tasks_seq" ON "tasks" ("seq" NULLS FIRST);
CREATE UNIQUE INDEX "tasks_created_by_idempotency_key" ON "tasks" ("created_by" NULLS FIRST, "idempotency_key" NULLS FIRST) WHERE "idempotency_key" IS NOT NULL;
CREATE INDEX "tasks_ready_queue_priority_seq" ON "tasks" ("ready_queue" NULLS FIRST, "priority" DESC NULLS LAST, "seq" NULLS FIRST) WHERE "ready_queue" IS NOT NULL;
CREATE INDEX "tasks_wake_at_seq" ON "tasks" ("wake_at" NULLS FIRST, "seq" NULLS FIRST) WHERE "wake_at" IS NOT NULL;
CREATE INDEX "tasks_busy_queue_seq" ON "tasks" ("busy_queue" NULLS FIRST, "seq" NULLS FIRST) WHERE "busy_queue" IS NOT NULL;
CREATE INDEX "tasks_status_seq" ON "tasks" ("status" NULLS FIRST, "seq" NULLS FIRST);
CREATE INDEX "tasks_finished_at_seq" ON "tasks" ("finished_at" NULLS FIRST, "seq" NULLS FIRST) WHERE "finished_at" IS NOT NULL;

CREATE TABLE "specs" (
    "id" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);

CREATE TABLE "dependencies" (
    "task_id" TEXT COLLATE "C" NOT NULL REFERENCES "tasks" ON DELETE CASCADE,
    "on_id" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("task_id", "on_id")
);
CREATE INDEX "dependencies_on_id_task_id" ON "dependencies" ("on_id", "task_id");

CREATE TABLE "events" (
    "seq" BIGINT NOT NULL,
    "at" TEXT COLLATE "C",
    "kind" TEXT COLLATE "C",
    "subject" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
);
CREATE INDEX "events_subject_seq" ON "events" ("subject" NULLS FIRST, "seq");

CREATE TABLE "queues" (
    "name" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);

CREATE TABLE "settings" (
    "name" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);
