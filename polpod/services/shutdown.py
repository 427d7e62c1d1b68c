"""Stopping in order (DESIGN §7): no new work, then every run is asked to end, then their records are waited for.

What cannot be proven gone in time keeps its live row and its kill row, and the next start goes on climbing.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

from polpod.services.insist import insist_read
from polpod.services.instance import Instance
from polpod.services.killer import Killer
from polpod.store import queries

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP is a shutdown, not a reload (`polpo-crash-resilience`)."""

TIDY = 10.0
"""Seconds, of what is left of `shutdownTimeout`, in which what the last runs left behind is removed; the next start does
what is not done by then.
"""

log = logging.getLogger(__name__)


@contextmanager
def signals() -> Iterator[AsyncIterator[int]]:
    """Those that come; one that comes later waits for the next generation (services/reload.py), or ends with us."""
    for number in SIGNALS:
        signal.signal(number, _hold)
    with trio.open_signal_receiver(*SIGNALS) as received:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        yield received


def _hold(number: int, frame: object) -> None:
    # Worker threads do not block it with us, so that one of them may have been given it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    signal.raise_signal(number)


async def obey(received: AsyncIterator[int], instance: Instance, now: trio.Event) -> None:
    """The first signal asks the daemon to stop; a second sets `now`: stop without waiting."""
    async for number in received:
        name = signal.Signals(number).name
        if instance.stopping.is_set():
            log.warning("%s again: stopping now", name)
            now.set()
        else:
            log.info("%s: stopping", name)
            instance.stopping.set()


async def stop(instance: Instance, killer: Killer, now: trio.Event) -> None:
    """End the runs and wait for their records, at most `shutdownTimeout`; `now` ends the waiting."""
    settings = instance.config.settings
    if settings.on_shutdown == "keep":
        return
    timeout = settings.shutdown_timeout / 1000
    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until, now, nursery.cancel_scope)
            await _end_all(instance, killer, timeout / 2)
            nursery.cancel_scope.cancel()
    left = await instance.runs.read(lambda tx: [r.id for r in tx.live()])
    if left:
        log.warning("%d runs could not be ended in time and go on being ended at the next start: %s", len(left), left)


async def _end_all(instance: Instance, killer: Killer, longest: float) -> None:
    with instance.journal.listening([""]) as bell:
        asked: set[int] = set()
        while True:
            live = {r.id for r in await instance.runs.read(lambda tx: tx.live())}
            if fresh := live - asked:
                log.info("waiting for %d runs to end: %s", len(live), sorted(live))
                await killer.request(sorted(fresh), "shutdown", "daemon", longest)
                asked |= fresh
            # A run that is over is in order only when its task says so, too.
            if not live and not await insist_read(instance.tasks, queries.occupying):
                break
            await bell.wait(trio.current_time() + 0.5)
    with trio.move_on_after(TIDY):
        while await instance.runs.read(lambda tx: tx.uncollected()):
            await trio.sleep(0.01)


async def _until(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
