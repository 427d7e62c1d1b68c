"""What a client hands in: the parameters of `task.submit`, a line of a batch, and later a mission's task (DESIGN §10)."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from polpod.model.budgets import Budget
from polpod.model.expectations import Expectations, Metrics
from polpod.model.tasks import Count, Cpus, Instant, Memory, Nice, Processes, Seconds

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Id = Annotated[str, Meta(min_length=1, max_length=200)]
Argument = Annotated[str, Meta(max_length=2**21)]


class Submission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Flat, with the field names of Task and Spec; what is None is not said, and gets its default when it is taken in."""

    command: Annotated[tuple[Argument, ...], Meta(min_length=1)] | None = None
    shell: Annotated[str, Meta(min_length=1)] | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    umask: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    stdin: str | None = None
    title: Annotated[str, Meta(max_length=1000)] | None = None
    description: str = ""
    project: Name | None = None
    queue: Name = "default"
    agent: Name | None = None
    priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 0
    depends_on: tuple[Id, ...] = ()
    labels: dict[Name, str] = {}
    max_retries: Count | None = None
    retry_delay: Seconds | None = None
    max_duration: Seconds | None = None
    stale_threshold: Seconds | None = None
    kill_grace: Seconds | None = None
    memory_max: Memory | None = None
    cpus: Cpus | None = None
    tasks_max: Processes | None = None
    nice: Nice | None = None
    not_before: Instant | None = None
    deadline: Instant | None = None
    hold: bool = False
    needs_approval: bool = False
    approve_done: bool = False
    budget: Budget | None = None
    side_effects: bool = False
    expectations: Expectations = ()
    metrics: Metrics = ()
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None


class Edit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be changed of a task that has no live run; what is not named stays as it is, and null clears a field."""

    id: Id
    version: int | None = None
    """Refused with `conflict` if the task is not at this version."""
    title: Annotated[str, Meta(max_length=1000)] | UnsetType | None = UNSET
    """Null: the command, as when nothing was said."""
    description: str | UnsetType | None = UNSET
    agent: Annotated[str, Meta(min_length=1, max_length=500)] | UnsetType | None = UNSET
    """Who carries it out from now on; null: nobody, where it has a command of its own."""
    priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | UnsetType = UNSET
    queue: Name | UnsetType = UNSET
    labels: dict[Name, str] | UnsetType | None = UNSET
    hold: bool | UnsetType = UNSET
    not_before: Instant | UnsetType | None = UNSET
    deadline: Instant | UnsetType | None = UNSET
    max_retries: Count | UnsetType | None = UNSET
    max_duration: Seconds | UnsetType | None = UNSET
    stale_threshold: Seconds | UnsetType | None = UNSET
    memory_max: Memory | UnsetType | None = UNSET
    cpus: Cpus | UnsetType | None = UNSET
    tasks_max: Processes | UnsetType | None = UNSET
    nice: Nice | UnsetType | None = UNSET
    approve_done: bool | UnsetType = UNSET
    budget: Budget | UnsetType | None = UNSET
    depends_on: tuple[Id, ...] | UnsetType | None = UNSET
    expectations: Expectations | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class Selector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks a command is about: what is given must all hold.  An entry of `ids` may be a range, `7-9`."""

    ids: tuple[Id, ...] | None = None
    queue: Name | None = None
    project: Name | None = None
    labels: dict[str, str] | None = None
    status: tuple[str, ...] | None = None
