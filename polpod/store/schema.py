"""All tables of the task store, each after those that it refers to."""

from __future__ import annotations

from polpod.store import polpo, tables
from polpod.store.table import AnyTable

TABLES: tuple[AnyTable, ...] = (*tables.TABLES, *polpo.TABLES)
