"""Tasks, runs and task stores that tests of the rules and services start from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from polpod.model.runs import Reason, Run, RunStatus
from polpod.model.tasks import Task
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit
from polpod.store.records import Tx
from polpod.store.sqlite import open_writer
from polpod.store.sqlite_session import SqliteWriter

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
BOOT = "8f5a8a86-0000-4000-8000-000000000001"


def a_task(**values: Any) -> Task:
    """Task 7, pending and ready unless `values` say otherwise."""
    fixed: dict[str, Any] = {"id": "7", "seq": 7, "spec_id": "s", "created_at": NOW, "updated_at": NOW}
    return Task(**fixed | values)


def a_run(status: RunStatus = RunStatus.RUNNING, reason: Reason | None = None, **values: Any) -> Run:
    """Run 5, the first attempt at task 7."""
    fixed: dict[str, Any] = {
        "id": 5, "task_id": "7", "attempt": 1, "queue": "default", "nonce": "n", "token_hash": "h", "created_at": "",
        "boot_id": BOOT, "claim_until_mono": 0, "containment": "session", "log_path": "/dev/null",
    }  # fmt: skip
    return Run(**fixed | {"status": status, "reason": reason} | values)


@contextmanager
def task_store(directory: Path) -> Iterator[GroupCommit[Tx]]:
    """A real task store in SQLite: `write(body)` carries out one body in one transaction."""
    store = GroupCommit(SqliteWriter(open_writer(str(directory / "state.db"), TASKS.schema)), TASKS)
    try:
        yield store
    finally:
        store.close()
