"""PostgreSQL's sessions: connections that come back when they were lost, and say truly what became of a commit.

Rules:

1. A connection that was lost is made again by the next transaction to begin, at once if the last attempt succeeded, else
   after a pause that grows; until then everything is refused without waiting.
2. Each transaction that writes leaves a mark of its own in `polpod_schema`.  Where the connection is lost in a commit, the
   mark that is found by who has the lock says what became of it.  (`pg_xact_status` would not do: after a crash of the
   server, the number of a transaction that was lost may be another's.)
3. Such a commit has happened, or has not, or the caller is told that nobody knows yet; then what it left in the journal
   is given by `found` as soon as it is known, before anything else is written.
4. A mark that is none of ours means that another polpod wrote meanwhile, or that the database went back to an earlier
   state: what the daemon knows is then of the past, and it has to stop and recover.
"""

from __future__ import annotations

import secrets
import time

from psycopg.pq import TransactionStatus

from polpod.errors import CommitInDoubt, DiskFull, PerhapsDone, PolpodError, StoreError, Unavailable
from polpod.model.events import Event
from polpod.store.migrate import Schema
from polpod.store.postgres import (
    CONNECT_TIMEOUT,
    SETUP_PATIENCE,
    Address,
    Connection,
    PostgresRows,
    address,
    connect,
    end_transaction,
)
from polpod.store.postgres_schema import lock, prepare, survey
from polpod.store.records import Tx
from polpod.store.session import Sessions
from polpod.store.tables import Events

READERS = 2

HELD = 10.0
"""Seconds for which a server that does not answer may hold the thread that writes."""
WRITER_PATIENCE = 5.0
"""Seconds for an answer."""
READER_PATIENCE = 30.0
BEGIN_PATIENCE = 5.0
"""Seconds for the answer to a BEGIN, which takes no work: a server that hangs is told from one that has much to do."""
_ATTEMPT = CONNECT_TIMEOUT + SETUP_PATIENCE
"""Seconds that an attempt to connect takes at most."""

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

_LAST = "(SELECT coalesce(max(seq), 0) FROM events)"
_STATE = f"SELECT mark, {_LAST} FROM polpod_schema"
_MARK = f"UPDATE polpod_schema SET mark = %s RETURNING {_LAST}"

_OPEN = {TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR}


class PostgresSession:
    """That only reads.  It connects when it has to."""

    patience = READER_PATIENCE

    rows: PostgresRows
    """From the first transaction on."""

    def __init__(self, address: Address, db: Connection | None = None) -> None:
        self._db = db
        self._address = address
        self._pause = 0.0
        self._next_attempt = 0.0
        self._closed = False

    @property
    def where(self) -> str:
        return self._address.where

    @property
    def in_transaction(self) -> bool:
        db = self._live()
        return db is not None and db.pgconn.transaction_status in _OPEN

    def begin(self, *, durable: bool) -> None:
        raise StoreError(f"{self.where}: opened for reading")

    def begin_reading(self) -> None:
        self._begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self) -> None:
        raise StoreError(f"{self.where}: opened for reading")

    def rollback(self) -> None:
        if (db := self._live()) is not None and self.in_transaction:
            end_transaction(db)

    def rest(self, *, full: bool) -> None:
        pass

    def found(self) -> tuple[Event, ...]:
        return ()

    def truncate(self) -> bool:
        return True

    def close(self) -> None:
        self._closed = True
        if self._db is not None:
            self._db.close()

    def _live(self) -> Connection | None:
        """The connection, unless it is known to be lost."""
        return None if self._db is None or self._db.closed else self._db

    def _begin(self, statement: str) -> None:
        if self._closed:
            raise StoreError(f"{self.where}: closed")
        self.rows = PostgresRows(self._begun(statement) or self._begun_anew(statement))

    def _begun(self, statement: str) -> Connection | None:
        """None: the connection was lost since the last transaction, and nothing has begun."""
        db = self._live()
        try:
            if db is not None:
                patience, db.patience = db.patience, min(db.patience or BEGIN_PATIENCE, BEGIN_PATIENCE)
                db.tell(statement)
                db.patience = patience
        except PolpodError:
            if self._live() is not None:
                raise
        return self._live()

    def _begun_anew(self, statement: str) -> Connection:
        db = self._db = self._reconnect()
        db.tell(statement)
        return db

    def _reconnect(self) -> Connection:
        """Rule 1.  Raises Unavailable, CommitInDoubt."""
        if time.monotonic() < self._next_attempt:
            raise Unavailable(f"{self.where}: not reachable")
        try:
            db = self._connect()
        except PolpodError as error:
            self._pause = min(max(self._pause * 2, SHORTEST_PAUSE), LONGEST_PAUSE)
            self._next_attempt = time.monotonic() + self._pause
            if isinstance(error, CommitInDoubt):
                raise
            raise Unavailable(str(error)) from error  # it was good enough before
        self._pause = 0.0
        return db

    def _connect(self) -> Connection:
        return connect(self._address, patience=self.patience)


class PostgresWriter(PostgresSession):
    """The one that writes.  `db` has the lock."""

    patience = WRITER_PATIENCE
    held = HELD

    def __init__(self, address: Address, name: str, db: Connection) -> None:
        super().__init__(address, db)
        self._name = name
        """Of its connections, in the eyes of the server."""
        self._found: tuple[Event, ...] = ()
        self._mark, self._last = _state(db)
        self._doubtful: int | None = None
        """The mark of a commit of which nobody knows yet."""

    def begin(self, *, durable: bool) -> None:
        self._begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")

    def commit(self) -> None:
        """Raises DiskFull, Unavailable, and, as one of these, PerhapsDone; CommitInDoubt (rule 4)."""
        if not self.rows.changed:
            self.rollback()
            return
        db, mark, begun = self.rows.db, secrets.randbits(63), time.monotonic()
        try:
            self.rows.settle()
            row = db.ask(_MARK, [mark]).fetchone()
        except PolpodError as error:
            raise _refused(error) from error
        assert row is not None
        try:
            db.tell("COMMIT")
        except PolpodError as error:
            if not db.closed:  # the server says that it has not happened
                raise _refused(error) from error
            self._doubtful = mark
            self._settle(mark, begun + self.held - _ATTEMPT, error)
        else:
            self._mark, self._last = mark, int(row[0])

    def found(self) -> tuple[Event, ...]:
        found, self._found = self._found, ()
        return found

    def _settle(self, mark: int, deadline: float, error: PolpodError) -> None:
        """Find out what became of the commit: it returns if it has happened.  Raises Unavailable, CommitInDoubt."""
        while True:
            try:
                self._db = self._reconnect()
                break
            except Unavailable as gone:
                if self._next_attempt >= deadline:
                    raise PerhapsDone(f"{error}; that was in a commit, which may have happened all the same") from gone
                time.sleep(max(0.0, self._next_attempt - time.monotonic()))
        self._found = ()  # whoever committed it has it
        if self._mark != mark:
            raise _refused(error) from error

    def _connect(self) -> Connection:
        db = super()._connect()
        try:
            patience, db.patience = db.patience, SETUP_PATIENCE
            lock(db, self._name)
            mark, last = _state(db)
            if mark not in (self._mark, self._doubtful):
                raise CommitInDoubt(f"{self.where}: another polpod wrote to it, or it went back to an earlier state")
            if mark != self._mark:
                self._found = _events(db, after=self._last)
            db.patience = patience
        except BaseException:
            db.close()
            raise
        self._mark, self._last, self._doubtful = mark, last, None
        return db


def _state(db: Connection) -> tuple[int, int]:
    """The mark of the last commit, and the newest event."""
    row = db.tell(_STATE).fetchone()
    assert row is not None
    mark, last = row
    return int(mark), int(last)


def _events(db: Connection, *, after: int) -> tuple[Event, ...]:
    """The journal past this `seq`, without what does not decode: whoever reads it will tell (records.py, rule 4)."""
    rows = Tx(PostgresRows(db))[Events].stored(Events.seq.gt(after))
    return tuple(Events.entity_of(row.doc) for row in rows if Events.problem(row.doc) is None)


def _refused(error: PolpodError) -> PolpodError:
    """Of a commit that has not happened."""
    return error if isinstance(error, DiskFull | Unavailable) else Unavailable(str(error))


def open_sessions(url: str, schema: Schema) -> Sessions:
    """As of store/location.py, for a database of PostgreSQL."""
    name = f"polpod {secrets.token_hex(8)}"
    writing, reading = address(url, name), address(url, "polpod")
    db = connect(writing, patience=WRITER_PATIENCE)
    try:
        lock(db, name)
        prepare(db, schema)
        survey(db)
        writer = PostgresWriter(writing, name, db)
    except BaseException:
        db.close()
        raise
    return Sessions(writer, tuple(PostgresSession(reading) for _ in range(READERS)))
