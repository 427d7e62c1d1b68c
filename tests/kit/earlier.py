"""A task store as an earlier polpod left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from polpod.store.databases import TASKS


def bring_back(path: str, schema: int) -> None:
    """Make this state.db one of that schema, with what was in its tables then.  Nobody has it open."""
    old = Path(f"{path}.earlier")
    with closing(sqlite3.connect(old)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for script in TASKS.schema.scripts[:schema]:
            db.executescript(script)
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        db.execute("ATTACH ? AS later", (path,))
        for table in tables:
            columns = ", ".join(f'"{name}"' for _, name, *_ in db.execute(f'PRAGMA table_info("{table}")'))
            db.execute(f'INSERT INTO main."{table}" ({columns}) SELECT {columns} FROM later."{table}"')
        db.execute(f"PRAGMA user_version = {schema}")
        db.commit()
    for companion in Path(path).parent.glob(f"{Path(path).name}-*"):
        companion.unlink()
    old.replace(path)


OF_BEFORE = (
    ("synthorg", '{"document": {"status": "blocked"}}'),
    ("synthorg", '{"document": {"status": 7}}'),
    ("synthorg", '{"document": []}'),
    ("synthorg", "{"),
    ("synthorg", '{"document":' + "[" * 100_000),
    ("polpod", '{"document": {"status": "blocked"}}'),
)
"""Owners and documents of tasks that a migration may find."""
