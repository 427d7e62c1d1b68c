-- Tasks are counted by status and queue from an index alone.

DROP INDEX "tasks_status_seq";
CREATE INDEX "tasks_status_seq_queue" ON "tasks" ("status", "seq", "queue");

-- What is known of runs before says how long the same work may take.
ALTER TABLE "task_metrics" ADD COLUMN "spec_id" TEXT;
ALTER TABLE "task_metrics" ADD COLUMN "work" TEXT;
CREATE INDEX "task_metrics_spec_id_completed_at" ON "task_metrics" ("spec_id", "completed_at" DESC) WHERE "spec_id" IS NOT NULL;
CREATE INDEX "task_metrics_work_completed_at" ON "task_metrics" ("work", "completed_at" DESC) WHERE "work" IS NOT NULL;
