"""All tables of the task store, whatever part they are of.

Rules:

1. Each table is made by exactly one migration, and the migrations together lead to what these tables say.
2. A table that others refer to stands before them.
"""

from __future__ import annotations

from polpod.store import a2a, tables

TABLES = (*tables.TABLES, *a2a.TABLES)
