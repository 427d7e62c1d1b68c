"""Mission documents: what shall be done, as a person writes it, with Polpo's camelCase names and milliseconds.

A document says nothing that is ignored: an unknown key is refused with its path.  Tasks are named by their titles here,
and get ids when the mission is executed; whether the graph makes sense is decided in rules/graphs.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from polpod.model.agents import Agent
from polpod.model.budgets import Budget, Bytes, Money, Tokens
from polpod.model.described import described
from polpod.model.expectations import Expectations, Metrics
from polpod.model.notifying import ChannelName, Scope
from polpod.model.policies import RetryPolicy
from polpod.model.polpo.missions import Score
from polpod.model.submissions import Argument, Name
from polpod.model.tasks import Count, Instant

Title = Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"\S")]
Milliseconds = Annotated[int, Meta(ge=0, le=10**12)]
Duration = Annotated[str, Meta(pattern=r"^P(?=.)")]
"""ISO 8601: `PT2H`, `P1D`; rules/durations.py reads it."""

Titles = Annotated[tuple[Title, ...], Meta(min_length=1)]


class Part(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Of a document."""


class DocumentBudget(Part, frozen=True, kw_only=True):
    """What may be spent before a person is asked (model/budgets.py)."""

    money: Money | None = None
    tokens: Tokens | None = None
    wall_time: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    """Milliseconds, as the next."""
    cpu_time: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    disk: Bytes | None = None

    def in_seconds(self) -> Budget:
        return Budget(
            money=self.money, tokens=self.tokens, disk=self.disk,
            wall_time=None if self.wall_time is None else self.wall_time / 1000,
            cpu_time=None if self.cpu_time is None else self.cpu_time / 1000,
        )  # fmt: skip


class DocumentTask(Part, frozen=True, kw_only=True):
    title: Title
    description: str = ""
    assign_to: Name | None = None
    """An agent; without one, `command` or `shell` says what to do."""
    command: Annotated[tuple[Argument, ...], Meta(min_length=1)] | None = None
    shell: Annotated[str, Meta(min_length=1)] | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    depends_on: tuple[Title, ...] = ()
    project: Name | None = None
    queue: Name = "default"
    labels: dict[Name, str] = {}
    priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 0
    expectations: Expectations = ()
    expected_outcomes: tuple[dict[str, Any], ...] = ()
    metrics: Metrics = ()
    max_retries: Count | None = None
    retry_delay: Milliseconds | None = None
    max_duration: Milliseconds | None = None
    stale_threshold: Milliseconds | None = None
    retry_policy: RetryPolicy | None = None
    notifications: Scope | None = None
    side_effects: bool = False
    needs_approval: bool = False
    """A person says when it may start."""
    approve_done: bool = False
    """A person says whether what it did is good."""
    budget: DocumentBudget | None = None
    deadline: Instant | None = None


class DocumentBarrier(Part, frozen=True, kw_only=True):
    """What holds back `blocks_tasks` until all of `after_tasks` are over, and then for its own reason."""

    name: Name
    after_tasks: Titles
    blocks_tasks: Titles
    message: str | None = None
    notify_channels: Annotated[tuple[ChannelName, ...], Meta(max_length=100)] = ()
    """They are told of what becomes of it, whatever rules say."""


class DocumentGate(DocumentBarrier, frozen=True, kw_only=True):
    min_score: Score | None = None
    """Of the mean of the scores that their checks gave."""
    require_all_passed: bool = False


class DocumentCheckpoint(DocumentBarrier, frozen=True, kw_only=True):
    """Until a person resumes it."""


class DocumentDelay(DocumentBarrier, frozen=True, kw_only=True):
    duration: Duration


class TeamMember(Agent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent that comes with an execution of the mission and goes with it; its name counts within the mission."""


@described
class MissionDocument(Part, frozen=True, kw_only=True):
    tasks: Annotated[tuple[DocumentTask, ...], Meta(min_length=1)]
    team: tuple[TeamMember, ...] = ()
    quality_gates: tuple[DocumentGate, ...] = ()
    checkpoints: tuple[DocumentCheckpoint, ...] = ()
    delays: tuple[DocumentDelay, ...] = ()
    notifications: Scope | None = None
    budget: DocumentBudget | None = None
    """Of each execution: all its tasks together."""
    on_deadlock: Literal["fail", "wait"] = "fail"
    """What becomes of tasks that wait for one that failed for good, when nothing else of the mission can go on."""

    @property
    def barriers(self) -> tuple[DocumentBarrier, ...]:
        return (*self.quality_gates, *self.checkpoints, *self.delays)


def read(text: bytes | str) -> MissionDocument:
    """The document.  Raises ValueError, which names the path of what is wrong."""
    try:
        return msgspec.json.decode(text, type=MissionDocument)
    except RecursionError:
        raise ValueError("nested too deeply") from None
