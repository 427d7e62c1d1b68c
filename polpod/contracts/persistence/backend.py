"""The persistence backend: its life, and the repositories of one connection.

Rules:

1. All repositories of a connection share its gate; they are the same objects until it is disconnected.
2. `connect` brings the schema up to date, since nobody may use a store that is not; `migrate` proves it.
3. The store of a state directory is kept from daemons meanwhile, as they keep it from us (DESIGN §3).
4. A record that does not decode is QueryError for who meets it, and stays where it is: moving it is the daemon's right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import anyio
import anyio.to_thread
import msgspec

from polpod.contracts.persistence import artifacts, messages, people, runtime, security, settings, work, workflows
from polpod.contracts.persistence import protocols as of
from polpod.contracts.persistence.config import PersistenceConfig, SQLiteConfig, location_of, state_directory_of
from polpod.contracts.persistence.errors import (
    OF_CONNECTING,
    OF_MIGRATING,
    PersistenceConnectionError,
    translated,
)
from polpod.errors import PolpodError
from polpod.lock import lock_shared
from polpod.store import organisation as stored
from polpod.store import tables
from polpod.store.databases import TASKS
from polpod.store.gate import Gate, open_gate
from polpod.store.location import Location
from polpod.store.records import Tx
from polpod.store.table import AnyTable

R = TypeVar("R")

_KIND = msgspec.structs.replace(TASKS, set_aside=None, doubt_is_told=True)
_SYSTEM = "_system"
"""Namespace of the backend's own settings."""

_TABLES: tuple[AnyTable, ...] = (tables.Tasks, *stored.TABLES)

log = logging.getLogger(__name__)


@runtime_checkable
class PersistenceBackend(Protocol):
    """What an application connects, migrates, uses and disconnects.

    On Python 3.11 `isinstance` asks for the repositories themselves: before `connect` it raises what they raise.
    """

    async def connect(self) -> None: ...
    async def disconnect(self) -> None: ...
    async def health_check(self) -> bool: ...
    async def migrate(self) -> None: ...
    def get_db(self) -> Any: ...
    async def get_setting(self, key: str) -> str | None: ...
    async def set_setting(self, key: str, value: str) -> None: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def backend_name(self) -> str: ...
    @property
    def tasks(self) -> of.TaskRepository: ...
    @property
    def cost_records(self) -> of.CostRecordRepository: ...
    @property
    def messages(self) -> of.MessageRepository: ...
    @property
    def lifecycle_events(self) -> of.LifecycleEventRepository: ...
    @property
    def task_metrics(self) -> of.TaskMetricRepository: ...
    @property
    def collaboration_metrics(self) -> of.CollaborationMetricRepository: ...
    @property
    def parked_contexts(self) -> of.ParkedContextRepository: ...
    @property
    def audit_entries(self) -> of.AuditRepository: ...
    @property
    def users(self) -> of.UserRepository: ...
    @property
    def api_keys(self) -> of.ApiKeyRepository: ...
    @property
    def checkpoints(self) -> of.CheckpointRepository: ...
    @property
    def heartbeats(self) -> of.HeartbeatRepository: ...
    @property
    def agent_states(self) -> of.AgentStateRepository: ...
    @property
    def settings(self) -> of.SettingsRepository: ...
    @property
    def artifacts(self) -> of.ArtifactRepository: ...
    @property
    def projects(self) -> of.ProjectRepository: ...
    @property
    def custom_presets(self) -> of.PersonalityPresetRepository: ...
    @property
    def workflow_definitions(self) -> of.WorkflowDefinitionRepository: ...
    @property
    def workflow_executions(self) -> of.WorkflowExecutionRepository: ...


class Part(Generic[R]):
    """A repository of the backend: made once a connection, and not there without one."""

    def __init__(self, make: Callable[[Gate[Tx]], R]) -> None:
        self.make = make

    def __set_name__(self, owner: type[StoreBackend], name: str) -> None:
        self._name = name

    def __get__(self, backend: StoreBackend, owner: type[StoreBackend] | None = None) -> R:
        gate, parts = backend.connected(self._name)
        if self._name not in parts:
            parts[self._name] = self.make(gate)
        made: R = parts[self._name]
        return made


class StoreBackend:
    """The PersistenceBackend that `create_backend` makes, on any backend of the store."""

    tasks = Part(lambda gate: work.Tasks(gate, tables.Tasks))
    cost_records = Part(lambda gate: work.CostRecords(gate, stored.CostRecords))
    messages = Part(lambda gate: messages.Messages(gate, stored.Messages))
    lifecycle_events = Part(lambda gate: people.LifecycleEvents(gate, stored.LifecycleEvents))
    task_metrics = Part(lambda gate: work.TaskMetrics(gate, stored.TaskMetrics))
    collaboration_metrics = Part(lambda gate: people.CollaborationMetrics(gate, stored.CollaborationMetrics))
    parked_contexts = Part(lambda gate: runtime.ParkedContexts(gate, stored.ParkedContexts))
    audit_entries = Part(lambda gate: security.AuditEntries(gate, stored.AuditEntries))
    users = Part(lambda gate: people.Users(gate, stored.Users))
    api_keys = Part(lambda gate: people.ApiKeys(gate, stored.ApiKeys))
    checkpoints = Part(lambda gate: runtime.Checkpoints(gate, stored.Checkpoints))
    heartbeats = Part(lambda gate: runtime.Heartbeats(gate, stored.Heartbeats))
    agent_states = Part(lambda gate: runtime.AgentStates(gate, stored.AgentStates))
    settings = Part(lambda gate: settings.Settings(gate, stored.NamespacedSettings))
    artifacts = Part(lambda gate: artifacts.Artifacts(gate, stored.Artifacts))
    projects = Part(lambda gate: artifacts.Projects(gate, stored.Projects))
    custom_presets = Part(lambda gate: settings.CustomPresets(gate, stored.CustomPresets))
    workflow_definitions = Part(lambda gate: workflows.WorkflowDefinitions(gate, stored.WorkflowDefinitions))
    workflow_executions = Part(lambda gate: workflows.WorkflowExecutions(gate, stored.WorkflowExecutions))

    def __init__(self, name: str, location: Location) -> None:
        self.backend_name = name
        self._location = location
        self._connecting = anyio.Lock()
        self._gate: Gate[Tx] | None = None
        self._held = ExitStack()
        """The state directory, where it is one, for as long as we are connected."""
        self._parts: dict[str, Any] = {}

    @property
    def is_connected(self) -> bool:
        return self._gate is not None

    async def connect(self) -> None:
        """Open the store; when it is open, nothing.  Raises PersistenceConnectionError."""
        async with self._connecting:
            if self._gate is not None:
                return
            with translated(OF_CONNECTING), ExitStack() as held:
                if (directory := state_directory_of(self._location)) is not None:
                    held.callback((await anyio.to_thread.run_sync(lock_shared, directory)).close)
                self._gate = await open_gate(self._location, _KIND)
                self._held = held.pop_all()

    async def disconnect(self) -> None:
        """Close the store; it counts as closed whatever happens."""
        async with self._connecting:
            gate, self._gate, self._parts = self._gate, None, {}
            if gate is None:
                return
            try:
                with self._held:
                    await gate.close()
            except (PolpodError, OSError) as error:
                log.warning("%s: not closed in order: %s", gate.where, error)

    async def health_check(self) -> bool:
        """Whether the store answers; after a commit in doubt it does again once it is connected anew."""
        if self._gate is None or self._gate.broken.is_set():
            return False
        try:
            await self._gate.read(lambda tx: tx[stored.NamespacedSettings].stored(limit=1))
        except PolpodError:
            return False
        return True

    async def migrate(self) -> None:
        """See that every table is there.  Raises PersistenceConnectionError, MigrationError."""
        gate, _ = self.connected("migrate")

        def body(tx: Tx) -> None:
            for table in _TABLES:
                tx[table].stored(limit=1)

        with translated(OF_MIGRATING):
            await gate.read(body)

    def get_db(self) -> Gate[Tx]:
        """The gate: `read` and `write` of functions of a transaction.  Raises PersistenceConnectionError.

        A connection of the database itself would be in the middle of somebody's transaction.
        """
        return self.connected("get_db")[0]

    async def get_setting(self, key: str) -> str | None:
        """Raises PersistenceConnectionError, QueryError."""
        found = await self.settings.get(_SYSTEM, key)
        return None if found is None else found[0]

    async def set_setting(self, key: str, value: str) -> None:
        """Raises PersistenceConnectionError, QueryError."""
        await self.settings.set(_SYSTEM, key, value, datetime.now(UTC).isoformat())

    def connected(self, what: str) -> tuple[Gate[Tx], dict[str, Any]]:
        """What every part of a connection stands on.  Raises PersistenceConnectionError."""
        if self._gate is None:
            raise PersistenceConnectionError(f"Not connected -- call connect() before accessing {what}")
        return self._gate, self._parts


class SQLitePersistenceBackend(StoreBackend):
    """A StoreBackend made from SQLite's part of the configuration alone, and the one that `backend="sqlite"` gives."""

    def __init__(self, config: SQLiteConfig) -> None:
        whole = PersistenceConfig(backend="sqlite", sqlite=config)
        super().__init__(whole.backend, location_of(whole))


def create_backend(config: PersistenceConfig) -> PersistenceBackend:
    """A new backend, not connected yet.  Raises PersistenceConnectionError for a backend that there is not."""
    if config.backend == "sqlite":
        return SQLitePersistenceBackend(config.sqlite)
    return StoreBackend(config.backend, location_of(config))


# Repositories of their own, where the page names a class for them.


class SQLiteTaskRepository(work.Tasks):
    """`db`, here and below, is what the `get_db` of a connected backend gives."""

    def __init__(self, db: Gate[Tx]) -> None:
        super().__init__(db, tables.Tasks)


class SQLiteCostRecordRepository(work.CostRecords):
    def __init__(self, db: Gate[Tx]) -> None:
        super().__init__(db, stored.CostRecords)


class SQLiteMessageRepository(messages.Messages):
    def __init__(self, db: Gate[Tx]) -> None:
        super().__init__(db, stored.Messages)
