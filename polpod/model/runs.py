"""Runs: attempts at a task, each by one runner (DESIGN §6).  The fields are the columns of `runner/contract.py`."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from polpod.model.described import described


class RunStatus(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"
    LOST = "lost"


class Phase(StrEnum):
    """What a run carries out."""

    EXECUTION = "execution"
    REVIEW = "review"
    """The checks of what the execution before it did, whose attempt it has."""


class Reason(StrEnum):
    """Why a run is terminal, or is being ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    OOM = "oom"
    SPAWN_FAILED = "spawn_failed"
    TIMEOUT = "timeout"
    STALE = "stale"
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LOST = "lost"
    NEVER_STARTED = "never_started"


LIVE = frozenset({RunStatus.STARTING, RunStatus.RUNNING})


@described
class Run(Struct, frozen=True, kw_only=True):
    """One row of runs.db.  `*_mono` are CLOCK_MONOTONIC nanoseconds, valid in the boot beside them; `max_rss` is bytes."""

    id: int
    task_id: str
    attempt: int
    phase: Phase = Phase.EXECUTION
    queue: str
    agent: str | None = None
    nonce: str
    token_hash: str
    status: RunStatus
    reason: Reason | None = None
    created_at: str
    boot_id: str
    claim_until_mono: int
    containment: str
    cgroup: str | None = None
    log_path: str
    max_duration: float | None = None
    stale_threshold: float | None = None
    command: str | None = None
    """What became of an agent's command: a JSON array, long arguments cut; None for what the task itself says."""
    pid: int | None = None
    pid_ns: int | None = None
    start_ticks: int | None = None
    pidfd_inode: int | None = None
    job_pid: int | None = None
    job_start_ticks: int | None = None
    started_at: str | None = None
    started_mono: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    ended_at: str | None = None
    duration: float | None = None
    cpu_seconds: float | None = None
    max_rss: int | None = None
    leftovers: int | None = None
    kill_reason: str | None = None
    kill_by: str | None = None
    kill_at: str | None = None
    kill_mono: int | None = None
    kill_boot: str | None = None
    kill_grace: float | None = None
    heartbeat_at: str | None = None
    activity_at: str | None = None
    seen_at: str | None = None
    collected_at: str | None = None

    @property
    def live(self) -> bool:
        return self.status in LIVE
