"""What to do about a run, from its row and from facts about its processes: at recovery and whenever a runner ended.

Rule 1: results are taken before anything is called lost; the witnesses are the row, then exit.json.  Rule 2: only proven
death counts; a runner that is alive, or may be, is left alone (F12).  Rule 3: what never started is provable, since a
claim is a compare-and-set.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from polpod.model.runs import Run, RunStatus


class Life(StrEnum):
    """What is known of a runner."""

    ALIVE = "alive"
    UNKNOWN = "unknown"
    DEAD = "dead"
    GONE_WITH_BOOT = "gone_with_boot"
    """It lived in another boot: it and all of its job are gone for certain."""


class Facts(Struct, frozen=True):
    life: Life
    recorded: bool = False
    """A valid exit.json lies in the run directory."""
    claimable: bool = False
    """A runner may still claim the row: its `go` was given, or may yet be, and the time to claim is not over."""


class Verdict(StrEnum):
    COLLECT = "collect"
    RECORD = "record"
    """Write what exit.json says into the row, then collect."""
    WATCH = "watch"
    NEVER_STARTED = "never_started"
    END = "end"
    """End what is left of the job; with that proven, the row says lost, or what its kill row asked for."""


_CLAIMED: Mapping[Life, Verdict] = {
    Life.ALIVE: Verdict.WATCH,
    Life.UNKNOWN: Verdict.WATCH,
    Life.DEAD: Verdict.END,
    Life.GONE_WITH_BOOT: Verdict.END,
}


def judge(run: Run, facts: Facts) -> Verdict:
    """The verdict on this run.  Whoever executes it reads the row again by compare-and-set, so a late result still wins."""
    if not run.live:
        return Verdict.COLLECT
    # In another boot a claim may have been made and lost with the power: then nobody knows what the job did.
    if run.status is RunStatus.STARTING and facts.life is not Life.GONE_WITH_BOOT:
        still_possible = facts.claimable and facts.life in (Life.ALIVE, Life.UNKNOWN)
        return Verdict.WATCH if still_possible else Verdict.NEVER_STARTED
    if facts.recorded and facts.life is not Life.ALIVE:
        return Verdict.RECORD
    return _CLAIMED[facts.life]
