-- Tasks are counted by status and queue from an index alone.

DROP INDEX "tasks_status_seq";
CREATE INDEX "tasks_status_seq_queue" ON "tasks" ("status" NULLS FIRST, "seq" NULLS FIRST, "queue" NULLS FIRST);

-- What is known of runs before says how long the same work may take.
ALTER TABLE "task_metrics" ADD COLUMN "spec_id" TEXT COLLATE "C";
ALTER TABLE "task_metrics" ADD COLUMN "work" TEXT COLLATE "C";
CREATE INDEX "task_metrics_spec_id_completed_at" ON "task_metrics" ("spec_id" NULLS FIRST, "completed_at" DESC NULLS LAST) WHERE "spec_id" IS NOT NULL;
CREATE INDEX "task_metrics_work_completed_at" ON "task_metrics" ("work" NULLS FIRST, "completed_at" DESC NULLS LAST) WHERE "work" IS NOT NULL;
