"""Saving what can still be read of a damaged database into a new one, made by the migrations.

Rules:

1. The damaged file is only read, as a copy; what becomes of the two files is the caller's business (store/replace.py).
2. A record is saved if it decodes and the new database takes it: what comes out is in order, whatever went in.
3. What depended on records that are lost is made to agree with their absence, and said: nothing is invented.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from polpod.errors import AlreadyExists, BrokenReference
from polpod.model.events import Event
from polpod.model.executions import BarrierState
from polpod.model.runs import Phase, Run
from polpod.model.tasks import Task, TaskStatus
from polpod.store import quarantine, queries, scan
from polpod.store.databases import RUNS, TASKS
from polpod.store.group import GroupCommit
from polpod.store.missions import Barriers
from polpod.store.records import Tx
from polpod.store.restore import OTHER_BOOT
from polpod.store.runs import RunTx
from polpod.store.schema import TABLES
from polpod.store.sqlite import open_reader, open_writer, translated
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.table import NOT_DECODED, AnyTable
from polpod.store.tables import Dependencies, Events, Quarantine, Quarantined, Tasks

LOST_EVENT = "store:lost"
"""Stands in the journal where an event was that cannot be read, so that `seq` has no gaps."""
SALVAGED_EVENT = "store:salvaged"

_CHUNK = 500


class Saved(Struct, frozen=True):
    """What became of one table.  `lost` are the keys of what is known to be lost; `sure`: there was no more than that."""

    table: str
    kept: int
    lost: tuple[str, ...]
    sure: bool
    adopted: int = 0
    """Rows that were made from what living runners say of themselves."""


def tasks_at_work(runs: str) -> set[str]:
    """The tasks of which this runs.db has a run that lives, or whose outcome is not applied.  Raises StoreError."""
    with translated(runs), closing(open_reader(runs)) as db:
        return {task_id for (task_id,) in db.execute("SELECT task_id FROM runs WHERE collected_at IS NULL")}


def salvage_tasks(copy: str, target: str, at_work: Iterable[str], now: datetime) -> list[Saved]:
    """From the copy of a damaged state.db into a new file.  `at_work`: tasks that there were.  Raises StoreError."""
    with translated(copy), closing(scan.open_damaged(copy, TASKS.schema)) as source:
        store = GroupCommit(SqliteWriter(open_writer(target, TASKS.schema)), TASKS)
        try:
            saved, highest = [], 0
            for table in TABLES:
                one, top = _save_table(source, store, table)
                saved.append(one)
                highest = top if table is Events else highest
            more = store.write(lambda tx: {i for i in at_work if not (tx[Tasks].get(i) or quarantine.of_task(tx, i))})
            saved = [_with_lost(one, more) if one.table == Tasks.name else one for one in saved]
            store.write(lambda tx: _mend(tx, saved, highest, now))
        finally:
            store.close()
    return saved


def salvage_runs(copy: str, target: str, directories: Iterable[Mapping[str, Any]], last_run: int) -> list[Saved]:
    """From the copy of a damaged runs.db into a new file.

    `directories`: of runs whose runner lives, or left its outcome, the columns that can be known; they are taken where
    the damaged file has no such run (F53).  `last_run`: the largest run id that anybody knows of.  Raises StoreError.
    """
    columns = Run.__struct_fields__
    with translated(copy), closing(scan.open_damaged(copy, RUNS.schema)) as source:
        known, sure = scan.known(source, "runs")
        kept: set[int] = set()
        with closing(open_writer(target, RUNS.schema)) as db:
            db.execute("BEGIN IMMEDIATE")
            for row_id, values in scan.rows(source, "runs", columns):
                known.setdefault(row_id, str(row_id))
                if _save_run(db, dict(zip(columns, values, strict=True))):
                    kept.add(row_id)
            adopted = {int(d["id"]) for d in directories if d["id"] not in kept and _save_run(db, d)}
            RunTx(db).never_below(max(last_run, *known, 0))
            db.execute("COMMIT")
    lost = sorted(known.keys() - kept - adopted)
    return [Saved("runs", len(kept), tuple(map(str, lost)), sure, len(adopted))]


def add_unknown_runs(state: str, runs: str, log_path: Callable[[int], str]) -> None:
    """Put the runs that tasks of this state.db are in progress with into the new runs.db, where their rows are lost.

    Without a row they would count as never started, and work with side effects would be done again; so each counts as
    lost (store/restore.py, rule 2).  Raises StoreError.
    """
    with translated(state), closing(open_reader(state)) as db:
        docs = [doc for (doc,) in db.execute("SELECT CAST(doc AS BLOB) FROM tasks WHERE live_run IS NOT NULL")]
    at_work = [Tasks.entity_of(doc) for doc in docs if Tasks.problem(doc) is None]
    with translated(runs), closing(open_writer(runs, RUNS.schema)) as db:
        known = {run_id for (run_id,) in db.execute("SELECT id FROM runs")}
        for task in at_work:
            if task.run_id is not None and task.run_id not in known:
                unknown = {
                    "id": task.run_id,
                    "task_id": task.id,
                    "attempt": task.attempts,
                    "phase": Phase.REVIEW if task.status is TaskStatus.REVIEW else Phase.EXECUTION,
                    "queue": task.queue,
                    "status": "running",
                    "nonce": f"salvaged-{task.run_id}",
                    "token_hash": "",
                    "created_at": f"{task.updated_at:%Y-%m-%dT%H:%M:%S.%fZ}",
                    "boot_id": OTHER_BOOT,
                    "claim_until_mono": 0,
                    "containment": "session",
                    "log_path": log_path(task.run_id),
                }
                _save_run(db, unknown)


def _save_table(source: sqlite3.Connection, store: GroupCommit[Tx], table: AnyTable) -> tuple[Saved, int]:
    """The second value: the largest row id that there was."""
    known, sure = scan.known(source, table.name)
    kept: set[int] = set()
    chunk: dict[int, Any] = {}
    for row_id, (doc,) in scan.rows(source, table.name, ("doc",)):
        known.setdefault(row_id, str(row_id))
        try:
            chunk[row_id] = table.entity_of(doc if isinstance(doc, bytes) else str(doc))
        except NOT_DECODED:
            continue
        if len(chunk) == _CHUNK:
            kept |= _add(store, table, chunk)
            chunk = {}
    kept |= _add(store, table, chunk)
    lost = tuple(key for row_id, key in sorted(known.items()) if row_id not in kept)
    return Saved(table.name, len(kept), lost, sure), max(known, default=0)


def _with_lost(saved: Saved, keys: Iterable[str]) -> Saved:
    return msgspec.structs.replace(saved, lost=tuple(dict.fromkeys([*saved.lost, *sorted(keys)])))


def _add(store: GroupCommit[Tx], table: AnyTable, chunk: Mapping[int, Any]) -> set[int]:
    """The row ids of those that the new database took: all at once, or else one by one."""

    def add(tx: Tx, entities: Iterable[Any]) -> None:
        for entity in entities:
            tx[table].add(entity)

    try:
        store.write(lambda tx: add(tx, chunk.values()))
        return set(chunk)
    except (AlreadyExists, BrokenReference):
        taken = set()
        for row_id, entity in chunk.items():
            with suppress(AlreadyExists, BrokenReference):
                store.write(lambda tx: add(tx, [entity]), durable=False)
                taken.add(row_id)
        return taken


def _save_run(db: sqlite3.Connection, columns: Mapping[str, Any]) -> bool:
    try:
        values = {name: v.decode() if isinstance(v, bytes) else v for name, v in columns.items()}
        run = msgspec.convert(values, Run)
        listed = ", ".join(Run.__struct_fields__)
        marks = ", ".join(f":{name}" for name in Run.__struct_fields__)
        db.execute(f"INSERT INTO runs ({listed}) VALUES ({marks})", msgspec.to_builtins(run))
    except (UnicodeDecodeError, msgspec.ValidationError, sqlite3.IntegrityError):
        return False
    return True


def _mend(tx: Tx, saved: list[Saved], last_event: int, now: datetime) -> None:
    """Rule 3."""
    _fill_journal(tx, last_event, now)  # first: what is appended comes after all that there ever was
    tasks = {task.id: task for task in tx[Tasks].find()}
    lost = {one.table: one.lost for one in saved}
    for task_id in lost[Tasks.name]:
        _set_aside(tx, task_id, now)
    _count_unmet(tx, tasks, set(lost[Tasks.name]))
    ids = [int(i) for i in (*tasks, *lost[Tasks.name]) if i.isascii() and i.isdigit() and len(i) <= 18]
    run_id = max((task.run_id or 0 for task in tasks.values()), default=0)
    seq = max((task.seq for task in tasks.values()), default=0) + len(lost[Tasks.name])
    queries.raise_counters(tx, str(max(ids, default=0)), seq, run_id)
    body = {one.table: {"kept": one.kept, "lost": len(one.lost)} for one in saved}
    tx.append(Events, Event(at=now, kind=SALVAGED_EVENT, subject="daemon", body=body))


def _set_aside(tx: Tx, task_id: str, now: datetime) -> None:
    """A lost task is treated as one that does not decode: it is accounted for, and holds up what depends on it."""
    columns = dict.fromkeys(Tasks.columns) | {Tasks.id.name: task_id}
    subject = f"{Tasks.noun}/{task_id}"
    lost = Quarantined(
        at=now, subject=subject, table=Tasks.name, problem="lost with damaged pages", columns=columns, doc=""
    )
    kept = tx.append(Quarantine, lost)
    body = {"problem": kept.problem, "quarantine": kept.seq}
    tx.append(Events, Event(at=now, kind=f"{Tasks.noun}:quarantined", subject=subject, body=body))


def _count_unmet(tx: Tx, tasks: Mapping[str, Task], lost: set[str]) -> None:
    unmet: Counter[str] = Counter()
    barriers = {barrier.id: barrier for barrier in tx[Barriers].find()}
    for edge in tx[Dependencies].find():
        on = tasks.get(edge.on_id)
        if edge.barrier:  # one that was lost lets nothing through by itself
            barrier = barriers.get(edge.on_id)
            met = barrier is not None and barrier.state is BarrierState.OPEN
        else:
            met = edge.on_id not in lost if on is None else on.status is TaskStatus.DONE
        unmet[edge.task_id] += not met
        if met != edge.met:
            tx[Dependencies].save(msgspec.structs.replace(edge, met=met))
    for task in tasks.values():
        if task.unmet != unmet[task.id]:
            tx[Tasks].save(msgspec.structs.replace(task, unmet=unmet[task.id]))


def _fill_journal(tx: Tx, last: int, now: datetime) -> None:
    kept = [event.seq for event in tx[Events].find()]
    for seq in sorted(set(range(min(kept, default=last), last + 1)) - set(kept)):
        tx[Events].add(Event(seq=seq, at=now, kind=LOST_EVENT, subject="daemon"))
