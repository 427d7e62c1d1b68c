"""The only place where tests wait for something that no event tells: a condition, and a bound."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLOWNESS = float(os.environ.get("POLPOD_TEST_SLOW", "1"))
"""How many times slower than a real machine this one is: an emulated one."""

BOUND = 60.0 * SLOWNESS
"""Seconds; far above what anything takes here, so that only a defect reaches it."""


SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.04
"""Seconds between two looks: the longer something takes, the less it matters that it is seen at once, and each look takes
its time from those who work.
"""


def until(condition: Callable[[], T | None], what: str, bound: float = BOUND) -> T:
    """The first true value of `condition`.  Raises AssertionError, saying `what` did not come, after `bound` seconds."""
    deadline = time.monotonic() + bound
    pause = SHORTEST_PAUSE
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {bound:g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.1, LONGEST_PAUSE)
