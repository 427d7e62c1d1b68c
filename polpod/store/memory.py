"""A store that is gone with its process: SQLite's engine on a database in memory, by one connection that does everything.

So indexes, uniqueness, references, order and savepoints are the same code as of a database file, and the schema is what
the same migrations make.
"""

from __future__ import annotations

from polpod.store.migrate import Schema, migrate
from polpod.store.session import Sessions
from polpod.store.sqlite import BUSY_TIMEOUT, FOREIGN_KEYS, Connection, connect, set_pragmas, translated
from polpod.store.sqlite_session import SqliteSession


class MemorySession(SqliteSession):
    """Reads on the connection that writes, in turn; so SQLite has to be told which of the two it is."""

    def begin_reading(self) -> None:
        super().begin_reading()
        self._only_read(True)

    def rollback(self) -> None:
        super().rollback()
        self._only_read(False)

    def _only_read(self, only: bool) -> None:
        with translated(self.db.path):
            self.db.execute(f"PRAGMA query_only = {int(only)}")


def open_memory(name: str, schema: Schema) -> Connection:
    """A new and empty database of this schema; `name` stands for it in messages."""
    with translated(name):
        db = connect(name, "memory", BUSY_TIMEOUT, Connection)
        try:
            set_pragmas(db, FOREIGN_KEYS)
            migrate(db, name, schema)
        except BaseException:
            db.close()
            raise
    return db


def open_sessions(schema: Schema) -> Sessions:
    """As of store/location.py."""
    return Sessions(MemorySession(open_memory("memory", schema)))
