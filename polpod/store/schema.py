"""All tables of the task store, those that others refer to first."""

from __future__ import annotations

from polpod.store import polpo, tables

TABLES = (*tables.TABLES, *polpo.TABLES)
