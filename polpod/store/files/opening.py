"""Opening a store of files: alone, with what the redo log says, and with what is damaged set aside.

Rules:

1. One process at a time has a store open.
2. A store of a later polpod is refused and left as it is.  An older one needs nothing: its records are decoded as today's,
   and what is not in their files is computed.
3. What is set aside is never thrown away: the file goes to `damaged/<time>/`, what it says also into the table
   `quarantine`, and the journal tells of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from polpod.durable import sync
from polpod.errors import Damaged, DiskFull, SchemaTooNew, StoreError, Unavailable
from polpod.model.events import Event
from polpod.store import quarantine
from polpod.store.files.changes import Changes
from polpod.store.files.layout import DAMAGED, LOCK, REDO, VERSION, is_journal, place_named
from polpod.store.files.load import Bad, dangling, load
from polpod.store.files.redo import NO_SPACE, Redo
from polpod.store.files.replay import replay
from polpod.store.files.session import FilesSession
from polpod.store.files.tree import Tree, remove, replace
from polpod.store.memory import open_memory
from polpod.store.migrate import Schema
from polpod.store.records import Tx
from polpod.store.session import Sessions
from polpod.store.sqlite import BUSY_TIMEOUT, FOREIGN_KEYS, Connection, SqliteRows, set_pragmas, translated
from polpod.store.table import AnyTable
from polpod.store.tables import Events

FORMAT = 1

_LOOK_AGAIN = 0.02

log = logging.getLogger(__name__)


class Version(Struct, frozen=True):
    """What store.json says."""

    format: int
    schema: int


def open_sessions(path: str, schema: Schema, *, timeout: float = BUSY_TIMEOUT) -> Sessions:
    """As of store/location.py, for the directory at `path`, which is made where there is none.

    `timeout`: seconds to wait for another process that has it open; then it raises Unavailable.
    """
    assert schema.tables
    with _told(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        lock = _take(os.path.join(path, LOCK), timeout)
        try:
            return Sessions(_open(path, schema, lock))
        except BaseException:
            os.close(lock)
            raise


def _open(path: str, schema: Schema, lock: int) -> FilesSession:
    version = os.path.join(path, VERSION)
    there = _check(version, schema)
    damaged = os.path.join(path, DAMAGED, f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    believed = replay(path, schema.tables)
    if not believed:
        _aside(os.path.join(path, REDO), os.path.join(damaged, REDO))
    redo = Redo(os.path.join(path, REDO))
    db = open_memory(path, schema)
    try:
        bad = _fill(db, path, schema.tables)
        tree = Tree(path, SqliteRows(db))
        session = FilesSession(db, tree, redo, Changes(db, schema.tables), lock)
        if bad or not believed:
            _set_aside(session, tree, path, damaged, bad, believed=believed)
    except BaseException:
        db.close()
        redo.close()
        raise
    wanted = Version(FORMAT, len(schema.scripts))
    if there != wanted:
        replace(version, msgspec.json.format(msgspec.json.encode(wanted)) + b"\n", on_disk=True)
    sync(path)
    return session


def _take(path: str, timeout: float) -> int:
    """Rule 1.  The lock ends with the process, or when what is returned is closed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(fd)
                raise Unavailable(f"{path}: another process has this store open") from None
            time.sleep(_LOOK_AGAIN)
        else:
            return fd


def _check(path: str, schema: Schema) -> Version | None:
    """Rule 2.  None: the store is a new one, or somebody removed the file."""
    try:
        with open(path, "rb") as file:
            there = msgspec.json.decode(file.read(), type=Version)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise Damaged(
            f"{path}: {error}; it says in which format the files beside it are: "
            f'{{"format": {FORMAT}, "schema": {len(schema.scripts)}}} if this polpod wrote them'
        ) from error
    if there.format > FORMAT or there.schema > len(schema.scripts):
        raise SchemaTooNew(
            f"{path}: written by a later polpod: format {there.format}, schema {there.schema}, and this one knows "
            f"{FORMAT} and {len(schema.scripts)}"
        )
    return there


def _fill(db: Connection, path: str, tables: Sequence[AnyTable]) -> list[Bad]:
    rows = SqliteRows(db)
    with translated(path):
        set_pragmas(db, ("foreign_keys", 0))  # what refers to what is not in the order of the files
        db.execute("BEGIN")
        bad = load(path, tables, rows)
        db.execute("COMMIT")
        set_pragmas(db, FOREIGN_KEYS)
    return bad + dangling(db, tables, rows)


def _set_aside(
    session: FilesSession, tree: Tree, path: str, damaged: str, bad: Sequence[Bad], *, believed: bool
) -> None:
    """Rule 3.  Cut off before its commit, it is done again by the next one who opens the store."""
    files = {(one.table, one.file) for one in bad}
    for table, name in files:
        _beside(os.path.join(path, table.name, name), os.path.join(damaged, table.name, name))
    _sync_names(damaged, path)
    session.begin(durable=True)
    tx = Tx(session.rows)
    for one in bad:
        put = quarantine.move if one.known else quarantine.keep_nameless
        kept = put(tx, one.table, one.row, one.problem)
        _tell(path, f"{one.table.name}/{one.file}", f"{one.problem}; it is {kept.subject} in the quarantine", damaged)
    if not believed:
        body = {"problem": "a commit in it is damaged, and those from there on are not in the store", "kept": damaged}
        tx.append(Events, Event(at=datetime.now(UTC), kind="store:quarantined", subject=f"store/{REDO}", body=body))
        _tell(path, REDO, body["problem"], damaged)
    tx.close()
    nameless = []
    for table, name in files:
        if (place := place_named(table, name)) is None:
            nameless.append(os.path.join(path, table.name, name))
        elif is_journal(table):
            tree.note_whole(place)
    session.commit()
    for file in nameless:
        remove(file)


def _tell(path: str, name: str, what: str, damaged: str) -> None:
    shown = os.fsencode(name).decode(errors="backslashreplace")  # a name that is no text is none in a log, either
    log.error("%s: %s: %s; the file is kept in %s", path, shown, what, damaged)


def _beside(path: str, kept: str) -> None:
    """Have what is at `path` at `kept`, too; what cannot have two names, only there."""
    os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:
        os.rename(path, kept)


def _aside(path: str, kept: str) -> None:
    os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
    os.rename(path, kept)
    _sync_names(os.path.dirname(kept), os.path.dirname(path))


def _sync_names(directory: str, top: str) -> None:
    """Wait until all names below `directory`, and it itself below `top`, are on disk."""
    for parent, _, _ in os.walk(directory):
        sync(parent)
    while directory != top:
        directory = os.path.dirname(directory)
        sync(directory)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """What the operating system refuses, as an error of polpod/errors.py."""
    try:
        yield
    except OSError as exc:
        where = exc.filename or path
        if exc.errno in NO_SPACE:
            raise DiskFull(f"{where}: no space left") from exc
        raise StoreError(f"{where}: {exc.strerror}") from exc
