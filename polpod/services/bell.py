"""A wake-up that says "look again" and carries nothing: the truth is in the rows (style: state file plus doorbell)."""

from __future__ import annotations

import math

import trio


class Bell:
    """Rung any number of times before anybody waits, it wakes the waiter once.  One waiter at a time."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, until: float = math.inf) -> None:
        """Return when rung, or at `until` on trio's clock."""
        with trio.move_on_at(until):
            await self._rung.wait()
        self._rung = trio.Event()
