"""Reading a damaged database row by row: what SQLite cannot give is passed over, not what lies behind it.

It works on a copy, which it may change.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from polpod.store.migrate import Schema
from polpod.store.sqlite import open_writer

Row = tuple[int, tuple[object, ...]]
"""A row id, and the values of the columns that were asked for; texts are bytes, since they may be no texts any more."""

PAGE = 4096
"""Bytes of a page of every database that polpod made."""

_LARGEST = 2**36
"""Bytes of a file that is believed to have been that long."""

REACH = 2**16
"""How far behind the first row that cannot be read others are looked for, where no index says how many there are."""


def open_damaged(copy: str, schema: Schema) -> sqlite3.Connection:
    """A connection that shows the tables of `schema` as far as they are there.  Raises sqlite3.Error, OSError."""
    _extend(copy)
    db = _connect(copy)
    try:
        (objects,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError:
        objects = 0
    if objects == 0 and Path(copy).stat().st_size > PAGE:
        db.close()
        _graft(copy, schema)
        db = _connect(copy)
    return db


def rows(db: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """Every row that can be read, in the order of row ids."""
    listed = ", ".join(f'"{column}"' for column in columns)
    query = f'SELECT rowid, {listed} FROM "{table}" WHERE rowid BETWEEN ? AND ? ORDER BY rowid'
    todo = [(-(2**63), 2**63 - 1)] if _has_root(db, table) else []
    top: int | None = None
    while todo:
        low, high = todo.pop()
        last = low - 1
        try:
            for row_id, *values in db.execute(query, (low, high)):
                last = row_id
                yield row_id, tuple(values)
        except sqlite3.DatabaseError:
            if top is None:
                top = _top(db, table, max(last, 0))
            low, high = max(last + 1, 0), min(high, top)
            if low < high:
                middle = (low + high) // 2
                todo += [(middle + 1, high), (low, middle)]


def known(db: sqlite3.Connection, table: str) -> tuple[dict[int, str], bool]:
    """Row ids that the indexes name, with the key of each where an index has it: what there was, readable or not.

    True beside them: an index could be read to its end, so there was nothing else.
    """
    found: dict[int, str] = {}
    whole = False
    for index, origin in _indexes(db, table):
        try:
            columns = [name.decode() for _, _, name in db.execute(f'PRAGMA index_info("{index}")')]
            listed = ", ".join(f'"{column}"' for column in columns)
            for row_id, *values in db.execute(f'SELECT rowid, {listed} FROM "{table}" INDEXED BY "{index}"'):
                key = "/".join(_text(value) for value in values) if origin == "pk" else str(row_id)
                if origin == "pk" or row_id not in found:
                    found[row_id] = key
            whole = True
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            continue  # this index is damaged too: what was read of it counts
    return found, whole


def _indexes(db: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Those that name every row of the table."""
    listed = db.execute(f'PRAGMA index_list("{table}")').fetchall()
    return [(name.decode(), origin.decode()) for _, name, _, origin, partial in listed if not partial]


def _top(db: sqlite3.Connection, table: str, last: int) -> int:
    """No row id is above this, as far as anybody can say."""
    tops = [max(known(db, table)[0], default=0)]
    try:
        tops += [row_id for (row_id,) in db.execute(f'SELECT rowid FROM "{table}" ORDER BY rowid DESC LIMIT 1')]
    except sqlite3.DatabaseError:
        pass
    return max(tops) or last + REACH


def _has_root(db: sqlite3.Connection, table: str) -> bool:
    """Whether there is such a table whose first page is one: without it SQLite finds no row, however long it is asked.

    (sqlite.org/fileformat2.html, "B-tree Pages": 5 and 13 are those of tables.)
    """
    found = db.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchone()
    if found is None:
        return False
    ((_, _, path),) = db.execute("PRAGMA database_list")
    with open(path, "rb") as file:
        file.seek((found[0] - 1) * PAGE)
        return file.read(1) in (b"\5", b"\r")


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.text_factory = bytes
    db.execute("PRAGMA cell_size_check = ON")
    with suppress(sqlite3.DatabaseError):  # what is no database, or not yet
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the file has all that there is
    return db


def _extend(copy: str) -> None:
    """Make a file that was cut short as long as it says that it is: with pages missing, SQLite shows none of the others."""
    with open(copy, "rb") as file:
        header = file.read(32)
    said = int.from_bytes(header[28:32], "big")
    if header.startswith(b"SQLite format 3\0") and os.path.getsize(copy) < said * PAGE <= _LARGEST:
        os.truncate(copy, said * PAGE)


def _graft(copy: str, schema: Schema) -> None:
    """Give the file the list of tables of a new database of this schema, where they begin on the same pages.

    Its own first page, which says what the file is and where its tables are, cannot be read.  A list that is longer than
    a page goes on in pages behind the file.
    """
    fresh = Path(f"{copy}.fresh")
    with closing(open_writer(str(fresh), schema)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    image = fresh.read_bytes()
    fresh.unlink()
    first, behind = bytearray(image[:PAGE]), b""
    end = pages = max(Path(copy).stat().st_size, len(image)) // PAGE
    for at in _child_pointers(first):
        child = int.from_bytes(first[at : at + 4], "big")
        behind += image[(child - 1) * PAGE : child * PAGE]
        pages += 1
        first[at : at + 4] = pages.to_bytes(4, "big")
    first[28:32] = pages.to_bytes(4, "big")
    first[32:40] = bytes(8)  # no free pages are known (sqlite.org/fileformat2.html, "The Database Header")
    first[92:96] = first[24:28]
    with open(copy, "r+b") as file:
        file.write(first)
        file.truncate(end * PAGE)
        file.seek(end * PAGE)
        file.write(behind)


def _child_pointers(first: bytearray) -> list[int]:
    """Where the first page names the pages below it (sqlite.org/fileformat2.html, "B-tree Pages"; 5: an interior one)."""
    if first[100] != 5:
        return []
    cells = int.from_bytes(first[103:105], "big")
    return [*(int.from_bytes(first[at : at + 2], "big") for at in range(112, 112 + 2 * cells, 2)), 108]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
