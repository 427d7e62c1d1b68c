"""Which backend stores, and where.  What breaks a rule is refused at construction with ValueError."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from polpod.contracts.persistence.errors import PersistenceConnectionError
from polpod.model.entity import Count, Entity, NotBlank
from polpod.paths import STATE, StateDirectory
from polpod.store.location import Files, Location, Memory, Postgres, Sqlite

IN_MEMORY = ":memory:"


def _no_way_up(config: Any) -> str | None:
    if any(".." in kind(config.path).parts for kind in (PurePosixPath, PureWindowsPath)):
        return f"path: leads up with '..': {config.path!r}"
    return None


class SQLiteConfig(Entity, frozen=True, kw_only=True):
    """`:memory:` is a store that is gone with the process.

    A file is in WAL mode always, with a journal of the store's own limit: the other two say nothing here.
    """

    rules = (_no_way_up,)

    path: NotBlank = "synthorg.db"
    wal_mode: bool = True
    journal_size_limit: Count = 64 * 2**20
    """Bytes."""


class FileConfig(Entity, frozen=True, kw_only=True):
    """A directory of JSON files."""

    rules = (_no_way_up,)

    path: NotBlank = "synthorg"


class PostgresConfig(Entity, frozen=True, kw_only=True):
    """`url` is as of libpq."""

    hidden = frozenset({"url"})

    url: NotBlank


def _known_backend(config: PersistenceConfig) -> str | None:
    if config.backend not in _LOCATIONS:
        return f"backend: {config.backend!r} is none of {', '.join(_LOCATIONS)}"
    if config.backend == "postgres" and config.postgres is None:
        return "postgres: must say where it is"
    return None


class PersistenceConfig(Entity, frozen=True, kw_only=True):
    """Of the parts, the one that `backend` names is used."""

    rules = (_known_backend,)

    backend: NotBlank = "sqlite"
    sqlite: SQLiteConfig = SQLiteConfig()
    file: FileConfig = FileConfig()
    postgres: PostgresConfig | None = None


def _sqlite(config: PersistenceConfig) -> Location:
    return Memory() if config.sqlite.path == IN_MEMORY else Sqlite(config.sqlite.path)


def _postgres(config: PersistenceConfig) -> Location:
    assert config.postgres is not None  # rule of PersistenceConfig
    return Postgres(config.postgres.url)


_LOCATIONS: Mapping[str, Callable[[PersistenceConfig], Location]] = {
    "sqlite": _sqlite,
    "memory": lambda config: Memory(),
    "file": lambda config: Files(config.file.path),
    "postgres": _postgres,
}


def state_directory_of(location: Location) -> StateDirectory | None:
    """The state directory of which this is the store; None: it is a store by itself."""
    match location:
        case Sqlite(path):
            directory = os.path.dirname(os.path.abspath(path))
        case Files(path):
            directory = os.path.abspath(path)
        case _:
            return None
    return StateDirectory(os.path.dirname(directory)) if os.path.basename(directory) == STATE else None


def location_of(config: PersistenceConfig) -> Location:
    """Where the store is.  Raises PersistenceConnectionError for a backend that there is not."""
    if config.backend not in _LOCATIONS:
        raise PersistenceConnectionError(f"no backend {config.backend!r}: there are {', '.join(_LOCATIONS)}")
    return _LOCATIONS[config.backend](config)
