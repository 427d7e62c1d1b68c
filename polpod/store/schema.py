"""All tables of the task store, each after those that it refers to."""

from __future__ import annotations

from polpod.store import a2a, agents, missions, organisation, polpo, schedules, tables
from polpod.store.table import AnyTable

TABLES: tuple[AnyTable, ...] = (
    *(*tables.TABLES, *organisation.TABLES, *polpo.TABLES, *a2a.TABLES, *missions.TABLES),
    *(*schedules.TABLES, *agents.TABLES),
)
