"""The task store and runs.db, quickly: `polpoctl store check` looks at every row."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from polpod import remedies
from polpod.doctor.checkup import Diagnosis, Patient, copied, ok, problem, warning
from polpod.errors import Damaged, DiskFull, SchemaTooNew, StartError, StoreError, Unavailable
from polpod.storage import locate
from polpod.store import migrate
from polpod.store.backup import RUNS_NAME, TASKS_NAME
from polpod.store.check import refuse_half
from polpod.store.copy import copied_to
from polpod.store.databases import RUNS, TASKS
from polpod.store.group import open_store
from polpod.store.records import Tx
from polpod.store.sqlite import JOURNAL_SIZE_LIMIT, SqliteRows, open_reader, translate, translated
from polpod.store.tables import Tasks


def databases(patient: Patient) -> Iterator[Diagnosis]:
    """SQLite's quick_check, the schema, and a WAL that somebody keeps from being emptied (F53, F56, F59)."""
    root = patient.paths.root
    in_sqlite = patient.config.settings.storage == "sqlite"
    if not in_sqlite:
        yield from _elsewhere(patient)
    there = [name for name in (TASKS_NAME, RUNS_NAME) if os.path.exists(os.path.join(patient.paths.path, name))]
    if not there:
        yield warning("databases", "none yet", remedies.command(root, "start"))
        return
    for name, schema in ((TASKS_NAME, TASKS.schema), (RUNS_NAME, RUNS.schema)):
        if name == TASKS_NAME and not in_sqlite:
            continue
        path = os.path.join(patient.paths.path, name)
        try:
            said = _quick_check(path, schema, with_half=in_sqlite)
            went = _copied_to(path) if name == TASKS_NAME and patient.status is None else None
        except SchemaTooNew as error:
            yield problem(name, str(error), f"install that polpod, or {remedies.restore(root)}")
        except DiskFull as error:
            yield problem(name, str(error), "make room")
        except (StoreError, Unavailable) as error:
            yield problem(name, str(error), remedies.check(root))
        else:
            yield ok(name, said)
            if went:
                yield copied("sqlite", went, root)
        wal = f"{path}-wal"
        if os.path.exists(wal) and os.path.getsize(wal) > JOURNAL_SIZE_LIMIT:
            yield warning(
                name,
                f"its WAL has {os.path.getsize(wal) >> 20} MiB: somebody has been reading for long",
                f"fuser -v {wal}",
            )


def _copied_to(path: str) -> str | None:
    with closing(open_reader(path)) as db, translated(path):
        return copied_to(Tx(SqliteRows(db)))


def _elsewhere(patient: Patient) -> Iterator[Diagnosis]:
    """The task store of another backend, which who has it keeps for himself."""
    storage = patient.config.settings.storage
    if patient.holder is not None:
        yield ok("tasks", f"in {storage}, which the daemon has")
        return
    try:
        location = locate(patient.config, patient.paths, os.environ)
        with closing(open_store(location, TASKS)) as store:
            number, went = store.write(lambda tx: (tx[Tasks].count(), copied_to(tx)))
            yield ok("tasks", f"{number} in {store.session.where}")
            if went:
                yield copied(storage, went, patient.paths.root)
    except (StartError, StoreError, Unavailable, DiskFull) as error:
        yield problem(
            "tasks", f"{storage}: {error}", "see databaseUrl in polpo.json" if storage == "postgres" else None
        )


def _quick_check(path: str, schema: migrate.Schema, *, with_half: bool) -> str:
    """Raises Damaged, SchemaTooNew, StoreError."""
    if with_half:
        refuse_half(os.path.dirname(path))
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        raise Damaged(f"{path}: empty, or not there, and the other database is")
    with closing(open_reader(path)) as db:
        try:
            with translated(path):
                migrate.check(db, path, schema)
            found = [str(text) for (text,) in db.execute("PRAGMA quick_check(3)")]
        except sqlite3.Error as error:
            raise translate(error, path) from error
        if found != ["ok"]:
            raise Damaged(f"{path}: {'; '.join(line for text in found for line in text.splitlines())}")
        return f"{os.path.getsize(path) >> 10} KiB, schema {migrate.version_of(db)}, quick_check finds nothing"
