-- Rows that meant nothing to polpod, kept as they were found.

CREATE TABLE "quarantine" (
    "seq" BIGINT NOT NULL,
    "subject" TEXT COLLATE "C",
    "idempotency_key" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
);
CREATE INDEX "quarantine_subject_seq" ON "quarantine" ("subject" NULLS FIRST, "seq");
CREATE INDEX "quarantine_idempotency_key" ON "quarantine" ("idempotency_key" NULLS FIRST) WHERE "idempotency_key" IS NOT NULL;
