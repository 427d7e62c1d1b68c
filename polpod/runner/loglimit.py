"""Keeps a log within its limit: punches holes behind a kept head, so that no offset ever changes (F62, F63).

The size is looked at as often as its growth demands, and every LONGEST_PAUSE while the log is quiet.  So is the space that
is left for it, since only the job is told of a write that failed (F50).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from polpod.runner import syscalls

FIRST_LOOK = 0.1
LONGEST_PAUSE = 2.0
SHORTEST_PAUSE = 0.02
BLOCK = 4096
SLACK = 16
"""A hole gives back 1/SLACK of the limit more than it must: so that holes are few, and the log goes over by little."""


class LogLimit:
    """A chore of the runner's: one log's limit."""

    def __init__(self, fd: int, limit: int, head: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`fd` is open for writing, and kept; `limit` and `head` are bytes; `clock` gives seconds."""
        self._fd = fd
        self._limit = limit
        self._head = self._hole_end = -(-head // BLOCK) * BLOCK
        self._slack = max(limit // SLACK, BLOCK)
        self._clock = clock
        self._size = 0
        self._looked = clock()
        self._pause = FIRST_LOOK
        self.due = self._looked + FIRST_LOOK
        self.starved = False
        """Whether a look found no space left for more of the log."""

    def run(self) -> None:
        """Look at the size, punch what is too much, and decide when to look again."""
        size, now = os.fstat(self._fd).st_size, self._clock()
        grown, passed = size - self._size, now - self._looked
        self._size, self._looked = size, now
        self.starved = self.starved or os.fstatvfs(self._fd).f_bavail == 0
        if size < self._hole_end:  # somebody truncated it, or it is not that long yet
            self._hole_end = self._head
        if self._kept() > self._limit and not self._punch(self._kept() - self._limit + self._slack):
            self.due = math.inf
            return
        if grown > 0:
            until_over = (self._limit + self._slack - self._kept()) * max(passed, 1e-6) / grown
            self._pause = max(until_over / 2, SHORTEST_PAUSE)
        else:
            self._pause *= 2
        self._pause = min(self._pause, LONGEST_PAUSE)
        self.due = now + self._pause

    def _kept(self) -> int:
        return self._size - (self._hole_end - self._head)

    def _punch(self, length: int) -> bool:
        """False: this file system cannot, so the log keeps every byte."""
        end = min(self._hole_end + length, self._size) // BLOCK * BLOCK
        try:
            syscalls.punch_hole(self._fd, self._hole_end, end - self._hole_end)
        except OSError:
            return False
        self._hole_end = end
        return True
