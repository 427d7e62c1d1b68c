"""Writes that must happen: what was decided about a run or task is written as soon as the disk takes it (F49, F55).

So with reads on which a service stands: they may have to set a bad row aside first, which is a write (F10).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from polpod.errors import DiskFull, Unavailable
from polpod.store.gate import Gate

T = TypeVar("T")
X = TypeVar("X")

RETRY_AFTER = 1.0

log = logging.getLogger(__name__)


async def insist(gate: Gate[T], body: Callable[[T], X], *, durable: bool = True) -> X:
    """`gate.write`, again and again while the disk is full or the database is locked by another process."""
    return await _insist(lambda: gate.write(body, durable=durable))


async def insist_read(gate: Gate[T], body: Callable[[T], X]) -> X:
    """`gate.read` in the same way."""
    return await _insist(lambda: gate.read(body))


async def _insist(attempt: Callable[[], Awaitable[X]]) -> X:
    while True:
        try:
            return await attempt()
        except (DiskFull, Unavailable) as exc:
            log.warning("cannot write now, trying again: %s", exc)
            await trio.sleep(RETRY_AFTER)
