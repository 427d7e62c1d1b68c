"""A store for programs without an event loop: any thread may use it, and blocks while another does.

Rules:

1. One transaction at a time, whoever asks for it; a body must not use the store.
2. What is written is durable when `write` returns.
3. As behind the gate, one bad row costs nobody an answer (F10): it is set aside, and the body carried out again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from polpod.errors import StoreError, Undecodable
from polpod.store.group import GroupCommit, Kind
from polpod.store.records import Tx

X = TypeVar("X")

ROUNDS = 100
"""As of the gate."""

log = logging.getLogger(__name__)


class BlockingStore:
    """`store` belongs to this from here on."""

    def __init__(self, store: GroupCommit[Tx], kind: Kind[Tx]) -> None:
        self._store = store
        self._kind = kind
        self._alone = threading.Lock()
        self._within: int | None = None
        """The thread that is in a body."""
        self._closed = False

    def write(self, body: Callable[[Tx], X]) -> X:
        """Carry out the body in a transaction of its own.

        Raises what the body raises, then nothing of it is stored; DiskFull, Unavailable, StoreError, CommitInDoubt.
        """
        return self._without_bad_rows(lambda: self._store.write(body))

    def read(self, body: Callable[[Tx], X]) -> X:
        """Carry out the body on what is committed.  Raises what it raises; StoreError if it tries to write."""
        return self._without_bad_rows(lambda: self._read(body))

    def close(self) -> None:
        """Put what was committed where it belongs, and close.  What comes later gets a StoreError."""
        with self._alone:
            if not self._closed:
                self._closed = True
                self._store.close()

    def _without_bad_rows(self, attempt: Callable[[], X]) -> X:
        if self._within == threading.get_ident():
            raise StoreError(
                "a function that is called within a transaction must not use the store"
            )  # it would wait for itself
        with self._alone:
            if self._closed:
                raise StoreError("the store is closed")
            self._within = threading.get_ident()
            try:
                for _ in range(ROUNDS):
                    try:
                        return attempt()
                    except Undecodable as bad:
                        self._set_aside(bad)
                return attempt()
            finally:
                self._within = None

    def _set_aside(self, bad: Undecodable) -> None:
        if (set_aside := self._kind.set_aside) is None:
            raise bad
        for what in self._store.write(lambda tx: set_aside(tx, bad)):
            log.error("%s: %s", self._store.session.where, what)

    def _read(self, body: Callable[[Tx], X]) -> X:
        session = self._store.session
        session.begin_reading()
        try:
            tx = self._kind.begin(session)
            result = body(tx)
            self._kind.end(tx)
            return result
        finally:
            session.rollback()
