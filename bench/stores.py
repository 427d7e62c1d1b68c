"""Saves, gets and filtered lists a second within a transaction, on each backend; beside the same statements by hand.

By hand: the same table, the same columns and the same JSON, with the driver alone and every statement written out, as
somebody would who has but this one table."""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Figure, median, most
from bench.postgres import database
from polpod.model.tasks import Task, TaskStatus
from polpod.store.databases import TASKS
from polpod.store.group import open_store
from polpod.store.location import Files, Location, Memory, Postgres, Sqlite
from polpod.store.records import Tx
from polpod.store.tables import Tasks

ROWS = 1_000
PAGE = 100
ROUNDS = 15
MOST = 1.5

START = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = (TaskStatus.PENDING, TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED)

Measured = dict[str, float]
"""Seconds by operation."""


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="polpod-bench-") as directory, database() as url:
        places: dict[str, Location] = {
            "memory": Memory(),
            "file": Files(os.path.join(directory, "files")),
            "sqlite": Sqlite(os.path.join(directory, "state.db")),
        }
        if url is not None:
            places["postgres"] = Postgres(url)
        for name, location in places.items():
            Path(directory, "files").mkdir(exist_ok=True)
            yield from _of(name, location)


def tasks() -> list[Task]:
    return [
        Task(
            id=f"bench-{n}",
            seq=n,
            title=f"build number {n}",
            spec_id="0" * 64,
            project="bench",
            labels={"arch": "x86_64", "branch": f"topic/{n % 7}"},
            status=STATUSES[n % len(STATUSES)],
            created_at=START + timedelta(seconds=n),
            updated_at=START + timedelta(seconds=n),
            finished_at=START + timedelta(seconds=n + 60) if n % len(STATUSES) else None,
        )
        for n in range(ROWS)
    ]


def _of(name: str, location: Location) -> Iterator[Figure]:
    wanted = tasks()
    with closing(open_store(location, TASKS)) as store:
        ours: list[Measured] = []
        theirs: list[Measured] = []
        commits: list[float] = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            ours.append(store.write(lambda tx: _ours(tx, wanted)))
            commits.append(time.perf_counter() - started - sum(ours[-1].values()))
            store.write(lambda tx: tx[Tasks].delete_where())
            if name in MARKS:
                theirs.append(_by_hand(location, MARKS[name], wanted))
    for operation in ours[0]:
        rate = ROWS / statistics.median(m[operation] for m in ours)
        yield Figure(name=f"{name}: {operation}", value=rate, unit="1/s", n=ROUNDS)
        if theirs:
            ratios = [mine[operation] / other[operation] for mine, other in zip(ours, theirs, strict=True)]
            ratio = median(f"{name}: {operation}, time beside by hand", ratios, "×")
            yield most(ratio, MOST, f"at most {MOST}× the hand-written cost")
    yield median(f"{name}: commit of {ROWS:,} saves", [1000 * c for c in commits], "ms")


def _ours(tx: Tx, wanted: list[Task]) -> Measured:
    records = tx[Tasks]
    return _measured(
        lambda: [records.save(task) for task in wanted],
        lambda: [records.get(task.id) for task in wanted],
        lambda n: records.find(Tasks.status.eq(STATUSES[n % len(STATUSES)]), limit=PAGE),
        wanted,
    )


def _measured(
    save: Callable[[], object],
    get: Callable[[], list[Task | None]],
    page: Callable[[int], list[Task]],
    wanted: list[Task],
) -> Measured:
    """Of ROWS saves, ROWS gets, and ROWS / PAGE lists of PAGE tasks."""
    marks = [time.perf_counter()]
    save()
    marks.append(time.perf_counter())
    got = get()
    marks.append(time.perf_counter())
    listed = [task for n in range(ROWS // PAGE) for task in page(n)]
    marks.append(time.perf_counter())
    assert got == wanted
    assert len(listed) == ROWS
    return {
        operation: end - start
        for operation, start, end in zip(("saves", "gets", "records listed"), marks, marks[1:], strict=False)
    }


def _by_hand(location: Location, mark: str, wanted: list[Task]) -> Measured:
    """With a plain connection of the driver, which takes it back."""
    db: Any
    if isinstance(location, Postgres):
        import psycopg

        db = psycopg.connect(location.url, autocommit=True)
    else:
        assert isinstance(location, Sqlite)
        db = sqlite3.connect(location.path, isolation_level=None)
    with closing(db):
        db.execute("BEGIN")
        measured = _statements(mark)(db.execute, wanted)
        db.execute("ROLLBACK")
    return measured


def _statements(mark: str) -> Callable[[Callable[..., Any], list[Task]], Measured]:
    columns = ", ".join(
        [
            '"id"',
            '"seq"',
            '"owner"',
            '"status"',
            '"queue"',
            '"project"',
            '"assigned_to"',
            '"mission_id"',
            '"priority"',
            '"created_by"',
            '"idempotency_key"',
            '"created_at"',
            '"finished_at"',
            '"ready_queue"',
            '"wake_at"',
            '"busy_queue"',
            '"live_run"',
            '"other_status"',
            '"execution_id"',
            '"stage"',
            '"sla_at"',
            "doc",
        ]
    )
    assert columns.replace('"', "").split(", ") == [*Tasks.columns, "doc"], "not the same columns"
    updates = ", ".join(f"{c} = excluded.{c}" for c in columns.split(", ")[1:])
    insert = f"INSERT INTO tasks ({columns}) VALUES ({', '.join([mark] * 22)}) ON CONFLICT (id) DO UPDATE SET {updates}"
    get = f"SELECT doc FROM tasks WHERE id = {mark}"
    page = f"SELECT doc FROM tasks WHERE status = {mark} ORDER BY seq LIMIT {mark}"
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Task).decode

    def text(at: datetime | None) -> str | None:
        return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def save(execute: Callable[..., Any], t: Task) -> None:
        pending = t.status is TaskStatus.PENDING
        ready = t.queue if pending and t.unmet == 0 and not t.hold and t.not_before is None else None
        busy = t.status in (TaskStatus.ASSIGNED, TaskStatus.IN_PROGRESS)
        row = (t.id, t.seq, t.owner, t.status.value, t.queue, t.project, t.assigned_to, t.mission_id, t.priority,
               t.created_by, t.idempotency_key, text(t.created_at), text(t.finished_at), ready,
               text(t.not_before) if pending else None, t.queue if busy else None, t.run_id if busy else None,
               None, t.execution_id, t.status.value if t.execution_id else None, text(t.deadline), encode(t).decode())  # fmt: skip
        execute(insert, row)

    def measure(execute: Callable[..., Any], wanted: list[Task]) -> Measured:
        return _measured(
            lambda: [save(execute, task) for task in wanted],
            lambda: [decode(execute(get, (task.id,)).fetchone()[0]) for task in wanted],
            lambda n: [decode(doc) for (doc,) in execute(page, (STATUSES[n % len(STATUSES)].value, PAGE)).fetchall()],
            wanted,
        )

    return measure


MARKS = {"sqlite": "?", "postgres": "%s"}
"""What stands for a value, of the backends that have a driver of their own."""
