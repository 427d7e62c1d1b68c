"""When systemd's watchdog is petted: while the event loop turns, and the writers of both stores come round.

The loop proves itself, since it is the loop that pets.  A writer is not asked, for whoever asks would wait with it; what
can be seen of it is looked at before each pet (store/gate.py, rule 6), by these rules:

1. A writer that nobody waits for, or that came round since the last look, is well.
2. One that is busy has STUCK_AFTER: all that a group of bodies does is bounded far below that, such as the 5 s in which
   another process may hold the lock.
3. A thread that is seen in state D (uninterruptible sleep) waits for the disk, and its time starts anew.  Signals reach
   it late or never, SIGKILL included; the daemon after this one would have to wait for the lock of the state directory,
   and then for the same disk.  Meanwhile this one answers what it can from memory, and its status line says what it
   waits for.  So a slow or hung disk never costs a daemon its life, however long that lasts.
4. Any other (a statement without an end, a lock that nobody gives back, a turn that was never passed on) is a defect that
   nothing but a new process ends: no pet, so systemd ends this one with SIGABRT, upon which the stacks of all threads are
   written to the log.  The runs do not notice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

STUCK_AFTER = 120.0
"""Seconds."""

WAITING_LONG = 5.0
"""Seconds after which the status line mentions a writer."""

log = logging.getLogger(__name__)


class Gate(Protocol):
    """What is looked at (store/gate.py)."""

    rounds: int
    thread: int | None

    @property
    def where(self) -> str: ...

    @property
    def waited_for(self) -> bool: ...


class Writer:
    """One gate's writer, as the looks at it show it.  `state` tells the letter of a thread's state."""

    def __init__(self, gate: Gate, state: Callable[[int], str]) -> None:
        self._gate, self._state = gate, state
        self._rounds = gate.rounds
        self._since = self._last_sign = trio.current_time()
        self._in_disk = False

    def look(self) -> bool:
        """Whether it is well."""
        at = trio.current_time()
        if self._gate.rounds != self._rounds or not self._gate.waited_for:
            self._rounds = self._gate.rounds
            self._since = self._last_sign = at
        thread = self._gate.thread
        self._in_disk = thread is not None and self._state(thread) == "D"
        if self._in_disk:
            self._last_sign = at
        return at - self._last_sign < STUCK_AFTER

    @property
    def trouble(self) -> str | None:
        """What to say about it, as of the last look; None: nothing."""
        seconds = trio.current_time() - self._since
        if seconds < WAITING_LONG:
            return None
        return f"{self._gate.where}: a write takes {seconds:.0f} s{', waiting for the disk' if self._in_disk else ''}"


def state_of_thread(thread: int) -> str:
    """The letter of one of our threads' state in proc(5); empty where it has ended."""
    try:
        with open(f"/proc/self/task/{thread}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


async def watch(writers: Sequence[Writer], pet: Callable[[], None], every: float) -> None:
    """Look at the writers every so many seconds, and pet while all are well; until cancelled."""
    well = True
    while True:
        looks = [writer.look() for writer in writers]
        if all(looks):
            pet()
            well = True
        elif well:
            well = False
            troubles = "; ".join(filter(None, (writer.trouble for writer in writers)))
            log.error("%s: the watchdog is left to end this daemon, and the runs go on", troubles)
        await trio.sleep(every)
