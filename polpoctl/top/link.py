"""Calls that wait for polpod however long it is away: the one place that knows how the daemon is spoken to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from polpoctl.client import Connection, ContactLost
from polpoctl.conversation import FOR_EVER
from polpoctl.exits import Failure
from polpod.wire.errors import UNAVAILABLE
from polpod.wire.jsonrpc import RemoteError

_PAUSE = 0.5
"""Seconds between attempts to find polpod again."""


class Closed(Exception):
    """Whoever asked does not want to know any more."""


class Link:
    """One connection after another, for one thread."""

    def __init__(self, opened: Callable[[], Connection], told: Callable[[str | None], None]) -> None:
        """`told`: what keeps polpod from answering, when that begins; None when it answers again."""
        self._open = opened
        self._told = told
        self._connection: Connection | None = None
        self._away = False
        self._closed = False

    def call(self, method: str, params: dict[str, Any], until: float = FOR_EVER) -> Any:
        """The result of a call that may be made again, however late that comes.  Raises RemoteError, Closed."""
        while True:
            is_new = self._connection is None
            try:
                result = self._there().call(method, params)
            except (RemoteError, Failure) as trouble:
                if isinstance(trouble, RemoteError) and trouble.type != UNAVAILABLE:
                    raise
                self._drop()
                if self._closed:
                    raise Closed from None
                if is_new:  # else there may be another polpod already
                    self._lost(str(trouble))
                    time.sleep(_PAUSE)
            else:
                if self._away:
                    self._away = False
                    self._told(None)
                return result

    def once(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a call that changes something, made once.  Raises RemoteError, Failure, Closed."""
        try:
            return self._there().call(method, params)
        except ContactLost:
            self._drop()
            raise

    def close(self) -> None:
        """From any thread: who waits for an answer waits no more."""
        self._closed = True
        if self._connection is not None:
            self._connection.hang_up()

    def _there(self) -> Connection:
        if self._connection is None and not self._closed:
            self._connection = self._open()
        if self._closed or self._connection is None:
            self._drop()
            raise Closed
        return self._connection

    def _lost(self, why: str) -> None:
        if not self._away:
            self._away = True
            self._told(why.splitlines()[0])

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
