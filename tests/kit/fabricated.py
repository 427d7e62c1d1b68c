"""Rows of runs.db that no daemon wrote: what a restored backup, a reboot or a reused pid can make of them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from polpod.paths import StateDirectory
from polpod.runner import contract, identity


@contextmanager
def runs_db(paths: StateDirectory) -> Iterator[sqlite3.Connection]:
    """runs.db, each statement a transaction."""
    with closing(sqlite3.connect(paths.runs_db, isolation_level=None)) as db:
        yield db


def marks_of(pid: int) -> dict[str, Any]:
    """The columns by which a row would name this process as its runner."""
    pidfd = os.pidfd_open(pid)
    try:
        inode = identity.inode_of(pidfd)
    finally:
        os.close(pidfd)
    ticks = identity.start_ticks(pid)
    own = {"pid": pid, "start_ticks": ticks, "pidfd_inode": inode, "pid_ns": identity.pid_namespace()}
    return own | {"boot_id": identity.boot_id(), "job_pid": None, "job_start_ticks": None}


def fabricate(db: sqlite3.Connection, task_id: str, marks: dict[str, Any]) -> None:
    """Insert a live run of this task, with a kill that is to be carried out."""
    values = {
        "task_id": task_id, "attempt": 1, "queue": "default", "nonce": f"nonce-{task_id}", "token_hash": "",
        "status": "running", "created_at": contract.timestamp(), "claim_until_mono": 0, "containment": "session",
        "log_path": "/nowhere", "started_at": contract.timestamp(), "started_mono": time.monotonic_ns(),
        "kill_reason": "cancelled", "kill_by": "test", "kill_at": contract.timestamp(),
        "kill_mono": time.monotonic_ns(), "kill_boot": identity.boot_id(), "kill_grace": 0.1,
    } | marks  # fmt: skip
    db.execute(f"INSERT INTO runs ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})", values)
