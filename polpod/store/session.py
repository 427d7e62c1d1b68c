"""A session: one connection to a backend of the store, and the transactions on it.  In one thread at a time.

What a backend has to be able to do, beside the row operations (store/records.py); group.py and gate.py do the rest.
The errors of a session are those of polpod/errors.py, whatever its database raises.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from polpod.model.events import Event
from polpod.store.records import Rows


class Session(Protocol):
    @property
    def rows(self) -> Rows:
        """Those of the transaction that is open."""

    @property
    def where(self) -> str:
        """Which store this is, for messages."""

    @property
    def in_transaction(self) -> bool:
        """False, too, once the database has rolled back by itself."""

    def begin(self, *, durable: bool) -> None:
        """Begin to write, alone.  `durable`: what is committed has to survive a power cut.

        Raises DiskFull, Unavailable, StoreError; then nothing has begun.  CommitInDoubt: what this process knows of the
        store is of the past.
        """

    def begin_reading(self) -> None:
        """Begin to read, on a snapshot of what is committed; writing is a StoreError until it is rolled back."""

    def commit(self) -> None:
        """Raises DiskFull, Unavailable: nothing of it has happened; CommitInDoubt: nobody knows."""

    def rollback(self) -> None:
        """End the transaction, if one is open."""

    def rest(self, *, full: bool) -> None:
        """What has to be done between two transactions; `full`: the last one met a full disk."""

    def found(self) -> tuple[Event, ...]:
        """The journal events of a commit that was in doubt, and turned out to have happened; once."""

    def truncate(self) -> bool:
        """Put all that was committed where it belongs; False: others keep it from that just now."""

    def close(self) -> None:
        """May be called twice."""


class Sessions(Struct, frozen=True):
    """Of one store: the one that writes, and those that only read.  Without any of these, the writer reads, too."""

    writer: Session
    readers: tuple[Session, ...] = ()
