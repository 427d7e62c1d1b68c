"""Which records a transaction has changed, by whatever statement, cascade or replacement.

Triggers note it in a temporary table, so that a part which is undone takes its notes along.
"""

from __future__ import annotations

from collections.abc import Sequence

from polpod.store.files.layout import Key
from polpod.store.sqlite import Connection, translated
from polpod.store.table import AnyTable

_TRIGGERS = (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
"""No statement changes a key."""


class Changes:
    """Of one connection, from here on.  Raises StoreError."""

    def __init__(self, db: Connection, tables: Sequence[AnyTable]) -> None:
        self._db = db
        self._tables = tables
        with translated(db.path):
            for statement in _statements(tables):
                db.execute(statement)

    def take(self) -> list[tuple[AnyTable, Key]]:
        """What the open transaction has changed since this was last asked, each once, in the order of the first change."""
        with translated(self._db.path):
            noted = dict.fromkeys(self._db.execute("SELECT * FROM changed ORDER BY rowid"))
            if noted:
                self._db.execute("DELETE FROM changed")
        tables = self._tables
        return [(tables[number], tuple(key[: len(tables[number].key)])) for number, *key in noted]


def _statements(tables: Sequence[AnyTable]) -> list[str]:
    width = max(len(table.key) for table in tables)
    parts = ", ".join(f"key{n}" for n in range(width))
    statements = ["PRAGMA temp_store = MEMORY", f"CREATE TEMP TABLE changed (tbl, {parts})"]
    for number, table in enumerate(tables):
        for event, row in _TRIGGERS:
            key = [f'{row}."{column.name}"' for column in table.key] + ["NULL"] * (width - len(table.key))
            statements.append(
                f'CREATE TEMP TRIGGER "{table.name}_{event}" AFTER {event} ON main."{table.name}" '
                f"BEGIN INSERT INTO changed VALUES ({number}, {', '.join(key)}); END"
            )
    return statements
