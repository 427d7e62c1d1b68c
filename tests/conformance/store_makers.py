"""The stores that the conformance suite is run on, and the tables that it needs beside the real ones.

A maker takes an empty directory and the tables, and gives a store: something with `write`.  A new backend adds its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from kit.postgres import PATIENT, server
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


class Database(Struct):
    name: str
    schema: str
    directory: Path
    test: str


_templates: dict[str, str] = {}
_databases: list[Database] = []


def make_postgres(directory: Path, tables: Sequence[AnyTable]) -> Store:
    kind = _kind(tables)
    return open_store(Postgres(database(directory, kind, tables)), kind)


def database(directory: Path, kind: Kind[Tx], tables: Sequence[AnyTable]) -> str:
    """The address of a database with that schema: one for each directory.

    One that has served its test, or its directory, is emptied for others, since a new one takes far longer.
    """
    pg = server()
    schema = "".join(kind.schema.for_postgres)
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    made = [one for one in _databases if one.schema == schema]
    for one in made:
        if (one.directory, one.test) == (directory, test):
            return pg.url(one.name, more=PATIENT)
    for one in made:
        if one.test != test or not one.directory.exists():
            pg.hang_up(one.name)
            pg.execute(one.name, "; ".join(f'DELETE FROM "{table.name}"' for table in reversed(tables)))
            one.directory, one.test = directory, test
            return pg.url(one.name, more=PATIENT)
    if schema not in _templates:
        _templates[schema] = pg.fresh()
        open_store(Postgres(pg.url(_templates[schema], more=PATIENT)), kind).close()
    _databases.append(Database(pg.fresh(_templates[schema]), schema, directory, test))
    return pg.url(_databases[-1].name, more=PATIENT)


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
