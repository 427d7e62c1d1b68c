"""What systemd hears of this daemon, from its first instruction to its last (DESIGN §12).

READY is said when the socket answers.  Reads are served from then on, and writes are taken, which wait for recovery's
first pass, FIRST_PASS at most, and are never refused: no client can tell the difference, so nothing that is ordered after
polpod, nor `systemctl start`, has to wait for a recovery that may be long.

What comes before READY (a migration, the recovery of a long WAL) and after STOPPING (runs that end, a WAL that is emptied)
may take longer than the unit's TimeoutStartSec and TimeoutStopSec.  They are lengthened while there is progress: while
this process works, or for as long as `shutdownTimeout` lets runs take to end.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from polpod.errors import StoreError
from polpod.services import watchdog
from polpod.services.desk import Desk
from polpod.services.instance import Instance
from polpod.services.journal import EVERYTHING
from polpod.services.statusline import line
from polpod.services.watchdog import Writer, state_of_thread

AT_MOST_EVERY = 1.0
"""Seconds from one status line to the next."""

LOOK_EVERY = 5.0
"""Seconds after which something that no commit tells of may stand in the status line."""

ANSWER_WITHIN = 1.0

EXTEND_EVERY = 5.0
EXTENSION = 30.0

_ONE_ASKS = trio.CapacityLimiter(1)


class Ears(Protocol):
    """systemd (polpod/systemd.py), or a test's stand-in."""

    hears: bool

    @property
    def watchdog(self) -> float | None: ...
    def ready(self) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self) -> None: ...
    def status(self, text: str) -> None: ...
    def extend(self, seconds: float) -> None: ...
    def pet(self) -> None: ...


async def disk_trouble(instance: Instance) -> str | None:
    """What is wrong with the disk, if anything.  Asked in a thread, since whoever asks a hung file system waits for it."""
    with trio.move_on_after(ANSWER_WITHIN):
        try:
            full = await trio.to_thread.run_sync(instance.disk_is_full, abandon_on_cancel=True, limiter=_ONE_ASKS)
        except StoreError as exc:
            return str(exc)
        reserve = instance.config.settings.reserve >> 20
        return f"less than {reserve:,} MiB are free: nothing starts or is accepted" if full else None
    return f"{instance.paths.path} does not answer"


class Supervision:
    def __init__(self, systemd: Ears, disk: Callable[[Instance], Awaitable[str | None]] = disk_trouble) -> None:
        self._systemd = systemd
        self._disk = disk
        self._desk: Desk | None = None
        self._ready = trio.Event()
        self._writers: list[Writer] = []

    def ready(self, desk: Desk) -> None:
        """The socket answers."""
        self._desk = desk
        self._writers += [Writer(gate, state_of_thread) for gate in (desk.instance.tasks, desk.instance.runs)]
        self._systemd.ready()
        self._ready.set()

    def reloading(self) -> None:
        """A reload has begun; the next generation is `ready`."""
        self._systemd.reloading()
        self._systemd.status("reloading")

    async def serve(self) -> None:
        """Speak until cancelled, or not at all where nobody hears it."""
        if not self._systemd.hears:
            return
        async with trio.open_nursery() as nursery:
            if (timeout := self._systemd.watchdog) is not None:
                nursery.start_soon(watchdog.watch, self._writers, self._systemd.pet, timeout / 2)
            self._systemd.status("opening the stores")
            await self._extend_until(self._ready)
            assert self._desk is not None
            instance = self._desk.instance
            nursery.start_soon(self._tell, self._desk)
            await instance.stopping.wait()
            self._systemd.stopping()
            keep = instance.config.settings.on_shutdown == "keep"
            longest = 0.0 if keep else instance.config.settings.shutdown_timeout / 1000
            await self._extend_until(trio.Event(), trio.current_time() + longest)

    async def _extend_until(self, event: trio.Event, patient_until: float = -math.inf) -> None:
        """Lengthen systemd's time until the event, first until then, and as long as this process works."""
        before = None
        while not event.is_set():
            if (worked := _work()) != before or trio.current_time() < patient_until:
                self._systemd.extend(EXTENSION)
            before = worked
            with trio.move_on_after(EXTEND_EVERY):
                await event.wait()

    async def _tell(self, desk: Desk) -> None:
        instance, said = desk.instance, None
        with instance.journal.listening([EVERYTHING]) as bell:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ring_at, instance.stopping, bell.ring)
                nursery.start_soon(_ring_at, instance.recovered, bell.ring)
                while True:
                    text = line(instance, await self._disk(instance), self._other_troubles(desk))
                    if text != said:
                        self._systemd.status(text)
                        said = text
                    await trio.sleep(AT_MOST_EVERY)
                    steady = instance.recovered.is_set() and not instance.stopping.is_set()
                    await bell.wait(trio.current_time() + (LOOK_EVERY if steady else 0))

    def _other_troubles(self, desk: Desk) -> list[str]:
        for writer in self._writers:
            writer.look()
        found = [trouble for writer in self._writers if (trouble := writer.trouble)]
        if stuck := len(desk.killer.stuck):
            found.append(f"{stuck:,} cannot be ended, even by SIGKILL")
        return found


async def _ring_at(event: trio.Event, ring: Callable[[], None]) -> None:
    await event.wait()
    ring()


def _work() -> tuple[int, int]:
    """What this process did so far, so coarsely that waiting does not count: 0.1 s of CPU time, blocks read and written."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(10 * (used.ru_utime + used.ru_stime)), used.ru_inblock + used.ru_oublock
