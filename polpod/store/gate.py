"""The gate: the one async face of a store, for trio and for asyncio.

Rules:

1. A body is a plain function of its transaction; it is carried out in a worker thread and touches nothing else.
2. One thread writes at a time.  Whoever finds nobody leading leads: it drains one group, then answers the others of it
   and hands the lead to the first that still waits.  The lead is never given up otherwise.
3. A body that was not taken yet is withdrawn when its caller is cancelled; one that was taken finishes first.
4. Subscribers hear of a commit before its writers are answered, in the thread of the event loop.
5. After a commit in doubt nobody is answered any more: `broken` says so, and the process has to stop and recover.  Where
   the kind of store says so, CommitInDoubt is the answer: to whom a library is, it is not for us to stop.
6. What its writer does can be seen without asking it, for the watchdog: `waited_for`, `rounds` and `thread`; and whoever
   measures it is shown each group (`watch`).
7. A body that meets records that do not decode is carried out again once they are set aside, by a body of its own: one
   bad row costs nobody an answer (F10).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NoReturn, TypeVar, cast

import anyio
import anyio.to_thread

from polpod.errors import CommitInDoubt, RequestError, StoreError, Unavailable, Undecodable
from polpod.model.events import Event
from polpod.store.group import Group, GroupCommit, Kind, Ticket
from polpod.store.location import Location, open_sessions
from polpod.store.records import Tx
from polpod.store.session import Session

T = TypeVar("T")
X = TypeVar("X")

IDLE = 1.0
"""Seconds without a write after which the WAL is emptied."""
ROUNDS = 100
"""How often a body is carried out again for the sake of bad rows; each round sets aside all that one query met."""

log = logging.getLogger(__name__)


class Broken:
    """Set once, when a commit is in doubt (rule 5)."""

    def __init__(self) -> None:
        self.error: CommitInDoubt | None = None
        self._event = anyio.Event()

    def is_set(self) -> bool:
        return self.error is not None

    async def wait(self) -> CommitInDoubt:
        await self._event.wait()
        assert self.error is not None
        return self.error

    def set(self, error: CommitInDoubt) -> None:
        self.error = error
        self._event.set()


class Gate(Generic[T]):
    """Use `open_gate`.  `writer` and `readers` belong to the gate from here on; without readers, the writer's session
    reads, too, in turn.
    """

    def __init__(self, kind: Kind[T], writer: GroupCommit[T], readers: Sequence[Session]) -> None:
        self.broken = Broken()
        self.rounds = 0
        """How often the writer has come round."""
        self.thread: int | None = None
        """Where the writer is at work now, by the kernel's id."""
        self.trouble: str | None = None
        """Why the store could not be reached when it was last asked."""
        self._kind = kind
        self._writer = writer
        self._writing = anyio.CapacityLimiter(1)
        self._leader: Ticket[T, object] | None = None
        self._turns: dict[Ticket[T, object], anyio.Event] = {}
        """Of each ticket without an answer; set when it is answered, when it has to lead, or when the gate broke."""
        self._subscribers: list[Callable[[tuple[Event, ...]], None]] = []
        self._watchers: list[Callable[[Group[T]], None]] = []
        self._readers = deque(readers or (writer.session,))
        self._reading = anyio.CapacityLimiter(len(readers)) if readers else self._writing
        self._written = anyio.Event()
        self._closed = False

    async def write(self, body: Callable[[T], X], *, durable: bool = True) -> X:
        """Carry out the body in a transaction; what it returns is stored, and durable unless said otherwise.

        Raises what the body raises, then nothing of it is stored; DiskFull, Unavailable, StoreError.
        """
        return await self._without_bad_rows(lambda: self._settle(Ticket(body, durable=durable)))

    async def write_each(
        self: Gate[Tx], bodies: Sequence[Callable[[Tx], X]], *, durable: bool = True
    ) -> list[X | RequestError]:
        """Carry out the bodies in order in one transaction, each whole or not at all; its result or refusal for each.

        Raises as `write` does, for what is no refusal of a body; then nothing of any is stored.
        """

        def body(tx: Tx) -> list[X | RequestError]:
            return [tx.attempt(one) for one in bodies]

        return await self._without_bad_rows(lambda: self._settle(Ticket(body, durable=durable, in_parts=True)))

    async def read(self, body: Callable[[T], X], *, abandon: bool = False) -> X:
        """Carry out the body on a snapshot of what is committed.  Keep it short: it pins the WAL (F56).

        `abandon`, on trio: who is cancelled does not wait for the store; the body is then carried out for nobody.  (On
        asyncio the limiter would give the reader away while the body still has it.)

        Raises what the body raises; StoreError if it tries to write; DiskFull, Unavailable if it met a bad row that
        cannot be set aside now.
        """
        return await self._without_bad_rows(
            lambda: anyio.to_thread.run_sync(self._read, body, abandon_on_cancel=abandon, limiter=self._reading)
        )

    @property
    def where(self) -> str:
        """Which store this is, for messages."""
        return self._writer.session.where

    @property
    def waited_for(self) -> bool:
        """Whether the writer has something to do."""
        return bool(self._turns) or self.thread is not None

    def subscribe(self, callback: Callable[[tuple[Event, ...]], None]) -> None:
        """Call back after each group with its journal events, in commit order (rule 4).  It must not raise."""
        self._subscribers.append(callback)

    def watch(self, callback: Callable[[Group[T]], None]) -> None:
        """Call back after each group, before its writers are answered.  It must not raise."""
        self._watchers.append(callback)

    async def truncate_when_idle(self, idle: float = IDLE) -> NoReturn:
        """Empty the WAL each time that nothing was written for `idle` seconds, or as soon as those let it who read then.

        A service, until it is cancelled.
        """
        while True:
            await self._written.wait()
            while self._written.is_set():
                self._written = anyio.Event()
                await anyio.sleep(idle)
            while not await anyio.to_thread.run_sync(self._work, self._writer.truncate, limiter=self._writing):
                await anyio.sleep(idle)

    async def close(self) -> None:
        """Empty the WAL and close, once what is being written is done.  What comes later gets a StoreError."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            for _ in range(int(self._reading.total_tokens)):
                await anyio.to_thread.run_sync(self._close_reader, limiter=self._reading)
            await anyio.to_thread.run_sync(self._writer.close, limiter=self._writing)

    async def _without_bad_rows(self, attempt: Callable[[], Awaitable[X]]) -> X:
        """Rule 7.  It ends at the latest with what the last attempt raises."""
        for _ in range(ROUNDS):
            try:
                result = await attempt()
            except Undecodable as bad:
                await self._set_aside(bad)
            except Unavailable as error:
                self.trouble = str(error)
                raise
            else:
                self.trouble = None
                return result
        return await attempt()

    async def _set_aside(self, bad: Undecodable) -> None:
        """Rows that another body has set aside, or mended, meanwhile are left alone."""
        if (set_aside := self._kind.set_aside) is None:
            raise bad
        for what in await self._settle(Ticket(lambda tx: set_aside(tx, bad), durable=True)):
            log.error("%s: %s", self.where, what)

    async def _settle(self, ticket: Ticket[T, X]) -> X:
        self._tell_doubt()
        mine = cast("Ticket[T, object]", ticket)
        turn = self._turns[mine] = anyio.Event()
        self._writer.submit(mine)
        if self._leader is None:
            self._pass_lead()
        try:
            await turn.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._leave(mine, turn)
            raise
        if self._leader is mine:
            await self._lead()
        self._tell_doubt()
        if self.broken.is_set():
            await anyio.sleep_forever()
        return ticket.answer()

    def _tell_doubt(self) -> None:
        """Rule 5."""
        if self._kind.doubt_is_told and self.broken.error is not None:
            raise self.broken.error

    async def _leave(self, ticket: Ticket[T, object], turn: anyio.Event) -> None:
        """Rule 3."""
        if not self._writer.withdraw(ticket):
            await turn.wait()
            return
        del self._turns[ticket]
        if self._leader is ticket:
            self._pass_lead()

    def _pass_lead(self) -> None:
        self._leader = self._writer.next
        if self._leader is not None:
            self._turns[self._leader].set()

    async def _lead(self) -> None:
        try:
            with anyio.CancelScope(shield=True):
                group = await anyio.to_thread.run_sync(self._work, self._writer.drain, limiter=self._writing)
        except CommitInDoubt as error:
            self.broken.set(error)
            for turn in self._turns.values():
                turn.set()
            return
        self._written.set()
        self._publish(group)

    def _publish(self, group: Group[T]) -> None:
        try:
            for watcher in self._watchers:
                watcher(group)
            if group.events:
                for callback in self._subscribers:
                    callback(group.events)
        finally:
            for ticket in group.tickets:
                self._turns.pop(ticket).set()
            self._pass_lead()

    def _work(self, of_writer: Callable[[], X]) -> X:
        """Rule 6."""
        self.thread = threading.get_native_id()
        try:
            return of_writer()
        finally:
            self.thread = None
            self.rounds += 1

    def _read(self, body: Callable[[T], X]) -> X:
        if not self._readers:  # there is one for each token of the limiter, until `close` takes them
            raise StoreError("the store is closed")
        session = self._readers.pop()
        try:
            session.begin_reading()
            tx = self._kind.begin(session)
            result = body(tx)
            self._kind.end(tx)
            return result
        finally:
            session.rollback()
            self._readers.append(session)

    def _close_reader(self) -> None:
        session = self._readers.popleft()
        if session is not self._writer.session:
            session.close()


async def open_gate(location: Location, kind: Kind[T]) -> Gate[T]:
    """Open the store, made or migrated where needed.

    Raises SchemaTooNew, StoreError, DiskFull, Unavailable.
    """
    sessions = await anyio.to_thread.run_sync(open_sessions, location, kind.schema)
    return Gate(kind, GroupCommit(sessions.writer, kind), sessions.readers)
