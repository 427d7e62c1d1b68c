"""Making a file, or the names in a directory, survive a power cut (F7)."""

from __future__ import annotations

import os


def sync(path: str) -> None:
    """Wait until a file, or the names in a directory, are on disk.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
