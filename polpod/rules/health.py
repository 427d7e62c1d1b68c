"""When a run has gone on for too long, or has been silent for too long (DESIGN §7).

All times are seconds of one monotonic clock, so that a jump of the wall clock or a suspended host never looks like idleness.
Nor does a time in which nobody looked: whoever was stopped together with the jobs has not seen them idle (F67).
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

Action = Literal["timeout", "warn", "stale"]


class Vitals(Struct, frozen=True):
    """What health knows of one live run."""

    started: float
    active: float
    """The last sign of activity: log growth, CPU time, a word of the job itself."""
    max_duration: float | None
    stale_threshold: float | None
    warned: bool = False
    seen: float | None = None
    """When somebody last looked for activity."""


LOOKS = 4
"""Looks for activity in one `stale_threshold`: its time is known to that part of it."""


def looked(v: Vitals, now: float) -> Vitals:
    """After a look at `now` that found nothing new: of the time since the last one, only what was due counts as silence."""
    if not v.stale_threshold or v.seen is None:
        return msgspec.structs.replace(v, seen=now)
    late = now - v.seen - v.stale_threshold / LOOKS
    return msgspec.structs.replace(v, seen=now, active=v.active + max(0.0, late))


def deadline(v: Vitals) -> float | None:
    """When to look next, or None when there is nothing to look for.  A limit of 0 is off."""
    times = []
    if v.max_duration:
        times.append(v.started + v.max_duration)
    if v.stale_threshold:
        times.append(v.active + v.stale_threshold * (2 if v.warned else 1))
    return min(times, default=None)


def check(v: Vitals, now: float) -> Action | None:
    """What is due: an end for its age, an end for its silence, or a warning at half of that."""
    if v.max_duration and now >= v.started + v.max_duration:
        return "timeout"
    if v.stale_threshold:
        # The same sums as in `deadline`: a difference may round to just before it.
        if now >= v.active + v.stale_threshold * 2:
            return "stale"
        if now >= v.active + v.stale_threshold and not v.warned:
            return "warn"
    return None
