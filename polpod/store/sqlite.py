"""SQLite: connections, their settings, what its errors mean, and the row operations.

Rules:

1. Each connection has the settings of DESIGN §8; one that SQLite did not take is an error, not a hope.
2. What SQLite raises leaves this layer as an error of polpod/errors.py, told by its result code, never by its text.
3. A file that is not a database of ours is refused and left as it is (F53).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from polpod.errors import AlreadyExists, BrokenReference, Damaged, DiskFull, PolpodError, StoreError, Unavailable
from polpod.store import sql
from polpod.store.migrate import Schema, check, migrate
from polpod.store.table import AnyTable, Query, Row, Scalar, Where

BUSY_TIMEOUT = 5.0
"""Seconds that a statement waits for another process's lock."""

JOURNAL_SIZE_LIMIT = 64 * 2**20
"""Bytes that a WAL keeps on disk once it starts anew."""

_STATEMENTS = 256

Pragma = tuple[str, str | int]
FOREIGN_KEYS: Pragma = ("foreign_keys", 1)

_BEGIN_PART: sql.Statement = ("SAVEPOINT part", [])
_UNDO_PART: sql.Statement = ("ROLLBACK TO part", [])
_END_PART: sql.Statement = ("RELEASE part", [])

_TAKEN = {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_ROWID}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Connection(sqlite3.Connection):
    """A connection that knows its file.  Tests subclass it to make `execute` fail."""

    path: str = ""


def primary_code(error: sqlite3.Error | MemoryError) -> int:
    """SQLite's result code without its extension; 0 for an error that Python's module raised by itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translate(error: sqlite3.Error, path: str) -> PolpodError:
    """What an error of SQLite means for who asked (rule 2)."""
    code = int(getattr(error, "sqlite_errorcode", 0))
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return BrokenReference(str(error))
    if code in _TAKEN:
        return AlreadyExists(str(error))
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:  # the -shm file, which reading alone needs, too
        return DiskFull(f"{path}: no space left")
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return DiskFull(f"{path}: no space left")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(f"{path}: locked by another process")
        case damage if damage in _DAMAGED:
            return Damaged(f"{path}: damaged, or not a database: {error}; it was left as it is")
        case sqlite3.SQLITE_CANTOPEN if not os.path.isdir(directory := os.path.dirname(path) or "."):
            return StoreError(f"{path}: there is no directory {directory}")
    return StoreError(f"{path}: {error}")


@contextmanager
def translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def open_writer(
    path: str, schema: Schema, *, timeout: float = BUSY_TIMEOUT, factory: type[Connection] = Connection
) -> Connection:
    """Open the database for writing, made or brought to `schema` where needed.  `timeout` is in seconds.

    Raises SchemaTooNew, StoreError (damaged, another program's, not openable), DiskFull, Unavailable.
    """
    with translated(path):
        db = connect(path, "rwc", timeout, factory)
        try:
            check(db, path, schema)
            set_pragmas(db, *_of_a_file(timeout))
            migrate(db, path, schema)
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: str, *, timeout: float = BUSY_TIMEOUT) -> Connection:
    """Open a database that has a writer, for reading alone.  `timeout`: seconds.  Raises StoreError, Unavailable."""
    with translated(path):
        db = connect(path, "ro", timeout, Connection)
        try:
            set_pragmas(db, *_of_a_file(timeout))
        except BaseException:
            db.close()
            raise
    return db


def connect(path: str, mode: str, timeout: float, factory: type[Connection]) -> Connection:
    """`mode` as of a URI of SQLite's; with "memory", the path is but a name.  Raises sqlite3.Error."""
    name = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db = sqlite3.connect(
        f"file:{name}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=timeout,
        check_same_thread=False,  # a connection moves between threads, and is in one at a time: store/gate.py
        cached_statements=_STATEMENTS,
        factory=factory,
    )
    db.path = path
    return db


def set_pragmas(db: Connection, *pragmas: Pragma) -> None:
    """Rule 1."""
    for pragma, wanted in pragmas:
        db.execute(f"PRAGMA {pragma} = {wanted}").fetchall()
        (value,) = db.execute(f"PRAGMA {pragma}").fetchone()
        if value != wanted:
            raise StoreError(f"{db.path}: SQLite keeps {pragma} = {value}, not {wanted}")


def _of_a_file(timeout: float) -> Sequence[Pragma]:
    return (
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("busy_timeout", int(timeout * 1000)),
        FOREIGN_KEYS,
        ("journal_size_limit", JOURNAL_SIZE_LIMIT),
        ("wal_autocheckpoint", 0),
    )


class SqliteRows:
    """The rows of the transaction that is open on `db`.

    Where one row is concerned, errors are translated on the spot: `translated` would take as long as the rest.
    """

    def __init__(self, db: Connection) -> None:
        self._db = db

    def insert(self, table: AnyTable, row: Row, *, replace: bool) -> None:
        try:
            self._db.execute(*sql.insert(sql.SQLITE, table, row, replace=replace))
        except sqlite3.Error as error:
            raise translate(error, self._db.path) from error

    def get(self, table: AnyTable, key: tuple[Scalar, ...]) -> bytes | None:
        try:
            row = self._db.execute(sql.get(sql.SQLITE, table), key).fetchone()
        except sqlite3.Error as error:
            raise translate(error, self._db.path) from error
        return None if row is None else row[0]

    def select(self, table: AnyTable, query: Query) -> list[bytes]:
        return [doc for (doc,) in self._found(sql.select(sql.SQLITE, table, query))]

    def select_whole(self, table: AnyTable, query: Query) -> list[Row]:
        found = self._found(sql.select_whole(sql.SQLITE, table, query))
        return [Row(dict(zip(table.columns, values, strict=True)), doc) for *values, doc in found]

    def count(self, table: AnyTable, where: Sequence[Where[Any]]) -> int:
        (number,) = self._execute(sql.count(sql.SQLITE, table, where)).fetchone()
        return int(number)

    def total(self, table: AnyTable, column: str, where: Sequence[Where[Any]]) -> float:
        (number,) = self._execute(sql.total(sql.SQLITE, table, column, where)).fetchone()
        return float(number)

    def tally(self, table: AnyTable, columns: Sequence[str], where: Sequence[Where[Any]]) -> Sequence[tuple[Any, ...]]:
        return self._found(sql.tally(sql.SQLITE, table, columns, where))

    def delete(self, table: AnyTable, where: Sequence[Where[Any]]) -> int:
        return self._execute(sql.delete(sql.SQLITE, table, where)).rowcount

    def begin_part(self) -> None:
        self._execute(_BEGIN_PART)

    def end_part(self, *, undo: bool) -> None:
        if undo:
            self._execute(_UNDO_PART)
        self._execute(_END_PART)

    def _execute(self, statement: sql.Statement) -> sqlite3.Cursor:
        with translated(self._db.path):
            return self._db.execute(*statement)

    def _found(self, statement: sql.Statement) -> list[Any]:
        with translated(self._db.path):  # a damaged page is met at the row that lies on it (F53)
            return self._db.execute(*statement).fetchall()
