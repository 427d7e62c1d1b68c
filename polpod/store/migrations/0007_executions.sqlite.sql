-- Executions of missions: what holds their tasks back, and where each task of one stands.

ALTER TABLE "tasks" ADD COLUMN "execution_id" TEXT;
ALTER TABLE "tasks" ADD COLUMN "stage" TEXT;
DROP INDEX "tasks_ready_queue_priority_seq";
CREATE INDEX "tasks_ready_queue_priority_seq_execution_id" ON "tasks" ("ready_queue", "priority" DESC, "seq", "execution_id") WHERE "ready_queue" IS NOT NULL;
CREATE INDEX "tasks_execution_id_stage_seq" ON "tasks" ("execution_id", "stage", "seq") WHERE "stage" IS NOT NULL;

-- What a task waits for is found without reading what it waited for.
ALTER TABLE "dependencies" ADD COLUMN "unmet" TEXT;
UPDATE "dependencies" SET "unmet" = "task_id" WHERE json_valid(doc) AND json_extract(doc, '$.met') IS NOT 1;
CREATE INDEX "dependencies_unmet_task_id_on_id" ON "dependencies" ("unmet", "task_id", "on_id") WHERE "unmet" IS NOT NULL;

CREATE TABLE "executions" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "mission_id" TEXT,
    "number" INTEGER,
    "idle" TEXT,
    "live" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "executions_seq" ON "executions" ("seq");
CREATE UNIQUE INDEX "executions_mission_id_number" ON "executions" ("mission_id", "number");
CREATE INDEX "executions_idle_id" ON "executions" ("idle", "id") WHERE "idle" IS NOT NULL;
CREATE INDEX "executions_live_seq" ON "executions" ("live", "seq") WHERE "live" IS NOT NULL;

CREATE TABLE "mission_documents" (
    "id" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;

CREATE TABLE "barriers" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "execution_id" TEXT REFERENCES "executions" ON DELETE CASCADE,
    "holding" TEXT,
    "until" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "barriers_seq" ON "barriers" ("seq");
CREATE INDEX "barriers_execution_id_seq" ON "barriers" ("execution_id", "seq");
CREATE INDEX "barriers_holding_seq" ON "barriers" ("holding", "seq") WHERE "holding" IS NOT NULL;
CREATE INDEX "barriers_until_id" ON "barriers" ("until", "id") WHERE "until" IS NOT NULL;

CREATE TABLE "barrier_tasks" (
    "barrier_id" TEXT NOT NULL REFERENCES "barriers" ON DELETE CASCADE,
    "task_id" TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("barrier_id", "task_id")
) STRICT;
CREATE INDEX "barrier_tasks_task_id_barrier_id" ON "barrier_tasks" ("task_id", "barrier_id");

CREATE TABLE "unsettled_tasks" (
    "task_id" TEXT NOT NULL,
    "execution_id" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("task_id")
) STRICT;
CREATE INDEX "unsettled_tasks_execution_id_task_id" ON "unsettled_tasks" ("execution_id", "task_id");
