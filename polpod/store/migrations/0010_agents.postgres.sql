-- Agents that polpo.json does not know.

CREATE TABLE "agents" (
    "name" TEXT COLLATE "C" NOT NULL,
    "team" TEXT COLLATE "C",
    "execution_id" TEXT COLLATE "C",
    doc TEXT NOT NULL,
    PRIMARY KEY ("name")
);
CREATE INDEX "agents_team_name" ON "agents" ("team" NULLS FIRST, "name");
CREATE INDEX "agents_execution_id_name" ON "agents" ("execution_id" NULLS FIRST, "name") WHERE "execution_id" IS NOT NULL;
