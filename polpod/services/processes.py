"""The processes of a run as they are now, for who watches it: read from /proc when asked, and kept nowhere."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import trio
from msgspec import Struct

from polpod.model.runs import Run
from polpod.runner.identity import Process
from polpod.services.instance import now
from polpod.services.killer import containments

MOST = 500
"""Processes that are told of; sums are of all."""
LONGEST = 300
"""Characters of a command line."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_one_at_a_time = trio.CapacityLimiter(1)
"""However many watch, the looks cost one thread."""


class RunProcess(Struct, frozen=True, kw_only=True):
    pid: int
    parent: int
    command: str
    state: str
    """A letter, as ps has it."""
    threads: int
    cpu_seconds: float
    """Of itself and of the children that it has waited for."""
    memory: int
    """Bytes that are resident."""


class Processes(Struct, frozen=True, kw_only=True):
    """A job's processes; none once the run is over."""

    at: datetime
    processes: list[RunProcess]
    more: bool = False
    """Whether there are others."""
    cpu_seconds: float | None = None
    """Of the whole job, with those that have ended, where a cgroup counts them."""
    memory: int = 0
    """Bytes; what processes share is counted for each."""


async def processes_of(run: Run) -> Processes:
    """The job's processes by their number."""
    if not run.live:
        return Processes(at=now(), processes=[])
    return await trio.to_thread.run_sync(_look, run, limiter=_one_at_a_time)


def _look(run: Run) -> Processes:
    place = containments(run)[0]
    found = [_told(process) for process in sorted(place.processes()) if process.alive and process.pid != run.pid]
    return Processes(
        at=now(),
        processes=found[:MOST],
        more=len(found) > MOST,
        cpu_seconds=place.cpu_seconds(),
        memory=sum(process.memory for process in found),
    )


def _told(process: Process) -> RunProcess:
    words = _read(process.pid, "cmdline") or b"[%s]" % _read(process.pid, "comm").strip()
    pages = _read(process.pid, "statm").split()[1:2]
    return RunProcess(
        pid=process.pid,
        parent=process.parent,
        command=words.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")[:LONGEST],
        state=process.state,
        threads=process.threads,
        cpu_seconds=process.cpu_ticks / _TICKS,
        memory=int(pages[0]) * _PAGE if pages else 0,
    )


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended since
        return b""
