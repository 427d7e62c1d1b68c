"""Copies of both databases that belong together, made beside whoever writes them.

Rules:

1. The two snapshots are taken while nothing can be committed to the task store, so the pair is one that a kill at that
   moment would have left: recovery knows what to do with it (DESIGN §8, the two-prefix test).
2. Copying reads the snapshots alone.  It blocks no writer; for as long as it takes, the WALs grow (F56).
3. The content of artifacts is taken after that: what a record names was there before it (store/content.py).
4. A backup appears under its name when it is whole and on disk, and replaces nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from glob import escape
from pathlib import Path

from polpod.durable import sync
from polpod.errors import Conflict, DiskFull, NotFound, RequestError
from polpod.store.content import carry
from polpod.store.sqlite import Connection, open_reader, translated

TASKS_NAME = "state.db"
RUNS_NAME = "runs.db"
CONFIG_NAME = "polpo.json"

STEP = 4096
"""Pages that are copied at a time; in between, the copying may be called off."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Pair:
    """Both databases of the state directory at `path`, open for reading; whoever makes it closes it."""

    def __init__(self, path: str, tasks: Connection, runs: Connection) -> None:
        self.path = path
        self.tasks = tasks
        self.runs = runs

    def pin(self) -> None:
        """From here on both are read as they are now; call it while nothing is committed to the task store (rule 1)."""
        for db in (self.tasks, self.runs):
            pin(db)

    def pin_beside(self, tries: int = 1000) -> bool:
        """As `pin`, beside a daemon of another process: again, until nothing was committed in between.

        False: it was too busy for that many tries, and the two may be of different moments.
        """
        with translated(self.path), closing(open_reader(self.tasks.path)) as watch:
            for _ in range(tries):
                before = watch.execute("PRAGMA data_version").fetchone()
                self.pin()
                if watch.execute("PRAGMA data_version").fetchone() == before:
                    return True
        return False

    def size(self) -> int:
        """Bytes of both as they are pinned."""
        return sum(_number(db, "page_count") * _number(db, "page_size") for db in (self.tasks, self.runs))

    def close(self) -> None:
        self.tasks.close()
        self.runs.close()


def open_pair(path: str) -> Pair:
    """Raises Damaged, StoreError, Unavailable."""
    tasks = open_reader(os.path.join(path, TASKS_NAME))
    try:
        return Pair(path, tasks, open_reader(os.path.join(path, RUNS_NAME)))
    except BaseException:
        tasks.close()
        raise


def pin(db: Connection) -> None:
    """Take a snapshot anew: a transaction sees the database as it was at its first read."""
    with translated(db.path):
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def check_target(target: str) -> None:
    """Raises Conflict for a target that exists, NotFound for one in a directory that does not."""
    if os.path.lexists(target):
        raise Conflict(f"{target} is there already; a backup replaces nothing")
    if not os.path.isdir(os.path.dirname(target)):
        raise NotFound(f"there is no directory {os.path.dirname(target)}")


def write_backup(pair: Pair, target: str, *, leave: int = 0, go_on: Callable[[], None] = lambda: None) -> int:
    """Copy the pinned pair, polpo.json where there is one, and the content of artifacts to the new directory `target`;
    returns its bytes.

    `leave`: bytes that must stay free beside it.  `go_on` is called now and then, and raises to call it off.
    Raises Conflict, NotFound, DiskFull, RequestError (naming the path), StoreError.
    """
    check_target(target)
    parent, name = os.path.split(target)
    with told(target):
        free = os.statvfs(parent)
        if leave and free.f_bavail * free.f_frsize < pair.size() + leave:
            raise DiskFull(
                f"{parent}: a backup of {pair.size() >> 20} MiB would leave less than {leave >> 20} MiB free"
            )
        with _partial(parent, name) as partial:
            contents = carry(pair.path, partial, go_on)
            for db, to in ((pair.tasks, TASKS_NAME), (pair.runs, RUNS_NAME)):
                copy_database(db, os.path.join(partial, to), go_on)
            copy_file(os.path.join(pair.path, CONFIG_NAME), os.path.join(partial, CONFIG_NAME))
            size = sum(contents, sum(entry.stat().st_size for entry in os.scandir(partial) if entry.is_file()))
            sync(partial)
            check_target(target)
            os.rename(partial, target)
        sync(parent)
    return size


@contextmanager
def _partial(parent: str, name: str) -> Iterator[str]:
    """A directory to write the backup `name` into; gone when that fails, and by the next one of this name after a kill."""
    for left in Path(parent).glob(f".{escape(name)}.*.partial"):
        with suppress(OSError), _locked(str(left)):  # else it is being written
            shutil.rmtree(left)
    partial = tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent)
    with _locked(partial):
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Raises BlockingIOError if somebody else has it locked."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


@contextmanager
def told(path: str) -> Iterator[None]:
    """What the operating system refuses, as an error of ours about the file, or else about `path`: DiskFull, RequestError."""
    try:
        yield
    except OSError as exc:
        where = exc.filename2 or exc.filename or path
        if exc.errno in _FULL:
            raise DiskFull(f"{where}: no space left") from exc
        hint = " to polpod; a service needs ReadWritePaths= in its unit" if exc.errno == errno.EROFS else ""
        raise RequestError(f"{where}: {exc.strerror}{hint}") from exc


def copy_database(source: Connection, target: str, go_on: Callable[[], None] = lambda: None) -> None:
    """A copy of the source's snapshot as one file of its own, on disk.  Raises DiskFull, StoreError, OSError."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with translated(target), closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy, pages=STEP, progress=lambda status, left, total: go_on())
    sync(target)


def copy_file(source: str, target: str) -> None:
    """A copy on disk of a small file; none of one that is not there.  Raises OSError."""
    try:
        with open(source, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return
    with open(target, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(data)
    sync(target)


def _number(db: Connection, pragma: str) -> int:
    (value,) = db.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
