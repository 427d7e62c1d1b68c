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

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

from polpod.errors import CommitInDoubt, DiskFull, PolpodError, StoreError, Unavailable, Undecodable
from polpod.model.events import Event
from polpod.store.location import Location, open_sessions
from polpod.store.migrate import Schema
from polpod.store.session import Session

T = TypeVar("T")
X = TypeVar("X")

GROUP_MAX = 256
"""Bodies in one transaction: bounds how long the first of them waits."""


class Kind(Struct, Generic[T], frozen=True):
    """What a store is to its users: its schema, and how a transaction of a session looks to a body.

    `end` is called once a body has returned: it raises if the body must not succeed, else gives its journal events.
    `set_aside` moves records that do not decode to where they are kept, and tells of each; None: none are ever met.
    `doubt_is_told`: who waits for a commit in doubt gets CommitInDoubt; else nobody is answered, since the process stops.
    """

    schema: Schema
    begin: Callable[[Any], T]
    end: Callable[[T], tuple[Event, ...]]
    set_aside: Callable[[T, Undecodable], list[str]] | None = None
    doubt_is_told: bool = False


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
    commits: tuple[float, ...] = ()
    """Seconds that each COMMIT took which succeeded."""


class GroupCommit(Generic[T]):
    """The one writer of a store in this process.  Its session must be in no transaction."""

    def __init__(self, session: Session, kind: Kind[T]) -> None:
        self.after_commit: Callable[[], None] | None = None
        """Called after each COMMIT that succeeded; for tests, which copy the files there."""
        self.broken: CommitInDoubt | None = None
        self.session = session
        self._kind = kind
        self._full = False
        """Whether the last group met a full disk."""
        self._waiting: deque[Ticket[T, object]] = deque()
        self._commits: list[float] = []

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
        self._commits.clear()
        try:
            self.session.rest(full=self._full)
            events = self._together(tickets)
            self._full = any(isinstance(ticket.error, DiskFull) for ticket in tickets)
            return Group(tickets, (*self.session.found(), *events), tuple(self._commits))
        except (PolpodError, MemoryError) as error:
            where = self.session.where
            self.broken = CommitInDoubt(f"{where}: {error}: nobody knows whether the last writes are durable")
            raise self.broken from error

    def truncate(self) -> bool:
        """As of the session."""
        return self.session.truncate()

    def close(self) -> None:
        if self.broken is None:
            self.truncate()
        self.session.close()

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
            if not self.session.in_transaction:
                return tuple(event for one in tickets for event in self._alone(one))
        return tuple(events) if self._commit(tickets) else ()

    def _alone(self, ticket: Ticket[T, object]) -> tuple[Event, ...]:
        if not self._begin([ticket]):
            return ()
        events = self._carry_out(ticket)
        if self.session.in_transaction:
            return events if self._commit([ticket]) else ()
        if ticket.error is None:
            ticket.fail(StoreError(f"{self.session.where}: rolled back under a body that went on"))
        return ()

    def _begin(self, tickets: Sequence[Ticket[T, object]]) -> bool:
        try:
            self.session.begin(durable=any(ticket.durable for ticket in tickets))
        except CommitInDoubt:
            raise
        except PolpodError as error:
            self._fail(tickets, error)
            return False
        return True

    def _carry_out(self, ticket: Ticket[T, object]) -> tuple[Event, ...]:
        """One body, in a part of its own.  Its error is its caller's, whatever it is."""
        if not ticket.in_parts:
            self.session.rows.begin_part()
        try:
            tx = self._kind.begin(self.session)
            ticket.result, ticket.error = ticket.body(tx), None
            events = self._kind.end(tx)
        except Exception as error:  # noqa: BLE001 - handed to whoever sent the body
            ticket.fail(error)
            if ticket.in_parts:
                self.session.rollback()
            elif self.session.in_transaction:
                self.session.rows.end_part(undo=True)
            return ()
        if self.session.in_transaction and not ticket.in_parts:
            self.session.rows.end_part(undo=False)
        return events

    def _commit(self, tickets: Sequence[Ticket[T, object]]) -> bool:
        began = time.perf_counter()
        try:
            self.session.commit()
        except (DiskFull, Unavailable) as error:
            self.session.rollback()
            self._fail(tickets, error)
            return False
        self._commits.append(time.perf_counter() - began)
        if self.after_commit is not None:
            self.after_commit()
        return True

    def _fail(self, tickets: Sequence[Ticket[T, object]], error: PolpodError) -> None:
        for ticket in tickets:
            ticket.fail(error)


def open_store(location: Location, kind: Kind[T]) -> GroupCommit[T]:
    """Open the store for use without an event loop, made or migrated where needed.

    Raises SchemaTooNew, StoreError, DiskFull, Unavailable.
    """
    sessions = open_sessions(location, kind.schema)
    for reader in sessions.readers:
        reader.close()
    return GroupCommit(sessions.writer, kind)
