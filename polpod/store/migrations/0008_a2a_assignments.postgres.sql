-- Which tasks of polpod's own work on A2A tasks.

CREATE TABLE "a2a_assignments" (
    "task_id" TEXT COLLATE "C" NOT NULL,
    "a2a_id" TEXT COLLATE "C" REFERENCES "a2a_tasks" ON DELETE CASCADE,
    "message" BIGINT,
    "behind" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("task_id")
);
CREATE UNIQUE INDEX "a2a_assignments_a2a_id_message" ON "a2a_assignments" ("a2a_id" NULLS FIRST, "message" NULLS FIRST);
CREATE INDEX "a2a_assignments_behind" ON "a2a_assignments" ("behind" NULLS FIRST) WHERE "behind" IS NOT NULL;
