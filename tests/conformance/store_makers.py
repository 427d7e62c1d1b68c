"""The stores that the conformance suite is run on, and the tables that it needs beside the real ones.

A maker takes an empty directory and the tables, and gives a store: something with `write`.  A new backend adds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from kit.postgres import Server, server
from msgspec import Struct

from polpod.persistence import FileConfig, PersistenceConfig, PostgresConfig, SQLiteConfig
from polpod.store import sql
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, Kind, open_store
from polpod.store.location import Files, Memory, Postgres
from polpod.store.migrate import Schema
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.sqlite import open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.table import AnyTable, Columns, Ref, Table, Unique

X = TypeVar("X")


class Store(Protocol):
    def write(self, body: Callable[[Tx], X]) -> X: ...
    def close(self) -> None: ...


Maker = Callable[[Path, Sequence[AnyTable]], Store]


def _kind(tables: Sequence[AnyTable]) -> Kind[Tx]:
    scripts = ["".join(f"{s};\n" for table in tables for s in sql.create(table, d)) for d in (sql.SQLITE, sql.POSTGRES)]
    return Kind(Schema("test store", (scripts[0],), (scripts[1],), tuple(tables)), TASKS.begin, TASKS.end)


def make_sqlite(directory: Path, tables: Sequence[AnyTable]) -> Store:
    kind = _kind(tables)
    return GroupCommit(SqliteWriter(open_writer(str(directory / "state.db"), kind.schema)), kind)


def make_memory(directory: Path, tables: Sequence[AnyTable]) -> Store:
    return open_store(Memory(), _kind(tables))


_templates: dict[str, str] = {}
_databases: dict[tuple[str, Path], str] = {}


def make_postgres(directory: Path, tables: Sequence[AnyTable]) -> Store:
    kind = _kind(tables)
    return open_store(Postgres(database(directory, kind, tables)), kind)


def database(directory: Path, kind: Kind[Tx], tables: Sequence[AnyTable]) -> str:
    """The address of a database with that schema: one for each directory."""
    pg = server()
    script = "".join(kind.schema.for_postgres)
    if script not in _templates:
        _templates[script] = pg.fresh(keep=True)
        open_store(Postgres(pg.url(_templates[script])), kind).close()
    if (script, directory) not in _databases:
        _databases[script, directory] = _left_over(pg, script, tables) or pg.fresh(_templates[script])
    return pg.url(_databases[script, directory])


def _left_over(pg: Server, script: str, tables: Sequence[AnyTable]) -> str | None:
    """A database whose directory is gone, emptied: far sooner had than a new one."""
    gone = next((key for key in _databases if key[0] == script and not key[1].exists()), None)
    if gone is None:
        return None
    name = _databases.pop(gone)
    pg.execute(name, "; ".join(f'DELETE FROM "{table.name}"' for table in reversed(tables)))
    return name


def make_files(directory: Path, tables: Sequence[AnyTable]) -> Store:
    return open_store(Files(str(directory)), _kind(tables))


LASTING: dict[str, Maker] = {"sqlite": make_sqlite, "file": make_files, "postgres": make_postgres}
MAKERS: dict[str, Maker] = {**LASTING, "memory": make_memory}

CONFIGS: dict[str, Callable[[Path], PersistenceConfig]] = {
    "sqlite": lambda directory: PersistenceConfig(sqlite=SQLiteConfig(path=str(directory / "company.db"))),
    "file": lambda directory: PersistenceConfig(backend="file", file=FileConfig(path=str(directory / "company"))),
    "postgres": lambda directory: PersistenceConfig(
        backend="postgres", postgres=PostgresConfig(url=database(directory, TASKS, TABLES))
    ),
    "memory": lambda directory: PersistenceConfig(backend="memory"),
}
"""How an organisation's persistence says the same."""


class Person(Struct, frozen=True):
    id: str
    email: str | None = None
    rank: int = 0
    score: float | None = None
    born: datetime | None = None
    adult: bool = False
    notes: tuple[str, ...] = ()


_p = Columns[Person]()


class People(Table[Person, str]):
    name = "people"
    entity = Person
    id = _p.text("id", lambda p: p.id)
    email = _p.text("email", lambda p: p.email)
    rank = _p.integer("rank", lambda p: p.rank)
    score = _p.real("score", lambda p: p.score)
    born = _p.instant("born", lambda p: p.born)
    adult = _p.integer("adult", lambda p: p.adult)
    key = (id,)
    order = (rank.desc(),)
    unique = (Unique((email,), where_not_null=email),)


class Pet(Struct, frozen=True):
    owner: str
    group: str
    """A word of SQL, as a column."""


_t = Columns[Pet]()


class Pets(Table[Pet, tuple[str, str]]):
    name = "pets"
    entity = Pet
    owner = _t.text("owner", lambda p: p.owner)
    group = _t.text("group", lambda p: p.group)
    key = (owner, group)
    refs = (Ref(owner, People),)


class Badge(Struct, frozen=True):
    id: int
    person: str | None


_b = Columns[Badge]()


class Badges(Table[Badge, int]):
    name = "badges"
    entity = Badge
    id = _b.integer("id", lambda b: b.id)
    person = _b.text("person", lambda b: b.person)
    key = (id,)
    refs = (Ref(person, People, on_delete="cascade"),)


SUITE = (People, Pets, Badges)
