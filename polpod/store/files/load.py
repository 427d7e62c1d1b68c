"""Reading the files of a store into its database in memory, when it is opened.

Rules:

1. What a person wrote there is taken as it is: a file is decoded as its table's entity, its columns are computed anew.
2. A file whose name is not that of the record in it, or which holds none, is set aside with what it says, as a row that
   does not decode is (store/quarantine.py), and so is a record that refers to one that is not there.
3. Nothing is changed here, neither file nor directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from polpod.errors import StoreError
from polpod.store.files.layout import (
    SEGMENT,
    Key,
    Place,
    first_of,
    is_journal,
    is_record,
    place_named,
    place_of,
    seq_of,
)
from polpod.store.records import Rows
from polpod.store.sqlite import Connection, translated
from polpod.store.table import NOT_DECODED, AnyTable, Query, Row, Scalar, scalar

LARGEST = 32 * 2**20
"""Bytes of a file that is believed to be one record."""
LARGEST_SEGMENT = 2**30

_NOTHING = b"null"
"""The document of a row that only keeps the place of one that is to be set aside."""


class Bad(Struct, frozen=True):
    """What is to be set aside."""

    table: AnyTable
    file: str
    """Its name in the table's directory."""
    row: Row
    """As far as it can be told: the columns that are its key, and others that it has by name."""
    problem: str
    known: bool = True
    """Whether `row` has the key by which others know it."""


class Refused(Exception):
    """Why a file cannot be read."""


def load(directory: str, tables: Sequence[AnyTable], rows: Rows) -> list[Bad]:
    """Insert all that is there; what is bad, of which the database has the key.  Raises OSError, StoreError."""
    return [bad for table in tables for bad in _load(os.path.join(directory, table.name), table, rows)]


def dangling(db: Connection, tables: Sequence[AnyTable], rows: Rows) -> list[Bad]:
    """The records that refer to one that is not there."""
    by_name = {table.name: table for table in tables}
    with translated(db.path):
        found = {(name, row_id): parent for name, row_id, parent, _ in db.execute("PRAGMA foreign_key_check")}
        bad = []
        for (name, row_id), parent in found.items():
            table = by_name[name]
            columns = ", ".join(f'"{column.name}"' for column in table.key)
            key: Key = db.execute(f'SELECT {columns} FROM "{name}" WHERE rowid = ?', (row_id,)).fetchone()
            (row,) = rows.select_whole(table, Query(table.with_key(key)))
            problem = f"it refers to one of {parent} that is not there"
            bad.append(Bad(table, place_of(table, key).name, row, problem))
    return bad


def _load(directory: str, table: AnyTable, rows: Rows) -> Iterator[Bad]:
    try:
        names = sorted(name for name in os.listdir(directory) if is_record(table, name))
    except FileNotFoundError:
        return
    load_file = _load_segment if is_journal(table) else _load_record
    largest = LARGEST_SEGMENT if is_journal(table) else LARGEST
    for name in names:
        try:
            data = _read(os.path.join(directory, name), largest)
        except Refused as refused:
            yield _bad(table, name, None if is_journal(table) else place_named(table, name), b"", str(refused), rows)
        else:
            yield from load_file(table, name, data, rows)


def _read(path: str, largest: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise Refused(f"it cannot be read: {exc.strerror}") from exc
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("it is no file")
        if found.st_size > largest:
            raise Refused(f"it is larger than {largest >> 20} MiB")
        data = b""
        while part := os.read(fd, found.st_size - len(data) + 1):
            data += part
        return data
    except OSError as exc:
        raise Refused(f"it cannot be read: {exc.strerror}") from exc
    finally:
        os.close(fd)


def _load_record(table: AnyTable, name: str, data: bytes, rows: Rows) -> Iterator[Bad]:
    row = _row(table, data)
    if isinstance(row, str):
        problem: str | None = row
    elif (named := Place(table, table.key_of(row)).name) != name:
        problem = f"it holds the record of {named}"
    else:
        problem = _insert(table, row, rows)
    if problem is not None:
        yield _bad(table, name, place_named(table, name), data, problem, rows)


def _load_segment(table: AnyTable, name: str, data: bytes, rows: Rows) -> Iterator[Bad]:
    if (place := place_named(table, name)) is None:
        yield _bad(table, name, None, data, "no file of the journal has this name", rows)
        return
    lines = [(at, line) for at, line in enumerate(data.split(b"\n"), start=1) if line]
    entries = [_row(table, line) for _, line in lines]
    for (at, line), row, seq in zip(lines, entries, _numbers(entries, place), strict=True):
        problem: str | None
        known = None
        if isinstance(row, str):
            problem = row
            known = None if seq is None else Place(table, (seq,))
        elif seq is None:
            problem = f"its number is {seq_of(row)}"
        else:
            problem = _insert(table, row, rows)
        if problem is not None:
            yield _bad(table, name, known, line, f"line {at}: {problem}", rows)


def _numbers(entries: Sequence[Row | str], place: Place) -> Iterator[int | None]:
    """The number of each entry; None: it has none in this file.

    That of an entry that means nothing is told from where it stands, unless another has it.
    """
    numbers = range(first_of(place), first_of(place) + SEGMENT)
    taken = {seq_of(row) for row in entries if isinstance(row, Row)}
    seq = next((seq_of(row) - at for at, row in enumerate(entries) if isinstance(row, Row)), -len(entries))
    for entry in entries:
        if isinstance(entry, Row):
            seq = seq_of(entry)
            known = seq in numbers
        else:
            known = seq in numbers and seq not in taken and seq > 0
        yield seq if known else None
        seq += 1


def _row(table: AnyTable, doc: bytes) -> Row | str:
    """Or why it is none."""
    try:
        return table.row(table.entity_of(doc))
    except NOT_DECODED as error:
        return str(error)


def _insert(table: AnyTable, row: Row, rows: Rows) -> str | None:
    """Why it cannot be there."""
    try:
        rows.insert(table, row, replace=False)
    except (StoreError, OverflowError) as error:
        return str(error)
    return None


def _bad(table: AnyTable, name: str, place: Place | None, data: bytes, problem: str, rows: Rows) -> Bad:
    columns: dict[str, Scalar] = dict.fromkeys(table.columns) | _columns_in(table, data)
    if place is None:
        stem, _ = os.path.splitext(os.fsencode(name).decode(errors="backslashreplace"))
        columns |= dict.fromkeys((column.name for column in table.key), "") | {table.key[0].name: stem}
        return Bad(table, name, Row(columns, data), problem, known=False)
    key = dict(zip((column.name for column in table.key), place.key, strict=True))
    rows.insert(table, Row(dict.fromkeys(table.columns) | key, _NOTHING), replace=False)
    return Bad(table, name, Row(columns | key, data), problem)


def _columns_in(table: AnyTable, data: bytes) -> dict[str, Any]:
    """The values that stand in the document under the name of a column, and that a column holds."""
    try:
        found = msgspec.json.decode(data)
    except NOT_DECODED:
        return {}
    if not isinstance(found, dict):
        return {}
    values: dict[str, Scalar] = {}
    for name in table.columns:
        with suppress(*NOT_DECODED):
            values[name] = scalar(found.get(name))
    return values
