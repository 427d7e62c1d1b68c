"""polpod's stores as a library: open those of a directory, and use them from any thread, or from trio or asyncio.

    from polpod.taskstore import open_task_store

    with open_task_store("/srv/builds") as store:
        task = store.add_task(title="tidy up", description="…")
        store.transition(task.id, "assigned")

Rules:

1. A state directory is a daemon's, or that of programs that use this: while one has it, the other is refused, and says so.
2. Programs share a store in SQLite among themselves; files, and a database of PostgreSQL, belong to one program at a time.
3. What the methods raise is in polpod/errors.py; durations are seconds, instants aware datetimes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import anyio.to_thread

from polpod import config
from polpod.contracts.taskstore.awaited import (
    AsyncApprovalStore,
    AsyncCheckpointStore,
    AsyncDelayStore,
    AsyncLogStore,
    AsyncMemoryStore,
    AsyncNotificationStore,
    AsyncRunStore,
    AsyncSessionStore,
    AsyncTaskStore,
)
from polpod.contracts.taskstore.blocking import (
    ApprovalStore,
    CheckpointStore,
    DelayStore,
    LogStore,
    MemoryStore,
    NotificationStore,
    RunStore,
    SessionStore,
    TaskStore,
)
from polpod.contracts.taskstore.faces import Store
from polpod.errors import StartError
from polpod.filesystem import refuse_unfit
from polpod.lock import Held, lock_shared
from polpod.model.polpo.missions import Mission
from polpod.model.polpo.state import PolpoState
from polpod.model.tasks import Task, TaskStatus
from polpod.paths import STATE, StateDirectory
from polpod.storage import locate
from polpod.store import copy, replace
from polpod.store.blocking import BlockingStore
from polpod.store.check import refuse_half
from polpod.store.databases import RUNS, TASKS
from polpod.store.gate import Gate, open_gate
from polpod.store.group import open_store
from polpod.store.location import Location, Sqlite
from polpod.store.records import Tx

__all__ = (
    "ApprovalStore", "AsyncApprovalStore", "AsyncCheckpointStore", "AsyncDelayStore", "AsyncLogStore",
    "AsyncMemoryStore", "AsyncNotificationStore", "AsyncRunStore", "AsyncSessionStore", "AsyncStores", "AsyncTaskStore",
    "CheckpointStore", "DelayStore", "LogStore", "MemoryStore", "Mission", "NotificationStore", "PolpoState", "RunStore",
    "SessionStore", "Stores", "Task", "TaskStatus", "TaskStore", "open_async_stores", "open_async_task_store",
    "open_stores", "open_task_store",
)  # fmt: skip

Place = str | os.PathLike[str]
"""A directory that has a `.polpo`, or shall have one, or that `.polpo` itself."""


class Stores:
    """All stores of a state directory, over one connection; to be closed as one."""

    def __init__(self, store: Store, after: Callable[[], None]) -> None:
        self.tasks = TaskStore(store, after)
        self.runs = RunStore(store)
        self.sessions = SessionStore(store)
        self.memory = MemoryStore(store)
        self.logs = LogStore(store)
        self.notifications = NotificationStore(store)
        self.approvals = ApprovalStore(store)
        self.checkpoints = CheckpointStore(store)
        self.delays = DelayStore(store)

    def close(self) -> None:
        """Give the state directory back."""
        self.tasks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStores:
    """The same, to be awaited."""

    def __init__(self, gate: Gate[Tx], after: Callable[[], None]) -> None:
        self.tasks = AsyncTaskStore(gate, after)
        self.runs = AsyncRunStore(gate)
        self.sessions = AsyncSessionStore(gate)
        self.memory = AsyncMemoryStore(gate)
        self.logs = AsyncLogStore(gate)
        self.notifications = AsyncNotificationStore(gate)
        self.approvals = AsyncApprovalStore(gate)
        self.checkpoints = AsyncCheckpointStore(gate)
        self.delays = AsyncDelayStore(gate)

    async def close(self) -> None:
        """Give the state directory back."""
        await self.tasks.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def open_stores(place: Place) -> Stores:
    """Open the stores that polpo.json of this directory names, made where they are not there yet.

    Raises StartError: a daemon has the directory (exit_code 75), polpo.json is wrong, it is another user's; StoreError and
    what derives from it (polpod/errors.py) where the store cannot be opened; DiskFull, Unavailable.
    """
    held, location = _take(place)
    try:
        stores = Stores(BlockingStore(open_store(location, TASKS), TASKS), held.close)
    except BaseException:
        held.close()
        raise
    try:
        _refuse_unfinished(stores.tasks.store.read(copy.unfinished))
    except BaseException:
        stores.close()
        raise
    return stores


async def open_async_stores(place: Place) -> AsyncStores:
    """As `open_stores`, to be awaited on trio or asyncio."""
    held, location = await anyio.to_thread.run_sync(_take, place)
    try:
        stores = AsyncStores(await open_gate(location, TASKS), held.close)
    except BaseException:
        held.close()
        raise
    try:
        _refuse_unfinished(await stores.tasks.gate.read(copy.unfinished))
    except BaseException:
        await stores.close()
        raise
    return stores


def open_task_store(place: Place) -> TaskStore:
    """As `open_stores`, of which it is one; closing it gives the state directory back."""
    return open_stores(place).tasks


async def open_async_task_store(place: Place) -> AsyncTaskStore:
    """As `open_task_store`, to be awaited on trio or asyncio."""
    return (await open_async_stores(place)).tasks


def _take(place: Place) -> tuple[Held, Location]:
    path = os.path.abspath(place)
    paths = StateDirectory(os.path.dirname(path) if os.path.basename(path) == STATE else path)
    settings, _ = config.load(paths.config)
    location = locate(settings, paths, os.environ)
    try:
        os.makedirs(paths.path, mode=0o700, exist_ok=True)
    except OSError as exc:
        raise StartError(f"{exc.filename}: {exc.strerror}") from exc
    refuse_unfit(paths.path)
    held = lock_shared(paths)
    try:
        if isinstance(location, Sqlite):
            _prepare(paths)
    except BaseException:
        held.close()
        raise
    return held, location


def _prepare(paths: StateDirectory) -> None:
    """Make both databases where there are none: a daemon refuses one that was used without the other (F53)."""
    if replace.is_pending(paths.path):
        raise StartError(f"{paths.path}: a restore was cut off: start polpod, which finishes it")
    refuse_half(paths.path)
    for database in (paths.runs_db, paths.tasks_db):
        try:
            Path(database).touch(mode=0o600)  # as a daemon makes it, whatever the umask of this program (F84)
        except OSError as exc:
            raise StartError(f"{exc.filename}: {exc.strerror}") from exc
    open_store(Sqlite(paths.runs_db), RUNS).close()


def _refuse_unfinished(source: str | None) -> None:
    if source is not None:
        raise StartError(f"this is not yet a whole copy of {source}: polpoctl store copy goes on with it")
