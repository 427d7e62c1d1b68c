-- Rows that meant nothing to polpod, kept as they were found.

CREATE TABLE "quarantine" (
    "seq" INTEGER NOT NULL,
    "subject" TEXT,
    "idempotency_key" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("seq")
) STRICT;
CREATE INDEX "quarantine_subject_seq" ON "quarantine" ("subject", "seq");
CREATE INDEX "quarantine_idempotency_key" ON "quarantine" ("idempotency_key") WHERE "idempotency_key" IS NOT NULL;
