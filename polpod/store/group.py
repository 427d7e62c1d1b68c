"""Group commit: all bodies that wait are carried out in one transaction and made durable by one commit (DESIGN §8).

Rules:

1. A body is a function of its transaction, and is carried out whole or not at all.  Each has a savepoint of its own, so
   one that raises hurts nobody else.
2. It may be carried out twice: SQLite may roll back the whole transaction under a body (disk full, input/output error,
   memory); the group is over then, and each of its bodies is carried out alone, once, in order.  So it is when a body
   in parts fails as a whole: it has a savepoint for each part, and none around them, for which SQLite would have to
   keep what every part changes.
3. Nobody is answered before the commit.  A commit that fails for want of space or of the lock has not happened; one
   that fails in another way is in doubt: nobody is answered, and nothing is carried out any more.  What is committed
   has its space in the database file, so that the WAL can always be emptied into it (store/wal.py).
4. A group is as durable as the most demanding of its bodies.
5. Everything here but `submit` and `withdraw` happens in one thread at a time; those two may be called from another.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from msgspec import Struct

from polpod.errors import CommitInDoubt, DiskFull, PolpodError, StoreError, Undecodable
from polpod.model.events import Event
from polpod.store.migrate import Schema
from polpod.store.sqlite import Connection, primary_code, translate
from polpod.store.wal import Wal

T = TypeVar("T")
X = TypeVar("X")

GROUP_MAX = 256
"""Bodies in one transaction: bounds how long the first of them waits."""

_NOT_DONE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}


class Kind(Struct, Generic[T], frozen=True):
    """What a database is to its users: its schema, and how a transaction on it looks to a body.

    `end` is called once a body has returned: it raises if the body must not succeed, else gives its journal events.
    `set_aside` moves records that do not decode to where they are kept, and tells of each; None: none are ever met.
    """

    schema: Schema
    begin: Callable[[Connection], T]
    end: Callable[[T], tuple[Event, ...]]
    set_aside: Callable[[T, Undecodable], list[str]] | None = None


class Ticket(Generic[T, X]):
    """A body on its way, and in the end its answer."""

    def __init__(self, body: Callable[[T], X], *, durable: bool, in_parts: bool = False) -> None:
        self.body = body
        self.in_parts = in_parts
        self.durable = durable
        self.result: X | None = None
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.result, self.error = None, error

    def answer(self) -> X:
        """What the body returned; raises what it raised, or why it could not be stored."""
        if self.error is not None:
            raise self.error
        return cast(X, self.result)


class Group(Struct, Generic[T], frozen=True):
    """A group that is over: whom to answer, and the journal events of all that was committed, in commit order."""

    tickets: list[Ticket[T, object]]
    events: tuple[Event, ...]


class GroupCommit(Generic[T]):
    """The one writer of a database in this process.  Its connection must be in no transaction, at synchronous=FULL."""

    def __init__(self, db: Connection, kind: Kind[T]) -> None:
        self.after_commit: Callable[[], None] | None = None
        """Called after each COMMIT that succeeded; for tests, which copy the files there."""
        self.broken: CommitInDoubt | None = None
        self._db = db
        self._kind = kind
        self._wal = Wal(db)
        self._durable = True
        self._full = False
        """Whether the last group met a full disk: what is free of it again is worth most where it lets the WAL go."""
        self._waiting: deque[Ticket[T, object]] = deque()

    def submit(self, ticket: Ticket[T, X]) -> None:
        self._waiting.append(cast("Ticket[T, object]", ticket))

    def withdraw(self, ticket: Ticket[T, X]) -> bool:
        """Whether the body was still waiting, and so will never be carried out."""
        try:
            self._waiting.remove(cast("Ticket[T, object]", ticket))
        except ValueError:
            return False
        return True

    @property
    def next(self) -> Ticket[T, object] | None:
        """The first that waits."""
        return self._waiting[0] if self._waiting else None

    def write(self, body: Callable[[T], X], *, durable: bool = True) -> X:
        """Carry out one body, here and now.

        Raises what it raises; DiskFull, Unavailable, StoreError, CommitInDoubt.
        """
        ticket = Ticket(body, durable=durable)
        self.submit(ticket)
        self.drain()
        return ticket.answer()

    def drain(self) -> Group[T]:
        """Carry out what waits, at most GROUP_MAX bodies.  Raises CommitInDoubt; from then on it always does."""
        if self.broken is not None:
            raise self.broken
        tickets = self._take()
        try:
            if self._full:
                self._wal.truncate()
            elif self._wal.due():
                self._wal.checkpoint()
            group = Group(tickets, self._together(tickets))
            self._full = any(isinstance(ticket.error, DiskFull) for ticket in tickets)
            return group
        except (sqlite3.Error, MemoryError) as error:
            self.broken = CommitInDoubt(f"{self._db.path}: {error}: nobody knows whether the last writes are durable")
            raise self.broken from error

    def truncate(self) -> bool:
        """Empty the WAL into the database; False if others use it just now."""
        return self._wal.truncate()

    def close(self) -> None:
        if self.broken is None:
            self.truncate()
        self._db.close()
        self._wal.close()

    def _take(self) -> list[Ticket[T, object]]:
        tickets: list[Ticket[T, object]] = []
        while len(tickets) < GROUP_MAX:
            try:
                tickets.append(self._waiting.popleft())
            except IndexError:  # asking first would race with `withdraw`
                break
        return tickets

    def _together(self, tickets: Sequence[Ticket[T, object]]) -> tuple[Event, ...]:
        if not tickets or not self._begin(tickets):
            return ()
        events: list[Event] = []
        for ticket in tickets:
            events += self._carry_out(ticket)
            if not self._db.in_transaction:
                return tuple(event for one in tickets for event in self._alone(one))
        return tuple(events) if self._commit(tickets) else ()

    def _alone(self, ticket: Ticket[T, object]) -> tuple[Event, ...]:
        if not self._begin([ticket]):
            return ()
        events = self._carry_out(ticket)
        if self._db.in_transaction:
            return events if self._commit([ticket]) else ()
        if ticket.error is None:
            ticket.fail(StoreError(f"{self._db.path}: rolled back by SQLite, and the body went on"))
        return ()

    def _begin(self, tickets: Sequence[Ticket[T, object]]) -> bool:
        durable = any(ticket.durable for ticket in tickets)
        try:
            if durable is not self._durable:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._fail(tickets, translate(error, self._db.path))
            return False
        return True

    def _carry_out(self, ticket: Ticket[T, object]) -> tuple[Event, ...]:
        """One body in its savepoint.  Its error is its caller's, whatever it is."""
        if not ticket.in_parts:
            self._db.execute("SAVEPOINT body")
        try:
            tx = self._kind.begin(self._db)
            ticket.result, ticket.error = ticket.body(tx), None
            events = self._kind.end(tx)
        except Exception as error:  # noqa: BLE001 - handed to whoever sent the body
            ticket.fail(error)
            if self._db.in_transaction and ticket.in_parts:
                self._db.execute("ROLLBACK")
            elif self._db.in_transaction:
                self._db.execute("ROLLBACK TO body")
                self._db.execute("RELEASE body")
            return ()
        if self._db.in_transaction and not ticket.in_parts:
            self._db.execute("RELEASE body")
        return events

    def _commit(self, tickets: Sequence[Ticket[T, object]]) -> bool:
        try:
            if not self._wal.reserve():
                self._db.execute("ROLLBACK")
                self._fail(tickets, DiskFull(f"{self._db.path}: no space left"))
                return False
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if primary_code(error) not in _NOT_DONE:
                raise
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._fail(tickets, translate(error, self._db.path))
            return False
        if self.after_commit is not None:
            self.after_commit()
        return True

    def _fail(self, tickets: Sequence[Ticket[T, object]], error: PolpodError) -> None:
        for ticket in tickets:
            ticket.fail(error)
