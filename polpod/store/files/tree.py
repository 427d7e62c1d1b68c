"""The files of the records, brought to what the database in memory holds.

Rules:

1. A record's file is replaced by renaming: who reads it sees the old one or the new one.  Entries that were appended to a
   journal are appended to its last file, too.
2. What could not be written yet stays noted, and is written from memory as it is then.
3. A file is on disk only once `sync` returned: before that, it may be lost, empty or half there after a power cut, and
   the redo log has what it should say.  Of a journal's, the log has only what was added: it is on disk before it takes
   the place of another.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from polpod.durable import sync
from polpod.store.files.layout import PARTIAL, SEGMENT, Key, Place, first_of, is_journal, seq_of
from polpod.store.files.redo import write
from polpod.store.records import Rows
from polpod.store.table import Cmp, Order, Query, Row

_SEQ = "seq"
_WHOLE = -(2**63)
"""Instead of the first entry that changed: all of the file is to be written."""

_AT_ONCE = 8
"""Files that are waited for at a time: the kernel brings them to disk together, many times faster than one by one."""


class Tree:
    """The files below `directory`, of the rows that are committed."""

    def __init__(self, directory: str, rows: Rows) -> None:
        self._directory = directory
        self._rows = rows
        self._behind: dict[Place, int] = {}
        """Files that are not yet as memory is; of a journal's, the first entry that changed."""
        self._unsynced: set[Place] = set()
        self._ends: dict[Place, int] = {}
        """The last entry in each file of a journal that was written."""

    @property
    def unsynced(self) -> int:
        """The number of files that `sync` has to wait for."""
        return len(self._unsynced)

    def note(self, place: Place, key: Key) -> None:
        """The record with this key has changed."""
        (seq, *_) = key
        changed = seq if is_journal(place.table) and isinstance(seq, int) else _WHOLE
        self._behind[place] = min(changed, self._behind.get(place, changed))

    def note_whole(self, place: Place) -> None:
        """The file has to be written anew, whatever has changed."""
        self._behind[place] = _WHOLE

    def catch_up(self) -> None:
        """Write what is noted.  Raises OSError; the rest stays noted."""
        for place, changed in list(self._behind.items()):
            if is_journal(place.table):
                self._write_segment(place, changed)
            else:
                self._write_record(place)
            self._unsynced.add(place)
            del self._behind[place]

    def sync(self) -> None:
        """Wait until all that was written is on disk.  Raises OSError; then what was waited for is noted again."""
        try:
            sync_files(self._directory, self._unsynced)
        except OSError:
            for place in self._unsynced:  # the kernel reports a page that it could not write once, and forgets it
                self.note_whole(place)
            raise
        self._unsynced.clear()

    def _write_record(self, place: Place) -> None:
        path = place.within(self._directory)
        docs = self._rows.select(place.table, Query(place.table.with_key(place.key)))
        replace(path, pretty(docs[0])) if docs else remove(path)

    def _write_segment(self, place: Place, changed: int) -> None:
        path = place.within(self._directory)
        end = self._ends.pop(place, None)  # not known again until all of this is written
        if end is not None and changed > end:
            added = self._entries(place, end + 1)
            with suppress(FileNotFoundError):  # somebody took it away
                append(path, b"".join(lines(added)))
                self._ends[place] = max(end, *(seq_of(row) for row in added))
                return
        entries = self._entries(place, first_of(place))
        if entries:
            replace(path, b"".join(lines(entries)), on_disk=True)
            self._ends[place] = seq_of(entries[-1])
        else:
            remove(path)

    def _entries(self, place: Place, first: int) -> Sequence[Row]:
        where = (Cmp[Any](_SEQ, ">=", first), Cmp[Any](_SEQ, "<", first_of(place) + SEGMENT))
        return self._rows.select_whole(place.table, Query(where, (Order(_SEQ),)))


def lines(entries: Iterable[Row]) -> Iterator[bytes]:
    return (entry.doc + b"\n" for entry in entries)


def pretty(doc: bytes | str) -> bytes:
    """The document as people read it."""
    return msgspec.json.format(doc.encode() if isinstance(doc, str) else doc, indent=2) + b"\n"


def replace(path: str, data: bytes, *, on_disk: bool = False) -> None:
    """Put a file in place of the one that has its name; `on_disk`: whole even after a power cut.  Raises OSError."""
    partial = os.path.join(os.path.dirname(path), PARTIAL)
    try:
        fd = _create(partial)
    except FileNotFoundError:
        os.mkdir(os.path.dirname(path), 0o700)
        fd = _create(partial)
    try:
        try:
            write(fd, data)
            if on_disk:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(partial, path)
    except OSError:
        with suppress(OSError):  # what lies there takes space that may be what is lacking
            os.unlink(partial)
        raise


def append(path: str, data: bytes) -> None:
    """Add to a file that is there.  Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        write(fd, data)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Raises OSError, but not for a file that is not there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def sync_files(directory: str, places: Collection[Place]) -> None:
    """Wait until these files, there or gone, are on disk with their names.  Raises OSError."""
    paths = [place.within(directory) for place in places]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(_sync, paths):
            pass
    for parent in (*sorted({os.path.dirname(path) for path in paths}), directory):
        _sync(parent)


def _sync(path: str) -> None:
    with suppress(FileNotFoundError):  # it was there only for a moment
        sync(path)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
