"""Whether the databases of a state directory, or of a backup, are whole and agree: read alone, beside whoever writes.

Rules:

1. What a kill, a power cut or a daemon at work may leave is no finding; what the next start settles by itself is a note.
2. Each finding is a sentence for a person, and names the remedy that helps.
3. A damaged file hides nothing: each part is looked at by itself, and one that cannot be read is a finding.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing

import msgspec
from msgspec import Struct

from polpod.errors import Damaged, DiskFull, SchemaTooNew, StoreError, Unavailable
from polpod.store.agreement import disagreements
from polpod.store.backup import RUNS_NAME, TASKS_NAME, Pair, pin
from polpod.store.databases import RUNS, TASKS
from polpod.store.findings import Finding, Remedy, note, problem
from polpod.store.migrate import Schema, statements, version_of
from polpod.store.migrate import check as check_version
from polpod.store.runs import RunTx
from polpod.store.schema import TABLES
from polpod.store.sqlite import Connection, open_reader, translate, translated
from polpod.store.table import AnyTable
from polpod.store.tables import Events

SHOWN = 20
"""Findings of one kind about one file: the twentieth says nothing that the first did not."""

_SCHEMAS = {TASKS_NAME: TASKS.schema, RUNS_NAME: RUNS.schema}
_USED = {TASKS_NAME: "SELECT 1 FROM tasks LIMIT 1", RUNS_NAME: "SELECT 1 FROM runs LIMIT 1"}
_CHUNK = 1000


class Checked(Struct, frozen=True):
    """`rows`: how many records each table has, as far as it could be read."""

    findings: list[Finding]
    rows: dict[str, int]

    @property
    def good(self) -> bool:
        return not any(finding.level == "problem" for finding in self.findings)

    def as_json(self) -> object:
        """For `--json`."""
        return {"ok": self.good, "findings": msgspec.to_builtins(self.findings), "rows": self.rows}


def check(directory: str, *, served: bool = False) -> Checked:
    """Look at the two databases in `directory`; `served`: a daemon has it open, so what a start settles is a problem."""
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    with ExitStack() as opened:
        found: dict[str, Connection] = {}
        for name in (TASKS_NAME, RUNS_NAME):
            try:
                found[name] = opened.enter_context(closing(_open(os.path.join(directory, name), name)))
            except StoreError as error:
                findings.append(problem(name, str(error), _remedy(error)))
        if len(found) == 2 and not Pair(directory, found[TASKS_NAME], found[RUNS_NAME]).pin_beside():
            findings.append(
                note("both", "the daemon is so busy that the two files were looked at at different moments")
            )
        if len(found) == 2:
            try:
                refuse_half(directory)
            except Damaged as error:
                findings.append(problem("both", str(error), "repair"))
        for name, db in found.items():
            findings += _file(db, name, rows)
        comparable = len(found) == 2 and all(_of_today(db, name) for name, db in found.items())
        if comparable and not any(f.level == "problem" for f in findings):
            findings += disagreements(found[TASKS_NAME], found[RUNS_NAME], served)
    return Checked(findings, rows)


def refuse_half(directory: str) -> None:
    """Raises Damaged where one of the two databases is gone or empty, and the other one has been used (F53); SchemaTooNew.

    A daemon would make a new one in its place, and forget what was in it.
    """
    if (name := lost_half(directory)) is not None:
        raise Damaged(
            f"{os.path.join(directory, name)} is empty or not there, and the other database has been used with it"
        )


def lost_half(directory: str) -> str | None:
    """The database of which nothing is left, while the other one has been used.  Raises Damaged, SchemaTooNew: the other."""
    paths = {name: os.path.join(directory, name) for name in (TASKS_NAME, RUNS_NAME)}
    gone = [name for name, path in paths.items() if _blank(path)]
    if len(gone) != 1:
        return None
    (other,) = paths.keys() - gone
    try:
        with closing(_open(paths[other], other)) as db, translated(paths[other]):
            return gone[0] if db.execute(_USED[other]).fetchone() is not None else None
    except (Damaged, SchemaTooNew):
        raise
    except StoreError:  # another program's: whoever opens it says so
        return None


def damaged(path: str) -> bool:
    """Whether this one file needs to be salvaged.  Raises SchemaTooNew; StoreError for what another program made."""
    name = os.path.basename(path)
    try:
        db = _open(path, name)
    except Damaged:
        return True
    with closing(db):
        return any(finding.level == "problem" for finding in _file(db, name, {}))


def _blank(path: str) -> bool:
    """Whether nothing is in it: no file, no byte, or, as where a WAL was removed before its first checkpoint, no table."""
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return True
    try:
        with closing(open_reader(path)) as db, translated(path):
            (objects,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except (StoreError, DiskFull, Unavailable):  # whoever opens it says so
        return False
    return bool(objects == 0)


def _of_today(db: Connection, name: str) -> bool:
    return version_of(db) == len(_SCHEMAS[name].scripts)


def _open(path: str, name: str) -> Connection:
    """The database, with a snapshot of it.  Raises Damaged, SchemaTooNew, StoreError."""
    if not os.path.exists(path):
        raise Damaged(f"{path} is not there")
    if os.path.getsize(path) == 0:
        raise Damaged(f"{path} is empty, which polpod never leaves it")
    db = open_reader(path)
    try:
        pin(db)
        with translated(path):
            check_version(db, path, _SCHEMAS[name])
    except StoreError:
        db.close()
        raise
    return db


def _remedy(error: StoreError) -> Remedy:
    match error:
        case SchemaTooNew():
            return "upgrade"
        case Damaged():
            return "repair"
    return "restore"


def _file(db: Connection, name: str, rows: dict[str, int]) -> Iterator[Finding]:
    """What is wrong within one file; its records are counted into `rows`."""
    schema, version = _SCHEMAS[name], version_of(db)
    parts: list[Callable[[], Iterable[Finding]]] = [
        lambda: _integrity(db, name),
        lambda: _references(db, name),
        lambda: _objects(db, name, Schema(schema.name, schema.scripts[:version])),
    ]
    if _of_today(db, name):
        parts.append(lambda: _task_store_rows(db, rows) if name == TASKS_NAME else _run_rows(db, rows))
    else:
        yield note(
            name, f"{name} has schema {version}; the next start brings it to {len(schema.scripts)}, after a copy"
        )
    for part in parts:
        try:
            yield from part()
        except sqlite3.Error as error:
            told = translate(error, db.path)
            if not isinstance(told, StoreError):
                raise told from error
            yield problem(name, str(told), "repair")
        except StoreError as error:
            yield problem(name, str(error), "repair")


def _integrity(db: Connection, name: str) -> Iterator[Finding]:
    for (text,) in db.execute(f"PRAGMA integrity_check({SHOWN})"):
        for line in [] if text == "ok" else str(text).splitlines():
            yield problem(name, f"{name} is damaged: {line}", "repair")


def _references(db: Connection, name: str) -> Iterator[Finding]:
    for table, row, other, _ in db.execute("PRAGMA foreign_key_check").fetchmany(SHOWN):
        yield problem(name, f"{name}: row {row} of {table} names a row of {other} that is not there", "repair")


def _objects(db: Connection, name: str, schema: Schema) -> Iterator[Finding]:
    """Tables, indexes and triggers are those that the migrations make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for script in schema.scripts:
            for statement in statements(script):
                fresh.execute(statement)
        wanted = _schema_of(fresh)
    found = _schema_of(db)
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            how = "is missing" if key not in found else "does not belong there" if key not in wanted else "is another"
            yield problem(name, f"{name}: {key[0]} {key[1]} {how}", "repair")


def _schema_of(db: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = db.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    return {(kind, name): " ".join((sql or "").split()) for kind, name, sql in rows}


def _task_store_rows(db: Connection, rows: dict[str, int]) -> Iterator[Finding]:
    for table in TABLES:
        bad = 0
        rows[table.name] = 0
        for finding in _records(db, table, rows):
            bad += 1
            if bad <= SHOWN:
                yield finding
        if bad > SHOWN:
            yield problem(TASKS_NAME, f"{bad - SHOWN} more records of {table.name} are bad", "repair")
    first, last, number = db.execute(f"SELECT min(seq), max(seq), count(*) FROM {Events.name}").fetchone()
    if number and last - first + 1 != number:
        missing = last - first + 1 - number
        yield problem(
            TASKS_NAME, f"the journal has gaps: {missing} events between {first} and {last} are missing", "repair"
        )


def _records(db: Connection, table: AnyTable, rows: dict[str, int]) -> Iterator[Finding]:
    """Every document decodes, and every column is what its document says."""
    columns = list(table.columns)
    listed = ", ".join(f'"{column}"' for column in columns)
    for *values, doc in db.execute(f'SELECT {listed}, CAST(doc AS BLOB) FROM "{table.name}"'):
        rows[table.name] += 1
        key = "/".join(str(v) for c, v in zip(columns, values, strict=True) if c in {k.name for k in table.key})
        if (why := table.problem(doc)) is not None:
            yield problem(
                TASKS_NAME, f"{table.name} {key} does not decode: {why}; polpod sets it aside when it reads it", "start"
            )
            continue
        row = table.row(table.entity_of(doc))
        wrong = [c for c, value in zip(columns, values, strict=True) if row.columns[c] != value]
        if wrong:
            yield problem(
                TASKS_NAME, f"{table.name} {key}: column {', '.join(wrong)} differs from its record", "repair"
            )


def _run_rows(db: Connection, rows: dict[str, int]) -> Iterator[Finding]:
    ids = [run_id for (run_id,) in db.execute("SELECT id FROM runs")]
    tx = RunTx(db)
    for start in range(0, len(ids), _CHUNK):
        tx.many(ids[start : start + _CHUNK])
    rows["runs"] = len(ids)
    for _, text in tx.quarantined[:SHOWN]:
        yield problem(RUNS_NAME, text, "repair")
    if len(tx.quarantined) > SHOWN:
        yield problem(RUNS_NAME, f"{len(tx.quarantined) - SHOWN} more runs do not decode", "repair")
