"""The task store of another backend as SQLite's file, beside runs.db: for all that works on both as files.

Backups and checks are of one kind therefore, whatever the backend (store/backup.py, store/check.py).
"""

from __future__ import annotations

import os
from contextlib import closing

from polpod.store.backup import CONFIG_NAME, RUNS_NAME, TASKS_NAME
from polpod.store.content import CONTENT
from polpod.store.copy import Readable, copy
from polpod.store.databases import TASKS
from polpod.store.group import open_store
from polpod.store.location import Sqlite


def export(source: Readable, of: str, state: str, into: str) -> None:
    """Put a copy of the task store into the empty directory `into`, and links to what else is in the state directory.

    Records that do not decode come along as they are.  Raises StoreError, DiskFull.
    """
    for name in (RUNS_NAME, f"{RUNS_NAME}-wal", CONFIG_NAME, CONTENT):
        os.symlink(os.path.join(state, name), os.path.join(into, name))
    with closing(open_store(Sqlite(os.path.join(into, TASKS_NAME)), TASKS)) as target:
        copy(source, of, target, lambda table, rows: None, as_stored=True)
