-- A2A tasks, as agents with an Elkar store send them to each other.

CREATE TABLE "a2a_tasks" (
    "id" TEXT NOT NULL,
    "seq" INTEGER,
    "created_by" INTEGER,
    "created_run" INTEGER,
    doc TEXT NOT NULL,
    PRIMARY KEY ("id")
) STRICT;
CREATE UNIQUE INDEX "a2a_tasks_seq" ON "a2a_tasks" ("seq");
CREATE INDEX "a2a_tasks_created_by_seq" ON "a2a_tasks" ("created_by", "seq" DESC);
CREATE INDEX "a2a_tasks_created_run_seq" ON "a2a_tasks" ("created_run", "seq" DESC) WHERE "created_run" IS NOT NULL;
