"""Space that is set aside for a start on a full disk (F49).

SQLite needs some pages before it can even read in WAL mode, and a daemon without them could neither say what runs nor
record how it ended.  So there is a file that is given up then, and made again once there is space.
"""

from __future__ import annotations

import os
from contextlib import suppress

SIZE = 2**20
ROOM = 4 * SIZE
"""Bytes beyond the reserve that must be free before the file is made."""

LOOK_EVERY = 30.0


class Ballast:
    """The file at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> None:
        """Make the file, unless it is there or there is no room for it."""
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, SIZE)
            except OSError:
                os.unlink(self._path)
            finally:
                os.close(fd)

    def drop(self) -> bool:
        """Give its space back; whether there was any to give."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        return True
