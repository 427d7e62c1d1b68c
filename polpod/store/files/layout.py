"""Where each record lies, below the directory of a store.

    tasks/12.json             a record; its file is named by its key
    dependencies/13,12.json   one whose key has two parts
    events/000012.jsonl       a journal: its entries 12000 to 12999, one a line
    store.json                the format and the schema in which all of it is written
    store.lock                locked by whoever has the store open
    redo.log                  what is committed and not yet on disk in the files above (files/redo.py)
    damaged/<time>/…          what was no record, under the name that it had (files/load.py)

Rules:

1. A journal is a table whose key is the one integer `seq`; a million files would be nobody's pleasure.
2. Distinct keys have distinct names.  Letters and digits of ASCII, and `-_.~@`, stand for themselves, except a dot at
   the beginning; anything else is `%` and two hexadecimal digits for each byte of its UTF-8; no text at all is `%`.  A
   name that would be too long ends in a hash instead.
3. What is not named like a record is none: editors' files, notes, what begins with a dot.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from polpod.store.table import AnyTable, Row, Scalar, cached, scalar

SEGMENT = 1000
"""Entries of a journal that share a file."""

LOCK, VERSION, REDO, DAMAGED = "store.lock", "store.json", "redo.log", "damaged"
OWN_NAMES = frozenset({LOCK, VERSION, REDO, DAMAGED})
"""No table may have one of these names."""

PARTIAL = ".new"
"""A file that is being written; only one is at a time."""

_LONGEST = 200
_KEPT = 100
_SEGMENT_NAME = re.compile(r"(-?[0-9]{5,15})\.jsonl")

Key = tuple[Scalar, ...]


class Place(NamedTuple):
    """One file: of the record with this key, or of the entries of a journal from this one on."""

    table: AnyTable
    key: Key

    @property
    def name(self) -> str:
        if is_journal(self.table):
            return f"{first_of(self) // SEGMENT:06}.jsonl"
        name = ",".join(_quoted(str(part)) for part in self.key)
        if len(name) > _LONGEST:
            name = f"{name[:_KEPT]}%.{hashlib.sha256(name.encode()).hexdigest()}"
        return f"{name}.json"

    def within(self, directory: str) -> str:
        return os.path.join(directory, self.table.name, self.name)


@cached
def is_journal(table: AnyTable) -> bool:
    return [(column.name, column.kind) for column in table.key] == [("seq", "integer")]


def place_of(table: AnyTable, key: Key) -> Place:
    """Where the record with this key lies."""
    if is_journal(table):
        (seq,) = key
        assert isinstance(seq, int)
        return Place(table, (seq - seq % SEGMENT,))
    return Place(table, key)


def first_of(segment: Place) -> int:
    (seq,) = segment.key
    assert isinstance(seq, int)
    return seq


def seq_of(row: Row) -> int:
    """The number of a journal's entry."""
    seq = row.columns["seq"]
    assert isinstance(seq, int)
    return seq


def is_record(table: AnyTable, name: str) -> bool:
    """Rule 3."""
    return not name.startswith(".") and name.endswith(".jsonl" if is_journal(table) else ".json")


def place_named(table: AnyTable, name: str) -> Place | None:
    """The place that has this name; None if none has, or if it is one of those that end in a hash."""
    if not name.isascii():
        return None
    if is_journal(table):
        match = _SEGMENT_NAME.fullmatch(name)
        place = Place(table, (int(match[1]) * SEGMENT,)) if match else None
    else:
        parts = name.removesuffix(".json").split(",")
        if len(parts) != len(table.key):
            return None
        try:
            key = tuple(_unquoted(part, column.kind) for part, column in zip(parts, table.key, strict=True))
        except ValueError:
            return None
        place = Place(table, key)
    return place if place is not None and place.name == name else None


def _quoted(text: str) -> str:
    quoted = quote(text, safe="@") or "%"
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _unquoted(part: str, kind: str) -> Scalar:
    """Raises ValueError for what is none of this kind."""
    text = "" if part == "%" else unquote(part, errors="strict")
    return scalar(int(text) if kind == "integer" else float(text) if kind == "real" else text)
