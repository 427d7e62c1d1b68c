-- What the owners of tasks that are not polpod's call their status: an organisation lists its tasks by it.

ALTER TABLE "tasks" ADD COLUMN "other_status" TEXT COLLATE "C";
DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN SELECT "id", doc FROM "tasks" WHERE "owner" <> 'polpod' LOOP
        BEGIN
            UPDATE "tasks" SET "other_status" = found.doc::json #>> '{document,status}'
                WHERE "id" = found."id" AND json_typeof(found.doc::json #> '{document,status}') = 'string';
        EXCEPTION WHEN invalid_text_representation OR untranslatable_character OR statement_too_complex THEN
            NULL;  -- it does not decode, or is nested without end: polpod sets it aside when it reads it
        END;
    END LOOP;
END
$$;
CREATE INDEX "tasks_other_status_seq" ON "tasks" ("other_status" NULLS FIRST, "seq" NULLS FIRST) WHERE "other_status" IS NOT NULL;
