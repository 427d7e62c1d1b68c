-- Executions of missions: what holds their tasks back, and where each task of one stands.

ALTER TABLE "tasks" ADD COLUMN "execution_id" TEXT COLLATE "C";
ALTER TABLE "tasks" ADD COLUMN "stage" TEXT COLLATE "C";
DROP INDEX "tasks_ready_queue_priority_seq";
CREATE INDEX "tasks_ready_queue_priority_seq_execution_id" ON "tasks" ("ready_queue" NULLS FIRST, "priority" DESC NULLS LAST, "seq" NULLS FIRST, "execution_id" NULLS FIRST) WHERE "ready_queue" IS NOT NULL;
CREATE INDEX "tasks_execution_id_stage_seq" ON "tasks" ("execution_id" NULLS FIRST, "stage" NULLS FIRST, "seq" NULLS FIRST) WHERE "stage" IS NOT NULL;

-- What a task waits for is found without reading what it waited for.
ALTER TABLE "dependencies" ADD COLUMN "unmet" TEXT COLLATE "C";
DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN SELECT "task_id", "on_id", doc FROM "dependencies" LOOP
        BEGIN
            UPDATE "dependencies" SET "unmet" = found."task_id"
                WHERE "task_id" = found."task_id" AND "on_id" = found."on_id"
                    AND (found.doc::json ->> 'met') IS DISTINCT FROM 'true';
        EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
            NULL;  -- it does not decode: polpod sets it aside when it reads it
        END;
    END LOOP;
END
$$;
CREATE INDEX "dependencies_unmet_task_id_on_id" ON "dependencies" ("unmet" NULLS FIRST, "task_id", "on_id") WHERE "unmet" IS NOT NULL;

CREATE TABLE "executions" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "mission_id" TEXT COLLATE "C",
    "number" BIGINT,
    "idle" TEXT COLLATE "C",
    "live" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "executions_seq" ON "executions" ("seq" NULLS FIRST);
CREATE UNIQUE INDEX "executions_mission_id_number" ON "executions" ("mission_id" NULLS FIRST, "number" NULLS FIRST);
CREATE INDEX "executions_idle_id" ON "executions" ("idle" NULLS FIRST, "id") WHERE "idle" IS NOT NULL;
CREATE INDEX "executions_live_seq" ON "executions" ("live" NULLS FIRST, "seq" NULLS FIRST) WHERE "live" IS NOT NULL;

CREATE TABLE "mission_documents" (
    "id" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);

CREATE TABLE "barriers" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "execution_id" TEXT COLLATE "C" REFERENCES "executions" ON DELETE CASCADE,
    "holding" TEXT COLLATE "C",
    "until" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "barriers_seq" ON "barriers" ("seq" NULLS FIRST);
CREATE INDEX "barriers_execution_id_seq" ON "barriers" ("execution_id" NULLS FIRST, "seq" NULLS FIRST);
CREATE INDEX "barriers_holding_seq" ON "barriers" ("holding" NULLS FIRST, "seq" NULLS FIRST) WHERE "holding" IS NOT NULL;
CREATE INDEX "barriers_until_id" ON "barriers" ("until" NULLS FIRST, "id") WHERE "until" IS NOT NULL;

CREATE TABLE "barrier_tasks" (
    "barrier_id" TEXT COLLATE "C" NOT NULL REFERENCES "barriers" ON DELETE CASCADE,
    "task_id" TEXT COLLATE "C" NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY ("barrier_id", "task_id")
);
CREATE INDEX "barrier_tasks_task_id_barrier_id" ON "barrier_tasks" ("task_id", "barrier_id");

CREATE TABLE "unsettled_tasks" (
    "task_id" TEXT COLLATE "C" NOT NULL,
    "execution_id" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("task_id")
);
CREATE INDEX "unsettled_tasks_execution_id_task_id" ON "unsettled_tasks" ("execution_id" NULLS FIRST, "task_id");
