"""Crash points: named instructions at which a test ends the process with SIGKILL, or stops it.

`POLPOD_CRASH_AT=name[:n]` kills the process that passes point `name` for the n-th time (default: the first).  With
`POLPOD_CRASH_ONCE=path` only the process that creates that file dies, however many pass.  `POLPOD_CRASH_SIGNAL=SIGSTOP`
stops it there instead.  Otherwise a point does nothing.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    # daemon, launch
    "launch.inserted",
    "launch.assigned",
    "launch.prepared",
    "launch.asked",
    "launch.forked",
    "launch.gone",
    # zygote and runner
    "zygote.request",
    "runner.start",
    "runner.go",
    "runner.job_forked",
    "runner.claimed",
    "runner.released",
    "runner.job_ended",
    "runner.proven",
    "runner.recorded",
    "runner.rung",
    # daemon, collection
    "collect.read",
    "collect.seen",
    "collect.applied",
    "collect.collected",
    "collect.removed",
    # daemon, kill
    "kill.noted",
    "kill.requested",
    "kill.signalled",
    # daemon, others
    "submit.committed",
    "artifact.stored",
    # daemon, missions
    "mission.executed",
    "mission.settled",
    "schedule.planned",
    "schedule.fired",
    "deadline.failed",
    "a2a.reported",
    "recover.planned",
    "recover.executed",
)

_name, _, _count = os.environ.get("POLPOD_CRASH_AT", "").partition(":")
_left = int(_count or 1)
_once = os.environ.get("POLPOD_CRASH_ONCE")
_signal = signal.Signals[os.environ.get("POLPOD_CRASH_SIGNAL", "SIGKILL")]
if _name and _name not in POINTS:
    raise ValueError(f"POLPOD_CRASH_AT: no crash point {_name!r}; there are {', '.join(POINTS)}")


def point(name: str) -> None:
    """Die here if the environment says so."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0 and _first():
        os.kill(os.getpid(), _signal)


def _first() -> bool:
    if _once is None:
        return True
    try:
        os.close(os.open(_once, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
