"""Runs that a library's user records: the runs of another orchestrator, which polpod neither starts nor watches."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from polpod.model.entity import Entity
from polpod.model.polpo.state import AgentActivity
from polpod.model.submissions import Id
from polpod.model.tasks import Instant, Seconds


class RecordedStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"


TERMINAL = frozenset({RecordedStatus.COMPLETED, RecordedStatus.FAILED, RecordedStatus.KILLED})


class RunResult(Entity, frozen=True, kw_only=True):
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    duration: Seconds = 0.0
    assessment: dict[str, object] | None = None
    assessment_history: tuple[dict[str, object], ...] = ()
    """Earlier ones, the oldest first."""


class RunRecord(Entity, frozen=True, kw_only=True):
    id: Id
    task_id: Id
    pid: Annotated[int, Meta(ge=0)] = 0
    """0: no process of this host."""
    agent_name: str
    session_id: str | None = None
    status: RecordedStatus = RecordedStatus.RUNNING
    started_at: Instant | None = None
    """None: when it is stored."""
    updated_at: Instant | None = None
    activity: AgentActivity = AgentActivity()
    result: RunResult | None = None
    outcomes: tuple[dict[str, object], ...] = ()
    config: dict[str, object] | None = None
    config_path: str = ""
    seq: int = 0
    """Order of the first record; the store gives it."""

    @property
    def over(self) -> bool:
        return self.status in TERMINAL
