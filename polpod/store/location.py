"""Where a store is: which backend, and what finds it there."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from polpod.errors import StoreError
from polpod.store import memory, sqlite_session
from polpod.store.files import opening
from polpod.store.migrate import Schema
from polpod.store.session import Sessions


class Sqlite(Struct, frozen=True):
    path: str
    """Of the database file."""


class Memory(Struct, frozen=True):
    """Gone with the process."""


class Files(Struct, frozen=True):
    path: str
    """Of the directory in which each table has its own."""


class Postgres(Struct, frozen=True):
    url: str
    """As of libpq, with its password, so never to be shown as it is."""


Location = Memory | Files | Sqlite | Postgres


def open_sessions(location: Location, schema: Schema) -> Sessions:
    """Open the store, made or brought to `schema` where needed.

    Raises SchemaTooNew, StoreError (damaged, another program's, not to be opened), DiskFull, Unavailable.
    """
    match location:
        case Sqlite(path):
            return sqlite_session.open_sessions(path, schema)
        case Memory():
            return memory.open_sessions(schema)
        case Files(path):
            return opening.open_sessions(path, schema)
        case Postgres(url):
            try:
                from polpod.store import postgres_session  # psycopg takes 50 ms, and may not be there
            except ImportError as error:
                why = str(error).partition("\n")[0]
                raise StoreError(
                    f"PostgreSQL needs psycopg and libpq: pip install 'polpod[postgres]', apt install libpq5 ({why})"
                ) from error
            return postgres_session.open_sessions(url, schema)
        case _:
            assert_never(location)
