-- Schedules of missions; and deadlines, each with when it is looked at next: those that are there, at once.

ALTER TABLE "tasks" ADD COLUMN "sla_at" TEXT COLLATE "C";
ALTER TABLE "executions" ADD COLUMN "sla_at" TEXT COLLATE "C";
DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN SELECT "id", doc FROM "tasks" WHERE "status" NOT IN ('failed', 'cancelled') LOOP
        BEGIN
            UPDATE "tasks" SET "sla_at" = '1970-01-01T00:00:00.000000Z'
                WHERE "id" = found."id" AND json_typeof(found.doc::json -> 'deadline') = 'string';
        EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
            NULL;  -- it does not decode: polpod sets it aside when it reads it
        END;
    END LOOP;
END
$$;
CREATE INDEX "tasks_sla_at_seq" ON "tasks" ("sla_at" NULLS FIRST, "seq" NULLS FIRST) WHERE "sla_at" IS NOT NULL;
CREATE INDEX "executions_sla_at_seq" ON "executions" ("sla_at" NULLS FIRST, "seq" NULLS FIRST) WHERE "sla_at" IS NOT NULL;

CREATE TABLE "schedules" (
    "mission_id" TEXT COLLATE "C" NOT NULL REFERENCES "missions" ON DELETE CASCADE,
    "wake_at" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("mission_id")
);
CREATE INDEX "schedules_wake_at_mission_id" ON "schedules" ("wake_at" NULLS FIRST, "mission_id") WHERE "wake_at" IS NOT NULL;
