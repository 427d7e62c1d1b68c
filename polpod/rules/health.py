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
    wall_left: float | None = None
    """What its task may spend yet, as of the run's start: seconds, seconds of CPU time, bytes."""
    cpu_left: float | None = None
    disk_left: int | None = None
    measured: float | None = None
    """When somebody last looked at CPU time and disk."""


MEASURE_EVERY = 1.0
"""Seconds between looks at what a run uses whose task has a budget of CPU time or disk."""

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
    if v.wall_left is not None:
        times.append(v.started + v.wall_left)
    if v.cpu_left is not None or v.disk_left is not None:
        times.append((v.started if v.measured is None else v.measured) + MEASURE_EVERY)
    return min(times, default=None)


def spent_out(v: Vitals, now: float, cpu: float, disk: int) -> str | None:
    """The field of its task's budget that a run spent that used so much (model/budgets.py)."""
    if v.wall_left is not None and now >= v.started + v.wall_left:
        return "wall_time"
    if v.cpu_left is not None and cpu > v.cpu_left:
        return "cpu_time"
    return "disk" if v.disk_left is not None and disk > v.disk_left else None


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
