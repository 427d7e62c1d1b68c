"""SQLite's session: one connection to a database file, with the WAL beside it."""

from __future__ import annotations

import sqlite3

from polpod.errors import CommitInDoubt, DiskFull
from polpod.model.events import Event
from polpod.store.migrate import Schema
from polpod.store.session import Sessions
from polpod.store.sqlite import Connection, SqliteRows, open_reader, open_writer, primary_code, translate, translated
from polpod.store.wal import Wal

READERS = 3

_NOT_DONE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}


class SqliteSession:
    """A connection that only reads.  `db` must be in no transaction; it belongs to the session from here on."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.rows = SqliteRows(db)

    @property
    def where(self) -> str:
        return self.db.path

    @property
    def in_transaction(self) -> bool:
        return self.db.in_transaction

    def begin(self, *, durable: bool) -> None:
        with translated(self.db.path):
            self.db.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        with translated(self.db.path):
            self.db.execute("BEGIN")

    def commit(self) -> None:
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            if primary_code(error) in _NOT_DONE:
                raise translate(error, self.db.path) from error
            raise CommitInDoubt(str(error)) from error

    def rollback(self) -> None:
        if self.db.in_transaction:
            with translated(self.db.path):
                self.db.execute("ROLLBACK")

    def rest(self, *, full: bool) -> None:
        pass

    def found(self) -> tuple[Event, ...]:
        return ()

    def truncate(self) -> bool:
        return True

    def close(self) -> None:
        self.db.close()


class SqliteWriter(SqliteSession):
    """The one that writes, keeps the WAL short, and sees to it that what is committed has its space (store/wal.py)."""

    def __init__(self, db: Connection) -> None:
        """`db` must be at synchronous=FULL."""
        super().__init__(db)
        self._wal = Wal(db)
        self._durable = True

    def begin(self, *, durable: bool) -> None:
        with translated(self.db.path):
            if durable is not self._durable:
                self.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
        super().begin(durable=durable)

    def commit(self) -> None:
        with translated(self.db.path):
            reserved = self._wal.reserve()
        if not reserved:
            raise DiskFull(f"{self.db.path}: no space left")
        super().commit()

    def rest(self, *, full: bool) -> None:
        """On a full disk, what is free of it again is worth most where it lets the WAL go."""
        if full:
            self._wal.truncate()
        elif self._wal.due():
            self._wal.checkpoint()

    def truncate(self) -> bool:
        """Empty the WAL into the database; False if others use it just now."""
        return self._wal.truncate()

    def close(self) -> None:
        super().close()
        self._wal.close()


def open_sessions(path: str, schema: Schema) -> Sessions:
    """As of store/location.py, for a database file."""
    writer = SqliteWriter(open_writer(path, schema))
    return Sessions(writer, tuple(SqliteSession(open_reader(path)) for _ in range(READERS)))
