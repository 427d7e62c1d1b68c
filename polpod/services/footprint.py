"""How much memory live runs take: of a bounded number of them, since it is asked at each scrape.  Blocking."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from polpod.model.runs import Run
from polpod.runner import identity
from polpod.runner.containment import Cgroup

MOST = 50
"""Runs that are measured; of more, these are spread over all."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Footprint(NamedTuple):
    """Bytes; of so many `runs` together."""

    runs: int
    runners: int
    """The runners' share of memory: what they share is theirs in part (PSS)."""
    jobs: int
    """Of a job with a cgroup that counts memory all processes with their page cache, else its main process."""


def measure(runs: Sequence[Run]) -> Footprint:
    """Of live runs."""
    chosen = runs[:: -(-len(runs) // MOST) or 1]
    here = identity.pid_namespace()
    measured = runners = jobs = 0
    for run in chosen:
        if run.pid is None or run.pid_ns != here or not _is(run.pid, run.start_ticks):
            continue
        measured += 1
        runners += _share(run.pid)
        counted = Cgroup(run.cgroup).memory() if run.cgroup is not None else None
        if counted is None and run.job_pid is not None and _is(run.job_pid, run.job_start_ticks):
            counted = _resident(run.job_pid)
        jobs += counted or 0
    return Footprint(measured, runners, jobs)


def _is(pid: int, start_ticks: int | None) -> bool:
    return start_ticks is not None and identity.start_ticks(pid) == start_ticks


def _share(pid: int) -> int:
    """PSS; 0 of a process that is gone, or not ours to look at."""
    for line in _lines(f"/proc/{pid}/smaps_rollup"):
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _resident(pid: int) -> int:
    for line in _lines(f"/proc/{pid}/statm"):
        return int(line.split()[1]) * _PAGE
    return 0


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.readlines()
    except OSError:
        return []
