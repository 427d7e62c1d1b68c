"""The state of a project: what its tasks belong to, and what an orchestrator last said of its processes."""

from __future__ import annotations

from polpod.model.entity import Entity
from polpod.model.tasks import Count, Instant, Task


class AgentActivity(Entity, frozen=True, kw_only=True):
    """What an agent is seen to do."""

    last_tool: str | None = None
    last_file: str | None = None
    files_created: tuple[str, ...] = ()
    files_edited: tuple[str, ...] = ()
    tool_calls: Count = 0
    total_tokens: Count = 0
    last_update: Instant | None = None
    summary: str | None = None
    session_id: str | None = None


class AgentProcess(Entity, frozen=True, kw_only=True):
    """A note of whoever stored it.  polpod itself goes by its runs, and signals nothing because of this."""

    agent_name: str
    pid: int
    task_id: str
    started_at: Instant
    alive: bool
    activity: AgentActivity = AgentActivity()


class Team(Entity, frozen=True, kw_only=True):
    name: str = ""
    description: str | None = None
    agents: tuple[dict[str, object], ...] = ()


class Project(Entity, frozen=True, kw_only=True):
    """What is kept of the state, beside the tasks."""

    project: str = ""
    teams: tuple[Team, ...] = ()
    processes: tuple[AgentProcess, ...] = ()
    started_at: Instant | None = None
    completed_at: Instant | None = None


class PolpoState(Project, frozen=True, kw_only=True):
    tasks: tuple[Task, ...] = ()
    """In order of creation."""
