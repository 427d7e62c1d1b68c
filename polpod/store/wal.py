"""Keeping a write-ahead log short: when to checkpoint it, and how (DESIGN §8, F56), and that there is room for it (F49).

The frames in a WAL are counted by looking at the file, since other processes append to it too and SQLite tells nobody
how many there are.  Layout (sqlite.org/fileformat2.html, "WAL File Format"): a header of 32 bytes with the page size at
8 and two salts at 16, then frames of 24 bytes and a page, with the salts of the header at 8.  Starting anew changes the
header's salts, so a frame belongs to this round if its salts are the header's.  Nothing locks this file, so that
opening and closing it drops no lock of SQLite's.

A checkpoint makes the database longer by the pages that are new.  On a full disk it could not, and the WAL, which may be
what fills it, would never be let go.  So where space is scarce it is taken before these pages are committed: the database
file is made as long as they will make it, and a little longer, since runners add pages without asking.  SQLite goes by
the number of pages in the file's header, and cuts the file to it at the end of a whole checkpoint.
"""

from __future__ import annotations

import errno
import os
import sqlite3

from polpod.store.sqlite import Connection

PAGES = 1000
"""Frames after which their pages are copied into the database."""

SCARCE = 64 * 2**20
"""Bytes free above which a checkpoint will find its room, and nothing is taken in advance."""

ROOM = 64
"""Pages by which the database file is made longer than it must be, where there is space."""

_HEADER = 32
_FRAME_HEADER = 24
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Wal:
    """The WAL of one connection's database; used in the thread that has the connection."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._file: int | None = os.open(f"{db.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._database = os.open(db.path, os.O_RDWR | os.O_CLOEXEC)
        (self._page,) = db.execute("PRAGMA page_size").fetchone()
        self._salts = b""
        self._due_at = PAGES

    def due(self) -> bool:
        """Whether PAGES frames have come since the last checkpoint."""
        if self._file is None:
            return False
        header = os.pread(self._file, _HEADER, 0)
        if header[16:24] != self._salts:
            self._salts, self._due_at = header[16:24], PAGES
        frame = _FRAME_HEADER + int.from_bytes(header[8:12], "big")
        last = os.pread(self._file, 16, _HEADER + (self._due_at - 1) * frame)
        return bool(header) and last[8:] == self._salts

    def close(self) -> None:
        """To be called once no connection of this process is open: closing the file drops the locks that SQLite has on it."""
        if self._file is not None:
            os.close(self._file)
            os.close(self._database)
            self._file = None

    def reserve(self) -> bool:
        """Take the space that a checkpoint of the open transaction will need; False: there is none."""
        space = os.fstatvfs(self._database)
        if space.f_bavail * space.f_frsize >= SCARCE:
            return True
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        size = os.fstat(self._database).st_size
        if size >= pages * self._page:  # a transaction that adds no page leaves the file alone (F53)
            return True
        return self._lengthen(size, pages + ROOM) or self._lengthen(size, pages)

    def _lengthen(self, size: int, pages: int) -> bool:
        try:
            os.posix_fallocate(self._database, size, pages * self._page - size)
        except OSError as exc:
            return exc.errno not in _NO_SPACE  # a file system that cannot say is believed to have it
        return True

    def checkpoint(self) -> None:
        """Copy what no reader holds back, waiting for nobody."""
        self._due_at = self._run("PASSIVE") + PAGES

    def truncate(self) -> bool:
        """Copy everything and cut the file to nothing, unless somebody is reading or writing just now: False."""
        (timeout,) = self._db.execute("PRAGMA busy_timeout").fetchone()
        self._db.execute("PRAGMA busy_timeout = 0")  # it would hold the writer's lock while it waits
        try:
            return self._run("TRUNCATE") == 0
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {timeout}")

    def _run(self, mode: str) -> int:
        """The frames that are still in the WAL; they stay there, safe, when a checkpoint fails, as on a full disk."""
        try:
            (_, frames, _) = self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error:
            return self._due_at
        return int(frames)
