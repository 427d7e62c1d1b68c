"""Reads logs: bytes as they are, holes skipped.  Blocking; called in a worker thread."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from polpod.errors import RequestError
from polpod.runner.directory import open_left

BLOCK = 65536


class Slice(NamedTuple):
    """Bytes that begin at `offset` of the file; the reader goes on at `next_offset`.  `size`: of the file by then."""

    offset: int
    data: bytes
    next_offset: int
    size: int = 0


def read_log(path: str, offset: int, limit: int, tail: int | None) -> Slice:
    """At most `limit` bytes (one or more) from `offset`, or from the start of the last `tail` lines; no file yet: nothing.

    A log that was capped has a hole behind its head: reading goes on behind it (DESIGN §6).  Raises RequestError, naming
    the path, for what cannot be read.
    """
    try:
        return _read(path, offset, limit, tail)
    except FileNotFoundError:
        return Slice(offset, b"", offset)
    except OSError as exc:
        raise RequestError(f"{path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise RequestError(str(exc)) from exc


def read_end(path: str, most: int) -> bytes:
    """The last bytes of it, at most so many; nothing where there is no file.  Raises RequestError as `read_log`."""
    size = read_log(path, 0, 1, None).size
    return read_log(path, max(0, size - most), most, None).data


def _read(path: str, offset: int, limit: int, tail: int | None) -> Slice:
    fd = open_left(path)
    try:
        if tail is not None:
            offset = _start_of_last(fd, tail)
        while True:
            start = _next_data(fd, offset)
            data = os.pread(fd, min(limit, _next_hole(fd, start) - start), start)
            size = os.fstat(fd).st_size
            # What was let go meanwhile reads as zeros, or as nothing though more follows.
            if _next_hole(fd, start) - start >= len(data) and (data or start >= size):
                break
    finally:
        os.close(fd)
    return Slice(start, data, start + len(data), size)


def _next_data(fd: int, offset: int) -> int:
    size = os.fstat(fd).st_size  # first: what is written after a look that found a hole is not part of it
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return max(offset, size)
        raise


def _next_hole(fd: int, offset: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_HOLE)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return offset
        raise


def _start_of_last(fd: int, lines: int) -> int:
    """Where the last `lines` lines begin; a last line without its newline counts."""
    end = os.fstat(fd).st_size
    if lines == 0:
        return end
    wanted, position = lines, end
    hole = _next_hole(fd, 0)
    while position > 0:
        start = max(0, position - BLOCK)
        if hole <= start and _next_data(fd, start) >= position:  # a hole may be as long as all that a job ever wrote
            position = hole
            continue
        block = os.pread(fd, position - start, start)
        if position == end and block.endswith(b"\n"):
            wanted += 1
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
            if wanted == 0:
                return start + at + 1
        position = start
    return 0
