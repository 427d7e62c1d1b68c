"""The agents that polpo.json does not know."""

from __future__ import annotations

from polpod.model.agents import StoredAgent
from polpod.store.table import Columns, Index, Table

_a = Columns[StoredAgent]()


class Agents(Table[StoredAgent, str]):
    name = "agents"
    noun = "agent"
    entity = StoredAgent
    agent = _a.text("name", lambda a: a.name)
    team = _a.text("team", lambda a: a.agent.team)
    execution_id = _a.text("execution_id", lambda a: a.execution_id)
    key = (agent,)
    indexes = (
        Index((team.asc(), agent.asc())),
        Index((execution_id.asc(), agent.asc()), where_not_null=execution_id),
    )


TABLES = (Agents,)
