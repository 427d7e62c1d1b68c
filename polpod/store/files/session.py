"""The session of a store of files: a database in memory, whose commits are on disk before they are answered.

Rules:

1. A commit is one line of the redo log, on disk; then it is one in memory, and only then are its files written.  So it is
   whole or absent at every instruction, and after a power cut (files/redo.py, files/replay.py).
2. Every commit is durable, whoever asked for less: it is one write to one file anyway.
3. The log is emptied once all files are on disk that it speaks of: when nothing goes on, and when it has grown long.
4. Files that cannot be written, on a full disk, are written later: the commit stands, in memory and in the log.
"""

from __future__ import annotations

import logging
import os

from polpod.store.files.changes import Changes
from polpod.store.files.layout import REDO, Key, place_of
from polpod.store.files.redo import Change, Redo
from polpod.store.files.tree import Tree
from polpod.store.memory import MemorySession
from polpod.store.sqlite import Connection
from polpod.store.table import AnyTable, Query

LOG_MAX = 8 * 2**20
"""Bytes of the redo log, and"""
FILES_MAX = 1000
"""files not yet on disk, after which both are waited for between two commits."""

log = logging.getLogger(__name__)


class FilesSession(MemorySession):
    """`lock` is held as long as it is open."""

    def __init__(self, db: Connection, tree: Tree, redo: Redo, changes: Changes, lock: int) -> None:
        super().__init__(db)
        self._tree = tree
        self._redo = redo
        self._changes = changes
        self._lock: int | None = lock
        self._late = False
        """Whether files could not be written, and that was said."""

    def commit(self) -> None:
        changed = self._changes.take()
        if changed:
            self._redo.append([self._change(table, key) for table, key in changed])
        super().commit()
        for table, key in changed:
            self._tree.note(place_of(table, key), key)
        self._catch_up()

    def rest(self, *, full: bool) -> None:
        if full or self._redo.size > LOG_MAX or self._tree.unsynced > FILES_MAX:
            self.truncate()

    def truncate(self) -> bool:
        """False: not everything could be brought to disk, and the redo log still has it."""
        if not self._catch_up():
            return False
        if not self._redo.size:
            return True
        try:
            self._tree.sync()
            self._redo.empty()
        except OSError as exc:
            self._say_late(exc)
            return False
        return True

    def close(self) -> None:
        super().close()
        if self._lock is not None:
            self._redo.close()
            os.close(self._lock)
            self._lock = None

    def _change(self, table: AnyTable, key: Key) -> Change:
        docs = self.rows.select(table, Query(table.with_key(key)))
        return Change(table.name, key, docs[0].decode() if docs else None)

    def _catch_up(self) -> bool:
        """Rule 4."""
        try:
            self._tree.catch_up()
        except OSError as exc:
            self._say_late(exc)
            return False
        self._late = False
        return True

    def _say_late(self, exc: OSError) -> None:
        if not self._late:
            self._late = True
            log.warning("%s: %s; its files are behind, and what they lack is in %s", self.where, exc, REDO)
