"""Putting other databases in the place of those that are there: all of them, or, after a kill in between, all at the next
opportunity; and what was there is kept.

    incoming-<time>/   the files that are to be put in place: whole and on disk once it has this name
    aside-<time>/      what was there before: a directory that `polpoctl store restore` takes back

Rules:

1. Nothing is deleted and nothing overwritten (F53), nor is anything written meanwhile into what is put aside.
2. Whoever takes the state directory's lock calls `finish` before it opens a database: so nobody sees half of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from polpod.durable import sync
from polpod.errors import StoreError
from polpod.store.backup import CONFIG_NAME, RUNS_NAME, TASKS_NAME
from polpod.store.content import carry, forget_half
from polpod.store.sqlite import translated

_NAMES = (TASKS_NAME, RUNS_NAME, CONFIG_NAME)
PREPARED, SCRATCH = "prepared-", "salvage-"
"""Beginnings of names of directories in which copies are worked on, by whoever holds the lock."""

_COMPANIONS = ("", "-wal", "-shm")
"""A database and the files that SQLite keeps beside it: a WAL without its own database would be replayed into another."""

_WAL_WRITE_LOCK = 120


def commit(state: str, prepared: str) -> str:
    """Put the files in the directory `prepared`, which lies in the state directory, in place of those with their names.

    Returns the directory in which those are now.  Raises StoreError.
    """
    stamp = _unused(state)
    for name in _NAMES:
        if os.path.exists(os.path.join(prepared, name)):
            _make_one_file(os.path.join(prepared, name))
    sync(prepared)
    os.rename(prepared, os.path.join(state, f"incoming-{stamp}"))
    sync(state)
    finish(state)
    return os.path.join(state, f"aside-{stamp}")


def _make_one_file(path: str) -> None:
    """On disk, and a database without a WAL beside it."""
    if not path.endswith(CONFIG_NAME):
        with translated(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync(path)


@contextmanager
def runners_wait(state: str) -> Iterator[None]:
    """No runner writes into runs.db meanwhile: an outcome in a file that is put aside would be lost, and the work done again.

    It waits, and writes then into the new file (runner/row.py) or into its run directory.  Taken is the lock of whoever
    writes to a WAL (sqlite.org/walformat.html, "Locks": byte 120 of the -shm file), without SQLite, which could not open
    a damaged file, and would remove the new one's WAL when it closes the old one.  Raises OSError.
    """
    path = os.path.join(state, RUNS_NAME)
    if not os.path.exists(path):
        yield
        return
    shm = os.open(f"{path}-shm", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(shm, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _WAL_WRITE_LOCK, 1, 0))
        yield
    finally:
        os.close(shm)


def finish(state: str) -> None:
    """Carry to its end what a kill or a power cut interrupted, and remove what was not prepared to its end.

    Raises StoreError, naming the path.
    """
    for kind in PREPARED, SCRATCH:
        for left in Path(state).glob(f"{kind}*"):
            shutil.rmtree(left, ignore_errors=True)
    forget_half(state)
    try:
        for incoming in sorted(Path(state).glob("incoming-*")):
            _exchange(Path(state), incoming, Path(state, incoming.name.replace("incoming", "aside", 1)))
    except OSError as exc:
        raise StoreError(f"{exc.filename}: {exc.strerror}") from exc


def is_pending(state: str) -> bool:
    """Whether `finish` has something to put in place."""
    return any(Path(state).glob("incoming-*"))


def _exchange(state: Path, incoming: Path, aside: Path) -> None:
    aside.mkdir(mode=0o700, exist_ok=True)
    if (incoming / TASKS_NAME).exists() and any((state / name).exists() for name in _NAMES):
        carry(str(state), str(aside))  # the next task store may not name it, and then it goes
    sync(str(state))
    for name in _NAMES:
        if not (incoming / name).exists():
            continue  # not to be replaced, or replaced already
        for companion in _COMPANIONS:
            if (state / f"{name}{companion}").exists():
                (state / f"{name}{companion}").rename(aside / f"{name}{companion}")
        sync(str(aside))
        (incoming / name).rename(state / name)
        sync(str(state))
    incoming.rmdir()
    sync(str(state))


def _unused(state: str) -> str:
    """The time in UTC, with a number behind it where a directory has its name already."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    stamp, number = now, 1
    while any(os.path.lexists(os.path.join(state, f"{kind}-{stamp}")) for kind in ("aside", "incoming")):
        number += 1
        stamp = f"{now}-{number}"
    return stamp
