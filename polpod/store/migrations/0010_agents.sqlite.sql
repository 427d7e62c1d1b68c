-- Agents that polpo.json does not know.

CREATE TABLE "agents" (
    "name" TEXT NOT NULL,
    "team" TEXT,
    "execution_id" TEXT,
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
) STRICT;
CREATE INDEX "agents_team_name" ON "agents" ("team", "name");
CREATE INDEX "agents_execution_id_name" ON "agents" ("execution_id", "name") WHERE "execution_id" IS NOT NULL;
