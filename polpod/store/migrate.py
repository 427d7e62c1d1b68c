"""Bringing a database file to the schema that this code knows (DESIGN §8).

Rules:

1. Script n leads from `user_version` n to n + 1, in one transaction with that number; a released script never changes.
2. A database that holds something is copied beside itself before its first step: `state.db.v1.bak`.
3. A database of a later polpod, or of another program, is refused and left as it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from polpod.durable import sync
from polpod.errors import SchemaTooNew, StoreError
from polpod.store.table import AnyTable

_SCRIPTS = Path(__file__).parent / "migrations"


class Schema(Struct, frozen=True):
    """How a database came to be: its scripts, oldest first; and what is in it."""

    name: str
    scripts: tuple[str, ...]
    """For SQLite."""
    for_postgres: tuple[str, ...] = ()
    """The same steps (store/postgres_schema.py)."""
    tables: tuple[AnyTable, ...] = ()
    """Its records, for a backend that has to know what they mean."""


def released_scripts(database: Literal["sqlite", "postgres"]) -> tuple[str, ...]:
    """The scripts of the task store: `migrations/0001_….sqlite.sql` and on.  Raises StoreError if one is missing."""
    files = sorted(_SCRIPTS.glob(f"*.{database}.sql"))
    for number, file in enumerate(files, start=1):
        if not file.name.startswith(f"{number:04}_"):
            raise StoreError(f"{file}: expected migration number {number:04}")
    return tuple(file.read_text(encoding="utf-8") for file in files)


def version_of(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def check(db: sqlite3.Connection, path: str, schema: Schema) -> None:
    """Rule 3, by reading alone.  Raises SchemaTooNew, or StoreError for what is not ours."""
    version = version_of(db)
    if version > len(schema.scripts):
        raise SchemaTooNew(
            f"{path}: written by a later polpod: schema {version}, and this one knows {len(schema.scripts)}"
        )
    (objects,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (version == 0) != (objects == 0):
        raise StoreError(f"{path}: not a {schema.name}: schema {version}, {objects} tables and indexes")


def migrate(db: sqlite3.Connection, path: str, schema: Schema) -> None:
    """Take every step that is missing.  An error, or a kill, leaves the database at one version or at the next."""
    version = version_of(db)
    if 0 < version < len(schema.scripts):
        _backup(db, f"{path}.v{version}.bak")
    for number, script in enumerate(schema.scripts[version:], start=version):
        _step(db, number, script)


def _step(db: sqlite3.Connection, number: int, script: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if version_of(db) == number:  # else another process took this step while we waited for the lock
            for statement in statements(script):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def statements(script: str) -> Iterator[str]:
    """The statements of a script in which each ends at the end of a line.

    `Connection.executescript` would commit the transaction that they must share.
    """
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
    if text.strip():
        raise StoreError(f"a migration ends within a statement: {text.strip()[:80]!r}")


def _backup(db: sqlite3.Connection, target: str) -> None:
    """A copy appears under its name only when it is whole and on disk."""
    partial = f"{target}.tmp"
    if os.path.exists(partial):
        os.unlink(partial)
    copy = sqlite3.connect(partial)
    try:
        db.backup(copy)
    finally:
        copy.close()
    sync(partial)
    os.replace(partial, target)
    sync(os.path.dirname(os.path.abspath(target)))
