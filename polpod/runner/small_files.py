"""Reads and writes small files by bare system calls: the `io` module's layers would cost each runner 50 pages of memory."""

from __future__ import annotations

import os

CHUNK = 4096


def read(path: str) -> bytes:
    """All of a file.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while more := os.read(fd, CHUNK):  # to the end: /proc and cgroupfs give whole lines, not whole chunks
            data += more
        return data
    finally:
        os.close(fd)


def write(path: str, data: bytes, flags: int = 0) -> None:
    """Write the data, whole, from the file's beginning; `flags` beside O_WRONLY, such as O_CREAT.  Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
