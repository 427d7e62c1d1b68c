"""The life of a persistence backend: configuration, factory, connection, health, schema (A.11, numbered as there)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import msgspec
import pytest
from kit.organisation import REPOSITORIES, a_cost, a_message, a_task
from store_makers import CONFIGS, LASTING

from polpod import persistence as p
from polpod.contracts.persistence.protocols import TaskRepository
from polpod.errors import StartError
from polpod.lock import lock
from polpod.paths import StateDirectory
from polpod.store.schema import TABLES

pytestmark = pytest.mark.anyio


# Connection.


async def test_connecting_and_disconnecting(config: p.PersistenceConfig) -> None:
    """A.11 backend 1, 2, 3: connect twice is no more than once; disconnect is safe at any time."""
    backend = p.create_backend(config)
    await backend.disconnect()
    assert not backend.is_connected
    await backend.connect()
    tasks = backend.tasks
    await backend.connect()
    assert backend.is_connected
    assert backend.tasks is tasks
    await backend.disconnect()
    assert not backend.is_connected
    await backend.disconnect()


async def test_many_may_connect_at_once(config: p.PersistenceConfig) -> None:
    backend = p.create_backend(config)
    seen = []

    async def connect() -> None:
        await backend.connect()
        seen.append(backend.get_db())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(connect)
    assert len(seen) == 5
    assert len({id(gate) for gate in seen}) == 1
    await backend.disconnect()


async def test_health(config: p.PersistenceConfig) -> None:
    """A.11 backend 4, 5, 6: True when connected, False when not, and False when the store fails."""
    backend = p.create_backend(config)
    assert await backend.health_check() is False
    await backend.connect()
    assert await backend.health_check() is True
    await backend.get_db().close()
    assert await backend.health_check() is False
    await backend.disconnect()
    assert not backend.is_connected


async def test_its_name_is_the_configured_one(config: p.PersistenceConfig) -> None:
    """A.11 backend 7."""
    assert p.create_backend(config).backend_name == config.backend


async def test_sqlites_backend_by_its_own_name(tmp_path: Path) -> None:
    """It is made from SQLite's configuration alone, its repositories from its connection, and the factory gives it."""
    config = p.SQLiteConfig(path=str(tmp_path / "a.db"))
    backend: p.PersistenceBackend = p.SQLitePersistenceBackend(config)
    await backend.connect()
    assert isinstance(backend, p.PersistenceBackend)
    assert backend.backend_name == "sqlite"
    tasks = p.SQLiteTaskRepository(backend.get_db())
    costs = p.SQLiteCostRecordRepository(db=backend.get_db())
    messages = p.SQLiteMessageRepository(backend.get_db())
    await tasks.save(a_task())
    await costs.save(a_cost())
    message = a_message()
    await messages.save(message)
    await backend.disconnect()
    again = p.create_backend(p.PersistenceConfig(sqlite=config))
    assert isinstance(again, p.SQLitePersistenceBackend)
    await again.connect()
    assert await again.tasks.get(a_task().id) == a_task()
    assert await again.cost_records.query() == (a_cost(),)
    assert await again.messages.get_history(message.channel) == (message,)
    await again.disconnect()


async def test_migrating_again_changes_nothing(backend: p.PersistenceBackend) -> None:
    """A.11 backend 8; schema: idempotent."""
    await backend.tasks.save(a_task())
    await backend.migrate()
    assert await backend.tasks.get("t1") == a_task()


async def test_what_needs_a_connection_says_so(config: p.PersistenceConfig) -> None:
    """A.11 backend 9."""
    backend = p.create_backend(config)
    with pytest.raises(p.PersistenceConnectionError, match="Not connected"):
        await backend.migrate()
    with pytest.raises(p.PersistenceConnectionError, match="Not connected"):
        backend.get_db()
    with pytest.raises(p.PersistenceConnectionError, match="Not connected"):
        await backend.get_setting("a")
    with pytest.raises(p.PersistenceConnectionError, match="Not connected"):
        await backend.set_setting("a", "b")


@pytest.mark.parametrize("name", REPOSITORIES)
async def test_a_repository_needs_a_connection(name: str, config: p.PersistenceConfig) -> None:
    """A.11 backend 10, of each repository."""
    backend = p.create_backend(config)
    with pytest.raises(p.PersistenceConnectionError, match=f"Not connected.* {name}"):
        getattr(backend, name)
    await backend.connect()
    assert getattr(backend, name) is getattr(backend, name)
    await backend.disconnect()
    with pytest.raises(p.PersistenceConnectionError, match="Not connected"):
        getattr(backend, name)


@pytest.mark.parametrize("wal_mode", [True, False])
async def test_a_file_is_in_wal_mode_whatever_is_asked_for(wal_mode: bool, tmp_path: Path) -> None:
    """A.11 backend 11, 16."""
    path = str(tmp_path / "a.db")
    backend = p.create_backend(p.PersistenceConfig(sqlite=p.SQLiteConfig(path=path, wal_mode=wal_mode)))
    await backend.connect()
    await backend.disconnect()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("plant", ["no directory", "a directory", "no database"])
async def test_a_path_that_cannot_be_opened(plant: str, tmp_path: Path) -> None:
    """A.11 backend 12, 14: PersistenceConnectionError, and nothing is connected."""
    path = tmp_path / "x" / "a.db"
    if plant != "no directory":
        path.parent.mkdir()
    if plant == "a directory":
        path.mkdir()
    if plant == "no database":
        path.write_text("certainly no database " * 100)
    backend = p.create_backend(p.PersistenceConfig(sqlite=p.SQLiteConfig(path=str(path))))
    with pytest.raises(p.PersistenceConnectionError):
        await backend.connect()
    assert not backend.is_connected
    assert await backend.health_check() is False


async def test_it_counts_as_closed_whatever_happens(config: p.PersistenceConfig) -> None:
    """A.11 backend 13: a store that somebody closed behind our back is closed once more."""
    backend = p.create_backend(config)
    await backend.connect()
    await backend.get_db().close()
    await backend.disconnect()
    assert not backend.is_connected
    await backend.connect()
    assert await backend.health_check()
    await backend.disconnect()


async def test_it_keeps_the_protocols(backend: p.PersistenceBackend) -> None:
    """A.11 backend 15; protocol: the backend and each of its repositories."""
    assert isinstance(backend, p.PersistenceBackend)
    for name, protocol in REPOSITORIES.items():
        assert isinstance(getattr(backend, name), protocol)


async def test_a_protocol_asks_for_every_method() -> None:
    """A.11 protocol: a minimal fake is one, and one that lacks a method is not."""
    names = ["save", "get", "list_tasks", "delete"]
    fake = type("Fake", (), dict.fromkeys(names, lambda self: None))
    assert isinstance(fake(), TaskRepository)
    assert not isinstance(type("Half", (), dict.fromkeys(names[1:], lambda self: None))(), TaskRepository)


@pytest.mark.parametrize("name", LASTING)
async def test_data_survives_a_reconnect(name: str, tmp_path: Path) -> None:
    """A.11 backend 17, 18: tasks, costs and messages together."""
    backend = p.create_backend(CONFIGS[name](tmp_path))
    message = a_message()
    await backend.connect()
    await backend.tasks.save(a_task())
    await backend.cost_records.save(a_cost())
    await backend.messages.save(message)
    await backend.disconnect()
    await backend.connect()
    assert await backend.tasks.get("t1") == a_task()
    assert await backend.cost_records.query() == (a_cost(),)
    assert await backend.messages.get_history("#home") == (message,)
    await backend.disconnect()


async def test_readers_at_the_same_time(backend: p.PersistenceBackend) -> None:
    """A.11 backend 19: three readers see ten rows each."""
    for number in range(10):
        await backend.tasks.save(a_task(id=f"t{number}"))
    seen = []

    async def read() -> None:
        seen.append(len(await backend.tasks.list_tasks()))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(read)
    assert seen == [10, 10, 10]


async def test_settings_of_the_backend_itself(backend: p.PersistenceBackend) -> None:
    """A.2 get_setting, set_setting: an upsert in the namespace `_system`."""
    assert await backend.get_setting("schema") is None
    await backend.set_setting("schema", "1")
    await backend.set_setting("schema", "2")
    assert await backend.get_setting("schema") == "2"
    assert [row[:3] for row in await backend.settings.get_all()] == [("_system", "schema", "2")]


@pytest.fixture
def paths(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(str(tmp_path))
    Path(made.path).mkdir()
    return made


@pytest.mark.parametrize("backend", ["sqlite", "file"])
async def test_the_store_of_a_state_directory_is_a_daemons_or_ours(backend: str, paths: StateDirectory) -> None:
    """DESIGN §3: while one has it, the other is refused, and says so."""
    ours = p.create_backend(
        p.PersistenceConfig(backend=backend, sqlite={"path": paths.tasks_db}, file={"path": paths.path})
    )
    daemon = lock(paths)
    with pytest.raises(p.PersistenceConnectionError, match="has this state directory"):
        await ours.connect()
    daemon.close()
    await ours.connect()
    await ours.tasks.save(a_task())
    with pytest.raises(StartError, match="as a library"):
        lock(paths)
    await ours.disconnect()
    lock(paths).close()


# Schema.


async def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """A.11.2: reopening a database of a newer schema."""
    config = CONFIGS["sqlite"](tmp_path)
    backend = p.create_backend(config)
    await backend.connect()
    await backend.disconnect()
    with closing(sqlite3.connect(config.sqlite.path)) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(p.PersistenceConnectionError, match="later"):
        await backend.connect()
    assert not backend.is_connected


@pytest.mark.parametrize("table", [name for t in TABLES if (name := t.name) in ("audit_entries", "tasks", "users")])
async def test_a_missing_table_is_a_migration_error(table: str, tmp_path: Path) -> None:
    """A.11 schema: failure."""
    config = CONFIGS["sqlite"](tmp_path)
    backend = p.create_backend(config)
    await backend.connect()
    with closing(sqlite3.connect(config.sqlite.path)) as db:
        db.execute(f"DROP TABLE {table}")
    with pytest.raises(p.MigrationError):
        await backend.migrate()
    await backend.disconnect()


# Configuration, factory, errors.


def test_the_defaults() -> None:
    """A.11 config: defaults and custom values."""
    config = p.PersistenceConfig()
    assert (config.backend, config.sqlite) == ("sqlite", p.SQLiteConfig())
    assert config.sqlite.path == "synthorg.db"
    assert config.sqlite.wal_mode is True
    assert config.sqlite.journal_size_limit == 67108864
    custom = p.PersistenceConfig(sqlite={"path": "a.db", "wal_mode": False, "journal_size_limit": 0})
    assert custom.sqlite == p.SQLiteConfig(path="a.db", wal_mode=False, journal_size_limit=0)


@pytest.mark.parametrize("path", [":memory:", "a.db", "/abs/a.db", "a..b.db", "~/a.db"])
def test_a_path_that_is_accepted(path: str) -> None:
    """A.11 config: `:memory:`."""
    assert p.SQLiteConfig(path=path).path == path


@pytest.mark.parametrize("path", ["", "  ", "../a.db", "a/../b.db", "..\\a.db", "a\\..\\b.db", ".."])
def test_a_path_that_is_refused(path: str) -> None:
    """A.11 config: blank, whitespace, `..` at the start and embedded."""
    with pytest.raises(ValueError, match="path"):
        p.SQLiteConfig(path=path)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"backend": "mysql"}, "backend"),
        ({"backend": " "}, "backend"),
        ({"backend": "postgres"}, "postgres"),
        ({"sqlite": {"journal_size_limit": -1}}, "journal_size_limit"),
    ],
)
def test_a_configuration_that_is_refused(values: dict[str, object], named: str) -> None:
    """A.11 config: unknown and blank backend, negative journal size."""
    with pytest.raises(ValueError, match=named):
        p.PersistenceConfig(**values)


def test_a_configuration_is_frozen_and_shows_no_password() -> None:
    """A.11 config: frozen."""
    config = p.PersistenceConfig(backend="postgres", postgres=p.PostgresConfig(url="postgresql://a:secret@b/c"))
    with pytest.raises(AttributeError):
        config.backend = "sqlite"  # type: ignore[misc]
    assert "secret" not in repr(config)


async def test_memory_is_a_path_of_sqlite(tmp_path: Path) -> None:
    """A.3: `:memory:`; each is its own, and gone when it is closed."""
    config = p.PersistenceConfig(sqlite=p.SQLiteConfig(path=":memory:"))
    one, other = p.create_backend(config), p.create_backend(config)
    for backend in (one, other):
        await backend.connect()
    await one.tasks.save(a_task())
    assert await other.tasks.get("t1") is None
    await one.disconnect()
    await one.connect()
    assert await one.tasks.get("t1") is None
    assert one.backend_name == "sqlite"
    for backend in (one, other):
        await backend.disconnect()


async def test_each_backend_is_its_own(tmp_path: Path) -> None:
    """A.11 factory: a new one each call, passes config; two configurations are two databases."""
    one, other = (
        p.create_backend(p.PersistenceConfig(sqlite=p.SQLiteConfig(path=str(tmp_path / name)))) for name in ("a", "b")
    )
    await one.connect()
    await other.connect()
    await one.tasks.save(a_task())
    assert await other.tasks.get("t1") is None
    await one.disconnect()
    await other.disconnect()
    assert p.create_backend(p.PersistenceConfig()) is not p.create_backend(p.PersistenceConfig())


def test_the_factory_refuses_an_unknown_backend() -> None:
    """A.11 factory: unknown raises."""
    config = p.PersistenceConfig()
    msgspec.structs.force_setattr(config, "backend", "mysql")
    with pytest.raises(p.PersistenceConnectionError, match="mysql"):
        p.create_backend(config)


ERRORS = [
    p.PersistenceConnectionError,
    p.MigrationError,
    p.RecordNotFoundError,
    p.DuplicateRecordError,
    p.QueryError,
    p.VersionConflictError,
    p.ArtifactTooLargeError,
    p.ArtifactStorageFullError,
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_one_of_persistence(error: type[Exception]) -> None:
    """A.11 errors: the base, the message, and not the builtin ConnectionError."""
    assert issubclass(error, p.PersistenceError)
    assert not issubclass(error, ConnectionError)
    assert str(error("what")) == "what"
    assert issubclass(error, p.QueryError) is (error in (p.QueryError, p.VersionConflictError))
