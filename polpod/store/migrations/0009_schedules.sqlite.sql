-- Schedules of missions; and deadlines, each with when it is looked at next: those that are there, at once.

ALTER TABLE "tasks" ADD COLUMN "sla_at" TEXT;
ALTER TABLE "executions" ADD COLUMN "sla_at" TEXT;
UPDATE "tasks" SET "sla_at" = '1970-01-01T00:00:00.000000Z'
    WHERE "status" NOT IN ('failed', 'cancelled') AND json_valid(doc) AND json_type(doc, '$.deadline') = 'text';
CREATE INDEX "tasks_sla_at_seq" ON "tasks" ("sla_at", "seq") WHERE "sla_at" IS NOT NULL;
CREATE INDEX "executions_sla_at_seq" ON "executions" ("sla_at", "seq") WHERE "sla_at" IS NOT NULL;

CREATE TABLE "schedules" (
    "mission_id" TEXT NOT NULL REFERENCES "missions" ON DELETE CASCADE,
    "wake_at" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("mission_id")
) STRICT;
CREATE INDEX "schedules_wake_at_mission_id" ON "schedules" ("wake_at", "mission_id") WHERE "wake_at" IS NOT NULL;
