"""What a runner does between two events: it sleeps until a signal or a deadline, reaps, and does its chores.

Rules:

1. SIGCHLD and SIGTERM are blocked and only ever taken here: none is lost, none interrupts anything.
2. Every child is reaped (we are the subreaper), and only the first exit of the main process's pid is the job's (F27).
3. Time is CLOCK_MONOTONIC: neither a clock step nor a suspended host ends anything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Protocol

TAKEN = (signal.SIGCHLD, signal.SIGTERM)
LONGEST_SLEEP = 1e6
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
"""The last two by Python itself, at its start."""


class Chore(Protocol):
    """Something small to do now and then."""

    due: float
    """Seconds of CLOCK_MONOTONIC; `run` sets the next."""

    def run(self) -> None: ...


def settle_signals() -> None:
    """The dispositions that runners, and the zygote for them, live with: IGNORED, and nothing else that was inherited."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def block_signals() -> None:
    """From here on TAKEN wait to be taken."""
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)


def restore_signals() -> None:
    """As a program expects to find them: what is ignored or blocked would stay so across exec."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def asked_to_end() -> bool:
    """Whether a SIGTERM waits to be taken."""
    return signal.SIGTERM in signal.sigpending()


class Watch:
    """Watches the main process `job` and all that becomes our child."""

    def __init__(self, job: int, chores: Sequence[Chore] = ()) -> None:
        self._job = job
        self._chores = chores
        self.wait_status: int | None = None
        """How the main process ended; None while it has not been reaped."""
        self.ended_mono = 0.0
        self.ended_at = 0.0
        self.children = True
        """Whether we have any child left, as of the last `reap`."""

    @property
    def job_lives(self) -> bool:
        return self.wait_status is None

    def reap(self) -> None:
        """Collect every child that has ended."""
        try:
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._job and self.wait_status is None:
                    self.wait_status = wait_status
                    self.ended_mono, self.ended_at = time.monotonic(), time.time()
        except ChildProcessError:
            self.children = False

    def wait(self, until: float) -> bool:
        """Sleep until a child changes, SIGTERM comes, or `until`; do the chores meanwhile.  True: it was SIGTERM."""
        while True:
            now = time.monotonic()
            for chore in self._chores:
                if chore.due <= now:
                    chore.run()
            wake = min([until, *(c.due for c in self._chores)])
            info = signal.sigtimedwait(TAKEN, min(max(wake - time.monotonic(), 0), LONGEST_SLEEP))
            if info is not None:
                self.reap()
                return info.si_signo == signal.SIGTERM
            if time.monotonic() >= until:
                return False
