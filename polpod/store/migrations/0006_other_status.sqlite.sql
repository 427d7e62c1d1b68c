-- What the owners of tasks that are not polpod's call their status: an organisation lists its tasks by it.

ALTER TABLE "tasks" ADD COLUMN "other_status" TEXT;
UPDATE "tasks" SET "other_status" = json_extract(doc, '$.document.status')
    WHERE "owner" <> 'polpod' AND json_valid(doc) AND json_type(doc, '$.document.status') = 'text';
CREATE INDEX "tasks_other_status_seq" ON "tasks" ("other_status", "seq") WHERE "other_status" IS NOT NULL;
