"""The redo log: what was committed, on disk, until all of the files that it changed are (DESIGN §8).

One line is one commit: a checksum, and each record that it changed, with its document or, if it was deleted, none.

Rules:

1. A commit that is not on disk here has not happened: its line is cut off again.  Where even that fails it is in doubt.
2. A line without its end was never acknowledged, and is nothing.  Another one that is damaged, or means nothing whatever
   its checksum says, ends what can be believed: it and what follows are kept aside, and reported.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from polpod.errors import CommitInDoubt, DiskFull, PolpodError, Unavailable
from polpod.store.table import NOT_DECODED, Scalar

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

_SUM = 9
"""Bytes of the checksum and the space behind it."""


class Change(Struct, frozen=True, array_like=True):
    table: str
    key: tuple[Scalar, ...]
    doc: str | None
    """None: there is no such record any more."""


class Log(Struct, frozen=True):
    """What a redo log says: commit by commit, in order."""

    commits: tuple[tuple[Change, ...], ...]
    damaged: bool
    """Whether it says more, which cannot be believed."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Change, ...]).decode


def read(path: str) -> Log:
    """Raises OSError."""
    try:
        with open(path, "rb") as file:
            *lines, _ = file.read().split(b"\n")
    except FileNotFoundError:
        lines = []
    commits: list[tuple[Change, ...]] = []
    for line in lines:
        if line[:_SUM] != _sum(line[_SUM:]):
            return Log(tuple(commits), damaged=True)
        try:
            commits.append(_decode(line[_SUM:]))
        except NOT_DECODED:
            return Log(tuple(commits), damaged=True)
    return Log(tuple(commits), damaged=False)


class Redo:
    """The log at `path`, which is emptied at once: what it said must be on disk in the files.  Raises OSError."""

    def __init__(self, path: str) -> None:
        self.size = 0
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.empty()
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, changes: Sequence[Change]) -> None:
        """Returns once the commit is on disk.  Raises DiskFull, Unavailable: it is not; CommitInDoubt."""
        text = _encode(changes)
        line = _sum(text) + text + b"\n"
        try:
            write(self._fd, line)
            os.fdatasync(self._fd)
        except OSError as exc:
            raise self._take_back(exc) from exc
        self.size += len(line)

    def empty(self) -> None:
        """All that it says is on disk in the files.  Raises OSError."""
        os.ftruncate(self._fd, 0)
        self.size = 0
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def _take_back(self, why: OSError) -> PolpodError:
        """Rule 1."""
        try:
            os.ftruncate(self._fd, self.size)
            os.fdatasync(self._fd)
        except OSError as exc:
            return CommitInDoubt(f"{self._path}: {why.strerror}; and then {exc.strerror}")
        if why.errno in NO_SPACE:
            return DiskFull(f"{self._path}: no space left")
        return Unavailable(f"{self._path}: {why.strerror}")


def write(fd: int, data: bytes) -> None:
    """Write all of it.  Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _sum(text: bytes) -> bytes:
    return b"%08x " % zlib.crc32(text)
