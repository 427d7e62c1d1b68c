"""Tasks: units of work, as users see and name them (DESIGN §5).

Durations are seconds, instants are aware UTC datetimes; a value that is None is unset, and stays unset when stored.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from polpod.model.assessments import Trigger
from polpod.model.budgets import Budget, Spent
from polpod.model.questions import Question

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
"""At most thirty years, so that an instant plus any of them is an instant."""
Count = Annotated[int, Meta(ge=0)]
Memory = Annotated[int, Meta(ge=2**20, le=2**50)]
"""Bytes; with less than a MiB no program comes as far as its first line."""
Cpus = Annotated[float, Meta(ge=0.01, le=100_000)]
"""How many CPUs' time; the kernel counts no less than a hundredth."""
Processes = Annotated[int, Meta(ge=1, le=2**22)]
Nice = Annotated[int, Meta(ge=-20, le=19)]
Instant = Annotated[datetime, Meta(tz=True)]


class TaskStatus(StrEnum):
    DRAFT = "draft"
    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    REVIEW = "review"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED})
"""What nothing but a person's retry, or an automatic one, moves again."""

OCCUPYING = frozenset({TaskStatus.ASSIGNED, TaskStatus.IN_PROGRESS})
"""What takes a slot; checks do, too (`Task.occupies`)."""


Prompt = Literal["argument", "stdin", "file"]
"""How what it is to do reaches an agent's program."""


class Lent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a spec is its agent's, so that another can take its place."""

    prompt: Prompt | None = None
    """Set: the command is the agent's, with places that are filled in when a run starts (rules/templates.py)."""
    env: dict[str, str] = {}
    """Beside the spec's own, and before it."""
    cwd: bool = False
    """Whether the working directory is the agent's."""


class Spec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to execute: immutable, and shared by all tasks that say the same (its id is the hash of its content).

    Exactly one of `command` (an argument vector) and `shell` (a text for `/bin/sh -c`) is set.
    """

    command: tuple[str, ...] | None = None
    shell: str | None = None
    cwd: str
    env: dict[str, str] = {}
    umask: int = 0o022
    stdin: str | None = None
    """A file that the job reads; None is `/dev/null`."""
    agent: Lent | None = None
    """Set for work that is given to an agent."""

    @property
    def template(self) -> tuple[str, ...] | None:
        """The command, where it has places that are filled in when a run starts."""
        return self.command if self.agent is not None and self.agent.prompt is not None else None

    @property
    def environment(self) -> dict[str, str]:
        """What a job finds there, beside what tells it which run it is."""
        return self.env if self.agent is None else self.env | self.agent.env


class Backoff(Struct, frozen=True, kw_only=True):
    """How long an automatic retry waits: `delay · factor^n`, at most `limit`, spread by ± `jitter` of itself."""

    delay: Seconds = 1.0
    factor: Annotated[float, Meta(ge=1)] = 2.0
    limit: Seconds = 3600.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1


class TaskResult(Struct, frozen=True, kw_only=True):
    """How the run that decided ended; the outcome columns of that run."""

    run_id: int
    status: str
    reason: str
    exit_code: int | None = None
    signal: int | None = None
    duration: float | None = None
    error: str | None = None
    stdout: str | None = None
    """What the job wrote, where whoever recorded the result says so; polpod's own runs have a log."""
    stderr: str | None = None
    assessment: dict[str, object] | None = None
    assessment_history: tuple[dict[str, object], ...] = ()
    """Earlier ones, the oldest first."""


class Progress(Struct, frozen=True, kw_only=True):
    """What a run said last about how far it is."""

    run_id: int
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    text: str | None = None
    at: Instant
    told_at: Instant
    """When the journal had it last."""


class SlaState(StrEnum):
    OPEN = "open"
    WARNED = "warned"
    VIOLATED = "violated"
    MET = "met"


class Sla(Struct, frozen=True):
    """What was found when a deadline was looked at; of another deadline it says nothing."""

    deadline: Instant
    state: SlaState
    look_at: Instant | None = None
    """When to look again; None: there is nothing more to find."""


class Task(Struct, frozen=True, kw_only=True):
    # identity
    id: str
    seq: int
    """Order of submission; ties of `priority` are broken by it."""
    owner: str = "polpod"
    """Who may change the row: the scheduler sees its own only (DESIGN §8)."""
    document: dict[str, object] | UnsetType = UNSET
    """What another owner stored, whole."""
    title: str = ""
    description: str = ""
    spec_id: str | None = None
    """Key of the Spec; None for work that only an agent's command describes."""
    project: str | None = None
    queue: str = "default"
    labels: dict[str, str] = {}
    assigned_to: str | None = None
    mission_id: str | None = None
    execution_id: str | None = None
    """The execution of its mission that it belongs to."""
    a2a_id: str | None = None
    """The A2A task that it works on."""
    group: str | None = None
    depends_on: tuple[str, ...] = ()
    priority: int = 0
    created_by: int = 0
    idempotency_key: str | None = None

    # status
    status: TaskStatus = TaskStatus.PENDING
    phase: str | None = None
    """What its newest run was for, or its next one is: `execution`, `fix` (of what checks found), `review` (the checks)."""
    assessing: Trigger | None = None
    """In review: what its checks are carried out for; None: it has none, or nobody asked for them."""
    hold: bool = False
    unmet: Count = 0
    """0: it waits for nothing, which the transaction sees to that finishes the last dependency; else how many there were
    when they were counted."""
    run_id: int | None = None
    """The newest run."""
    applied_run: int | None = None
    """The last run whose outcome was applied: what makes applying idempotent."""
    started_boot: str | None = None
    """Boot in which the newest run was launched."""
    session_id: str | None = None
    """The agent's session of the newest run."""
    progress: Progress | None = None
    cancelled_by: str | None = None
    """Who asked for its end: it is not tried again by itself, however its run ends (F48)."""
    approval_id: str | None = None
    """The request that a person has to answer: while it waits for approval, or while its run asks."""
    question: Question | None = None
    """What its newest run asked."""
    context_id: str | None = None
    """What was kept for its next run when it came to wait for a person (model/organisation/runtime.ParkedContext)."""
    spent: Spent = Spent()
    over_budget: str | None = None
    """The field of its budget that was spent, until a person allows more."""
    result: TaskResult | None = None
    outcomes: tuple[dict[str, object], ...] = ()
    original_description: str | None = None
    """As it was before it was rewritten for the first time."""

    # counters
    attempts: Count = 0
    retries: Count = 0
    manual_retries: Count = 0
    recoveries: Count = 0
    launch_failures: Count = 0
    """How often in a row its run never started."""
    fix_attempts: Count = 0
    """Since the last retry."""
    assessment_retries: Count = 0
    """How often its checks could not be carried out, since its work was done."""
    escalations: Count = 0
    """Levels of the escalation policy that were gone through."""
    question_rounds: Count = 0
    resolution_attempts: Count = 0
    revision_count: Count = 0
    """How often a person asked for another version of its result."""

    # policy
    max_retries: Count | None = None
    """None: not asked for, so no automatic retry, and none after spawn_failed."""
    max_recoveries: Count = 3
    backoff: Backoff = Backoff()
    max_duration: Seconds | None = None
    stale_threshold: Seconds | None = None
    kill_grace: Seconds | None = None
    memory_max: Memory | None = None
    """More than that, and the kernel ends the job: `oom`."""
    cpus: Cpus | None = None
    tasks_max: Processes | None = None
    """Processes and threads that the job may have at once."""
    nice: Nice | None = None
    """As of nice(1); None: as polpod itself."""
    side_effects: bool = False
    needs_approval: bool = False
    approve_done: bool = False
    """A person says whether what it did is good."""
    budget: Budget | None = None
    expectations: tuple[dict[str, object], ...] = ()
    metrics: tuple[dict[str, object], ...] = ()
    expected_outcomes: tuple[dict[str, object], ...] = ()
    retry_policy: dict[str, object] | None = None
    notifications: dict[str, object] | None = None
    not_before: Instant | None = None
    deadline: Instant | None = None
    sla: Sla | None = None
    """How close it came to its deadline."""

    # times
    version: int = 1
    created_at: Instant
    updated_at: Instant
    started_at: Instant | None = None
    """First start of the newest run."""
    finished_at: Instant | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def may_have_live_run(self) -> bool:
        """Whether its newest run may go on: its outcome was not applied yet."""
        return self.occupies and self.run_id is not None and self.run_id != self.applied_run

    @property
    def checked(self) -> bool:
        """Whether its work is checked before it is done."""
        return bool(self.expectations or self.metrics)

    @property
    def awaits_checks(self) -> bool:
        """Whether its checks are to be carried out, and are not yet."""
        in_review = self.status is TaskStatus.REVIEW and self.assessing is not None
        return in_review and self.run_id is not None and self.run_id == self.applied_run

    @property
    def _being_checked(self) -> bool:
        in_review = self.status is TaskStatus.REVIEW and self.assessing is not None
        return in_review and self.run_id is not None and self.run_id != self.applied_run

    @property
    def occupies(self) -> bool:
        """Whether it takes a slot: with its work, or with the checks after that."""
        return self.status in OCCUPYING or self._being_checked


class Dependency(Struct, frozen=True, kw_only=True):
    """`task_id` starts only after `on_id` is done; `barrier`: it names a barrier, which has to be open."""

    task_id: str
    on_id: str
    met: bool = False
    barrier: bool = False


def changed(task: Task, now: datetime, **values: object) -> Task:
    """The task with these values, one version on."""
    return msgspec.structs.replace(task, version=task.version + 1, updated_at=now, **values)
