"""What clients make the daemon keep: frames that are not ended or not answered yet, answers that nobody reads.

Each connection has bounds of its own; this is the one for all of them, so that many cannot do what one may not.
"""

from __future__ import annotations

import trio

MOST = 128 * 2**20
"""Bytes kept for all connections together."""

SMALL = 2**16
"""Bytes of one connection that nobody counts."""


class Kept:
    """A connection is known by its cancel scope, which ends it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._sizes: dict[trio.CancelScope, int] = {}
        self._total = 0

    def set(self, connection: trio.CancelScope, size: int) -> None:
        """The connection keeps so many bytes now; where all are too much, those go that did nothing for longest."""
        if size <= SMALL:
            size = 0
            if connection not in self._sizes:
                return
        self._total += size - self._sizes.pop(connection, 0)
        if size:
            self._sizes[connection] = size  # as the last of all: it is at work
        while self._total > self._most and len(self._sizes) > 1:
            idle = next(iter(self._sizes))
            self._total -= self._sizes.pop(idle)
            idle.cancel()
