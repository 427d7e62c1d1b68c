"""Bringing the files to what the redo log says, when a store is opened again.

Rules:

1. Whatever state the last process, or a power cut, has left the files in, they are as the log says afterwards; doing it
   again changes nothing.
2. What the log does not speak of is left alone, with what may be wrong with it (files/load.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from polpod.errors import StoreError
from polpod.store.files import redo
from polpod.store.files.layout import REDO, Key, Place, first_of, is_journal, place_of
from polpod.store.files.tree import pretty, remove, replace, sync_files
from polpod.store.table import NOT_DECODED, AnyTable

Documents = Mapping[Key, str | None]
"""By key; None: deleted."""

_KINDS = {str: "text", int: "integer", float: "real"}


def replay(directory: str, tables: Sequence[AnyTable]) -> bool:
    """Whether all of the log could be believed.  All of its files are on disk then.  Raises OSError."""
    log = redo.read(os.path.join(directory, REDO))
    changed, believed = _by_place(log.commits, tables)
    for place, documents in changed.items():
        path = place.within(directory)
        if is_journal(place.table):
            _mend_segment(place, path, documents)
        else:
            (doc,) = documents.values()
            remove(path) if doc is None else replace(path, pretty(doc))
    sync_files(directory, changed)
    return believed and not log.damaged


def _by_place(
    commits: Iterable[Sequence[redo.Change]], tables: Sequence[AnyTable]
) -> tuple[dict[Place, dict[Key, str | None]], bool]:
    """What each file has to say in the end; and whether that is all, or some commit means nothing."""
    by_name = {table.name: table for table in tables}
    changed: dict[Place, dict[Key, str | None]] = {}
    for commit in commits:
        for change in commit:
            if change.table not in by_name:
                raise StoreError(f"{REDO} speaks of {change.table}, and this polpod knows no such records")
        if not all(_means(change, by_name[change.table]) for change in commit):
            return changed, False
        for change in commit:
            changed.setdefault(place_of(by_name[change.table], change.key), {})[change.key] = change.doc
    return changed, True


def _means(change: redo.Change, table: AnyTable) -> bool:
    """Whether it could be one of that table.  What record its document is, files/load.py finds out."""
    kinds = [_KINDS.get(type(part)) for part in change.key]
    if kinds != [column.kind for column in table.key]:
        return False
    if change.doc is None:
        return True
    try:
        pretty(change.doc)
    except NOT_DECODED:
        return False
    return "\n" not in change.doc


def _mend_segment(place: Place, path: str, documents: Documents) -> None:
    """The entries that the log speaks of are as it says; what an append had come to, when it was cut off, goes."""
    said = "\n".join(doc for doc in documents.values() if doc is not None).encode()
    entries: list[tuple[int, bytes]] = []
    last = first_of(place)
    *lines, rest = _lines(path)
    for line in (*lines, rest):
        seq = _seq(place.table, line)
        if seq is not None:
            last = seq
        elif (line is rest or b"\0" in line or not line) and line.strip(b"\0") in said:
            continue
        if (seq,) not in documents:
            entries.append((last, line))
    entries += ((int(str(seq)), doc.encode()) for (seq,), doc in documents.items() if doc is not None)
    entries.sort(key=lambda entry: entry[0])
    if entries:
        replace(path, b"".join(line + b"\n" for _, line in entries), on_disk=True)
    else:
        remove(path)


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().split(b"\n")
    except FileNotFoundError:
        return [b""]


def _seq(table: AnyTable, line: bytes) -> int | None:
    (seq,) = table.key
    try:
        return int(seq.get(table.entity_of(line)))
    except NOT_DECODED:
        return None
