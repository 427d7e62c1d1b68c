"""Making a file, or the names in a directory, survive a power cut (F7)."""

from __future__ import annotations

import os
from contextlib import suppress


def sync(path: str) -> None:
    """Wait until a file, or the names in a directory, are on disk.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: str, mode: int = 0o777) -> None:
    """Make a directory where there is none, and those above it, each of them on disk.  Raises OSError."""
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent, mode)
    with suppress(FileExistsError):  # somebody else made it just now
        os.mkdir(path, mode)
    sync(parent)
