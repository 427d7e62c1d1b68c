"""What answers are made of, where that is no entity as it is stored: the types that `rpc.discover` tells.

Rules:

1. A view of an entity is derived from it (`shown`), so that it cannot say anything else.
2. Nothing is checked against these types while polpod runs; the tests hold real answers against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from polpod.model.agents import Agent
from polpod.model.organisation.people import ApiKey, User
from polpod.model.organisation.runtime import AgentRuntimeState
from polpod.model.polpo.approvals import ApprovalRequest
from polpod.model.polpo.missions import Mission
from polpod.model.runs import Run
from polpod.model.schedules import Schedule
from polpod.model.tasks import Prompt, Task, TaskStatus
from polpod.rules.graphs import Node
from polpod.services.keys import Role
from polpod.services.limits import Available
from polpod.services.views import HIDDEN

S = TypeVar("S", bound=Struct)


def shown(entity: type[Struct], *, without: Iterable[str] = ()) -> Callable[[type[S]], type[S]]:
    """A decorator: makes the class the type of a view, of the fields of the entity, except those, and of its own."""

    def made(view: type[S]) -> type[S]:
        kinds = get_type_hints(entity, include_extras=True) | get_type_hints(view, include_extras=True)
        names = [name for name in entity.__struct_fields__ if name not in without]
        left_out = {field.name for field in structs.fields(entity) if field.default is UNSET}
        fields: list[Any] = [
            (name, kinds[name], UNSET) if name in left_out else (name, kinds[name])
            for name in dict.fromkeys((*names, *view.__struct_fields__))
        ]
        told = {"__doc__": view.__doc__}
        return msgspec.defstruct(  # type: ignore[return-value]
            view.__name__, fields, frozen=True, kw_only=True, module=__name__, namespace=told
        )

    return made


class Error(Struct, frozen=True):
    """Why something was refused: as the `error` of a response."""

    code: int
    message: str
    data: dict[str, str]


class Entered(Struct, frozen=True):
    """What became of one submission of several: its task, or why there is none."""

    id: str | UnsetType = UNSET
    created: bool | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Affected(Struct, frozen=True):
    """What became of one task that a call was about."""

    id: str
    status: str | UnsetType = UNSET
    run_id: int | UnsetType = UNSET
    """The live run that is being ended for it."""
    error: Error | UnsetType = UNSET


class Ended(Struct, frozen=True):
    """How waiting for a task ended; `outcome` is null while it goes on."""

    id: str
    status: TaskStatus
    outcome: Literal["done", "failed", "cancelled", "unknown", "blocked"] | None
    reason: str | None
    exit_code: int | None
    signal: int | None
    message: str | None


class Logged(Struct, frozen=True):
    """Bytes of a log, in base64."""

    run_id: int | None
    offset: int
    data: str
    next_offset: int
    end: bool
    subscription: int | UnsetType = UNSET
    """What `follow` began."""


class Queued(Struct, frozen=True):
    """A queue, and what is in it now."""

    name: str
    slots: int | None
    """Null: limited by `maxConcurrency` alone."""
    paused: bool
    busy: int
    ready: int


class StoreStatus(Struct, frozen=True):
    where: str
    trouble: str | None
    copied_to: str | None


class Launcher(Struct, frozen=True):
    paused: str | None
    """Why nothing is started."""


class Status(Struct, frozen=True):
    """How a polpod is.  `uptime` in seconds; `stuck`: runs that cannot be ended."""

    version: str
    pid: int
    started_at: datetime
    uptime: float
    state: Literal["recovering", "running", "stopping"]
    root: str
    socket: str
    storage: str
    store: StoreStatus
    containment: Literal["cgroup", "session"]
    limits: Available
    tasks: dict[str, int]
    """By status."""
    runs: dict[str, int]
    queues: dict[str, Queued]
    max_concurrency: int
    launcher: Launcher
    stuck: list[int]
    quarantined: int


class ShownSpec(Struct, frozen=True):
    """What is executed; `env` has values for whom the task belongs to and who asked for them, else names."""

    command: list[str] | None
    shell: str | None
    cwd: str
    env: list[str] | dict[str, str]
    umask: int
    stdin: str | None
    prompt: Prompt | None


@shown(Task)
class ShownTask(Struct):
    state: str
    unmet: int
    approval: ApprovalRequest | None
    """The request that is pending about it."""


@shown(ShownTask)
class WholeTask(Struct):
    spec: ShownSpec | None


@shown(Run, without=HIDDEN)
class ShownRun(Struct):
    command: list[str] | None


@shown(Mission, without={"data"})
class ShownMission(Struct):
    tasks: dict[str, int]
    """Of its execution, by how they stand."""
    next_at: datetime | None


@shown(Schedule)
class ShownSchedule(Struct):
    mission: str | None
    held: bool
    """By polpo.json."""


@shown(Node)
class ShownNode(Struct):
    id: str | None
    state: str | None


@shown(Agent)
class ShownAgent(Struct):
    env: list[str] | dict[str, str]
    """Names; with values for the owner who asked for them."""
    prompt: Prompt | None
    origin: Literal["polpo.json", "mission", "added"]
    volatile: bool
    execution_id: str | None
    version: int | None
    created_by: int | None
    created_at: datetime | None
    updated_at: datetime | None
    state: AgentRuntimeState | None


@shown(User, without=User.hidden)
class ShownUser(Struct):
    """Without what proves who it is."""


@shown(ApiKey, without=ApiKey.hidden)
class ShownApiKey(Struct):
    """As above."""

    role: Role
