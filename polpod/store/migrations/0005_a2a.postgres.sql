-- A2A tasks, as agents with an Elkar store send them to each other.

CREATE TABLE "a2a_tasks" (
    "id" TEXT COLLATE "C" NOT NULL,
    "seq" BIGINT,
    "created_by" BIGINT,
    "created_run" BIGINT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "a2a_tasks_seq" ON "a2a_tasks" ("seq" NULLS FIRST);
CREATE INDEX "a2a_tasks_created_by_seq" ON "a2a_tasks" ("created_by" NULLS FIRST, "seq" DESC NULLS LAST);
CREATE INDEX "a2a_tasks_created_run_seq" ON "a2a_tasks" ("created_run" NULLS FIRST, "seq" DESC NULLS LAST) WHERE "created_run" IS NOT NULL;
