"""PostgreSQL: connections, their settings, what its errors mean, and the row operations.

Rules:

1. No answer is waited for longer than `Connection.patience`, whatever became of the server, or of the network before it.
2. What psycopg raises leaves this layer as an error of polpod/errors.py, told by SQLSTATE, never by its text.
3. Messages name the host and the database, never the password.
4. Every commit waits for the disk, also where `durable` was not asked for.  What a crash of the computer takes from
   SQLite, it takes from a daemon that dies with it; a server crashes alone, and the daemon would go on with what the
   database does not know any more.

This module, and those that import it, are imported where a store is in PostgreSQL only (extra `postgres`).
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import FloatDumper, Int8Dumper
from psycopg.waiting import Ready, Wait

from polpod.errors import (
    AlreadyExists,
    BrokenReference,
    Damaged,
    DiskFull,
    PolpodError,
    StoreError,
    TooLarge,
    Unavailable,
)
from polpod.store import sql
from polpod.store.table import AnyTable, Query, Row, Scalar, Where

RV = TypeVar("RV")

OLDEST = 14
"""The oldest major version of the server that will do."""

CONNECT_TIMEOUT = 2
"""Seconds, for each host that the address names; psycopg knows no less."""
SETUP_PATIENCE = 1.5
"""Seconds for each answer until a connection is ready for use."""

_PREPARED = 256
"""Statements that the server keeps prepared for a connection."""

_DEFAULTS: dict[str, str | int | None] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",
}
"""Parameters of a connection that the address may set otherwise."""

_SETTINGS = (
    "SET statement_timeout = {}; SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
    " SET idle_in_transaction_session_timeout = 0; SET max_parallel_workers_per_gather = 0; SET jit = off;"
    " SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
"""So that the server, too, notices a host that is gone, with what it holds; that no plan is made for a big report; and
rule 4."""

_MEANINGS: dict[str, type[PolpodError]] = {
    "23503": BrokenReference,
    "23505": AlreadyExists,
    "53100": DiskFull,
    "54000": TooLarge,  # a value that an index cannot hold
    "55P03": Unavailable,  # a lock that was not given in time
    "25P03": Unavailable,  # idle in a transaction, and disconnected for it
    "XX001": Damaged,
    "XX002": Damaged,
    "08": Unavailable,  # the connection
    "40": Unavailable,  # rolled back for the sake of others
    "53": Unavailable,  # resources: memory, connections
    "57": Unavailable,  # the operator: starting, stopping, crashed, statement_timeout
}
"""By SQLSTATE, or else by its class (PostgreSQL's manual, appendix A)."""


class Address(Struct, frozen=True):
    """Where a database is."""

    conninfo: str
    """As of libpq, with the password."""
    where: str
    """For messages (rule 3)."""


_URL = re.compile(r"[a-z]+://([^@/?]*@)?[^@/?]*(/[^@?]*)?(\?.*)?")
"""One in which no part of a password is taken for the host or the database, and so told."""


def address(url: str, application_name: str) -> Address:
    """Raises StoreError: it is no address."""
    try:
        if "://" in url and not _URL.fullmatch(url):
            raise psycopg.ProgrammingError
        given = conninfo_to_dict(url)
    except psycopg.Error:
        # What libpq says about it quotes it, perhaps with the password.
        raise StoreError(
            "the address of the database is none: postgresql://USER@HOST/DATABASE, with %40 for an @ in a password, %2F for a /"
        ) from None
    parameters = {**_DEFAULTS, **given, "application_name": application_name, "client_encoding": "UTF8"}
    host = given.get("host") or given.get("hostaddr") or given.get("service") or "localhost"
    port = f":{given['port']}" if given.get("port") else ""
    return Address(make_conninfo("", **parameters), f"{host}{port}/{given.get('dbname') or given.get('user') or ''}")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that has a name and little patience.  In autocommit: transactions are begun by saying so."""

    where: str = ""
    patience: float | None = SETUP_PATIENCE
    """Seconds for each answer (rule 1)."""

    def ask(self, text: str, values: Sequence[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        """Raises what `translate` says."""
        try:
            return self.execute(text, values)
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def tell(self, text: str) -> psycopg.Cursor[tuple[Any, ...]]:
        """Carry out statements without values, in one round trip.  Raises what `translate` says."""
        try:
            return self.execute(text, prepare=False)
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: psycopg.Error) -> PolpodError:
        if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
            self.close()  # as the server does, but its end may not have been read yet
        return translate(error, self.where)

    def wait(self, gen: PQGen[RV], interval: float = 0.0, timeout: float | None = None) -> RV:
        """All of psycopg's waiting for an answer goes on here.  A connection that keeps silent is closed."""
        deadline = None if self.patience is None else time.monotonic() + self.patience
        poll = select.poll()
        try:
            wanted = next(gen)
            while True:
                poll.register(self.pgconn.socket, _EVENTS[wanted])
                left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
                found = poll.poll(left)
                if not found:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
                wanted = gen.send(_ready(found[0][1]))
        except StopIteration as end:
            result: RV = end.value
            return result


_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


def _ready(events: int) -> int:
    """In psycopg's words.  What is neither is an error, of which reading and writing tell."""
    if events & ~(select.POLLIN | select.POLLOUT):
        return Ready.RW
    return (Ready.R if events & select.POLLIN else 0) | (Ready.W if events & select.POLLOUT else 0)


class _Integer(Int8Dumper):
    """Left to the server to type, as text is: otherwise each mixture of numbers and NULL were a statement of its own."""

    oid = 0


class _Real(FloatDumper):
    oid = 0


def connect(address: Address, *, patience: float) -> Connection:
    """A new connection, ready for use; from then on it has this patience (seconds).

    Raises Unavailable, StoreError (refused, or a server that will not do).
    """
    try:
        db = Connection.connect(address.conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        server = error.pgconn
        refused = server is not None and (server.needs_password or server.used_password)
        raise (StoreError if refused else Unavailable)(f"{address.where}: {_first_line(error)}") from error
    db.where = address.where
    try:
        db.prepared_max = _PREPARED
        db.adapters.register_dumper(int, _Integer)
        db.adapters.register_dumper(float, _Real)
        db.tell(_SETTINGS.format(int((patience - 1) * 1000)))
        if db.info.server_version < OLDEST * 10_000:
            raise StoreError(f"{db.where}: polpod needs PostgreSQL {OLDEST} or later, not {db.info.server_version}")
        if (encoding := db.info.parameter_status("server_encoding")) != "UTF8":
            raise StoreError(f"{db.where}: polpod needs a database in UTF8, not {encoding}")
    except BaseException:
        db.close()
        raise
    db.patience = patience
    return db


def translate(error: psycopg.Error, where: str) -> PolpodError:
    """What an error of PostgreSQL, or of the way to it, means for who asked (rule 2)."""
    code = error.sqlstate
    if code is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return (Unavailable if lost else StoreError)(f"{where}: {_first_line(error)}")
    meaning = _MEANINGS.get(code) or _MEANINGS.get(code[:2]) or StoreError
    return meaning(f"{where}: {error.diag.message_primary or code}")


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]


class PostgresRows:
    """The rows of the transaction that is open on `db`.

    What begins and ends a part is owed until there is something to do in it, and sent in one message then: a part costs
    one round trip, and an idle one none.  Parts have names of their own, so that none is taken for another if the server
    did not do what it was owed; it has then rolled back everything.
    """

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.changed = False
        """Whether it wrote anything."""
        self._parts = 0
        self._open: list[str] = []
        self._owed: list[str] = []

    def insert(self, table: AnyTable, row: Row, *, replace: bool) -> None:
        self.changed = True
        self._execute(sql.insert(sql.POSTGRES, table, row, replace=replace))

    def get(self, table: AnyTable, key: tuple[Scalar, ...]) -> str | None:
        row = self._execute((sql.get(sql.POSTGRES, table), list(key))).fetchone()
        return None if row is None else row[0]

    def select(self, table: AnyTable, query: Query) -> list[str]:
        return [doc for (doc,) in self._execute(sql.select(sql.POSTGRES, table, query)).fetchall()]

    def select_whole(self, table: AnyTable, query: Query) -> list[Row]:
        found = self._execute(sql.select_whole(sql.POSTGRES, table, query)).fetchall()
        return [Row(dict(zip(table.columns, values, strict=True)), doc.encode()) for *values, doc in found]

    def count(self, table: AnyTable, where: Sequence[Where[Any]]) -> int:
        return int(self._one(sql.count(sql.POSTGRES, table, where)))

    def total(self, table: AnyTable, column: str, where: Sequence[Where[Any]]) -> float:
        return float(self._one(sql.total(sql.POSTGRES, table, column, where)))

    def tally(self, table: AnyTable, columns: Sequence[str], where: Sequence[Where[Any]]) -> Sequence[tuple[Any, ...]]:
        return self._execute(sql.tally(sql.POSTGRES, table, columns, where)).fetchall()

    def delete(self, table: AnyTable, where: Sequence[Where[Any]]) -> int:
        self.changed = True
        return self._execute(sql.delete(sql.POSTGRES, table, where)).rowcount

    def begin_part(self) -> None:
        self._parts += 1
        name = f"part{self._parts}"
        self._open.append(name)
        self._owed.append(f"SAVEPOINT {name}")

    def end_part(self, *, undo: bool) -> None:
        name = self._open.pop()
        if self._owed and self._owed[-1] == f"SAVEPOINT {name}":
            self._owed.pop()
            return
        if undo:
            self._owed.append(f"ROLLBACK TO {name}")
        self._owed.append(f"RELEASE {name}")

    def settle(self) -> None:
        """Before the end, which releases every part by itself, only what has to be undone is still owed.

        Raises Unavailable, StoreError; then everything was rolled back.
        """
        if any(statement.startswith("ROLLBACK") for statement in self._owed):
            self._pay()

    def _pay(self) -> None:
        text = "; ".join(self._owed)
        self._owed.clear()
        try:
            self.db.tell(text)
        except PolpodError:
            end_transaction(self.db)
            raise

    def _one(self, statement: sql.Statement) -> Any:
        row = self._execute(statement).fetchone()
        assert row is not None
        return row[0]

    def _execute(self, statement: sql.Statement) -> psycopg.Cursor[tuple[Any, ...]]:
        if self._owed:
            self._pay()
        return self.db.ask(*statement)


def end_transaction(db: Connection) -> None:
    """Roll back; where that cannot be said any more, the server does it by itself."""
    try:
        db.tell("ROLLBACK")
    except PolpodError:
        db.close()
