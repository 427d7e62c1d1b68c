-- Requests for approval: what of polpod's own waits for one, of which there is at most one pending, and when it is due.

ALTER TABLE "approvals" ADD COLUMN "about" TEXT;
ALTER TABLE "approvals" ADD COLUMN "pending" TEXT;
ALTER TABLE "approvals" ADD COLUMN "due" TEXT;
CREATE UNIQUE INDEX "approvals_pending" ON "approvals" ("pending") WHERE "pending" IS NOT NULL;
CREATE INDEX "approvals_about_seq" ON "approvals" ("about", "seq") WHERE "about" IS NOT NULL;
CREATE INDEX "approvals_due_seq" ON "approvals" ("due", "seq") WHERE "due" IS NOT NULL;
