"""How long work will take, as far as earlier runs of the same work and its job's own words tell.

Rules:

1. The same work executes the same spec; where nothing that did is remembered, it has the same agent, title and project.
2. Only runs that succeeded count, since others end where they fail; of the RECENT newest, the median.
3. What is learned goes before what a job says of its progress, which need not be even; that has the word where nothing
   was learned, from ENOUGH on.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import Struct

RECENT = 20
ENOUGH = 5.0
"""Per cent."""


class Estimate(Struct, frozen=True):
    """Seconds that it usually takes, as so many earlier runs say."""

    duration: float
    runs: int


def estimate(durations: Sequence[float]) -> Estimate | None:
    """Of the same work, in seconds; None: there are none."""
    return Estimate(statistics.median(durations), len(durations)) if durations else None


def left(usual: Estimate | None, elapsed: float | None, percent: float | None) -> float | None:
    """Seconds until it will be over, 0 where it takes longer than usual; None: nobody knows, or it has not begun."""
    if elapsed is None:
        return None
    if usual is not None:
        return max(0.0, usual.duration - elapsed)
    if percent is None or percent < ENOUGH:
        return None
    return elapsed * (100.0 - percent) / percent
