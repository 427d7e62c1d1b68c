-- Requests for approval: what of polpod's own waits for one, of which there is at most one pending, and when it is due.

ALTER TABLE "approvals" ADD COLUMN "about" TEXT COLLATE "C";
ALTER TABLE "approvals" ADD COLUMN "pending" TEXT COLLATE "C";
ALTER TABLE "approvals" ADD COLUMN "due" TEXT COLLATE "C";
CREATE UNIQUE INDEX "approvals_pending" ON "approvals" ("pending" NULLS FIRST) WHERE "pending" IS NOT NULL;
CREATE INDEX "approvals_about_seq" ON "approvals" ("about" NULLS FIRST, "seq" NULLS FIRST) WHERE "about" IS NOT NULL;
CREATE INDEX "approvals_due_seq" ON "approvals" ("due" NULLS FIRST, "seq" NULLS FIRST) WHERE "due" IS NOT NULL;
