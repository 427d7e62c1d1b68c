-- Which tasks of polpod's own work on A2A tasks.

CREATE TABLE "a2a_assignments" (
    "task_id" TEXT NOT NULL,
    "a2a_id" TEXT REFERENCES "a2a_tasks" ON DELETE CASCADE,
    "message" INTEGER,
    "behind" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("task_id")
) STRICT;
CREATE UNIQUE INDEX "a2a_assignments_a2a_id_message" ON "a2a_assignments" ("a2a_id", "message");
CREATE INDEX "a2a_assignments_behind" ON "a2a_assignments" ("behind") WHERE "behind" IS NOT NULL;
