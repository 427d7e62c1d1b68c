"""Agents: named ways to carry out tasks; and queues: named shares of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from polpod.model.entity import Entity
from polpod.model.submissions import Argument, Name
from polpod.model.tasks import Instant, Prompt

MARK = "@"
"""Between the name of an agent and the execution of a mission that it came with; no other agent has it in its name."""

_PLACES = {"argument": "{prompt}", "file": "{prompt_file}"}
"""What a command must name that gets its prompt in this way."""


def _name(agent: Agent) -> str | None:
    return (
        f"name: {agent.name!r} has {MARK!r} in it, as the agents of missions alone do" if MARK in agent.name else None
    )


def _prompt(agent: Agent) -> str | None:
    if not agent.command or agent.prompt is None:
        return None
    place = _PLACES.get(agent.prompt)
    if place is not None and not any(place in part for part in agent.command):
        return f"prompt: {agent.prompt!r}, and no part of the command has {place}"
    if agent.prompt != "argument" and any(_PLACES["argument"] in part for part in agent.command):
        return f"prompt: {agent.prompt!r}, and the command has {{prompt}}, which everybody on this host could read"
    return None


def _env(agent: Agent) -> str | None:
    bad = [name for name in agent.env if not name or "=" in name]
    return f"env: {bad[0]!r} is not a name" if bad else None


class Agent(Entity, frozen=True, kw_only=True, rename="camel"):
    """As a person writes it, in polpo.json or in a mission's document.

    `command` is an argument vector with places such as `{prompt}`, which are filled in when a run starts
    (rules/templates.py).  An agent without one has a share of the machine, and carries out the commands of its tasks.
    """

    rules = (_name, _prompt, _env)

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
    role: str = ""
    command: tuple[Argument, ...] = ()
    prompt: Prompt | None = None
    """How what it is to do reaches it; None: as its command has a place for it, and if it has none by its stdin."""
    cwd: str | None = None
    env: dict[str, str] = {}
    max_concurrency: Annotated[int, Meta(ge=1)] | None = None
    reports_to: str | None = None
    """The agent that takes over what it cannot do."""
    team: Name = "default"

    @property
    def prompted(self) -> Prompt:
        """How its prompt reaches it."""
        if self.prompt is not None:
            return self.prompt
        named: list[Prompt] = [
            way for way in ("argument", "file") if any(_PLACES[way] in part for part in self.command)
        ]
        return named[0] if named else "stdin"


class StoredAgent(Struct, frozen=True, kw_only=True):
    """An agent that polpo.json does not know: somebody added it, or it came with an execution of a mission."""

    name: str
    """The agent's; for a volatile one `NAME@EXECUTION`, which no other has."""
    agent: Agent
    execution_id: str | None = None
    version: int = 1
    created_by: int
    created_at: Instant
    updated_at: Instant

    @property
    def id(self) -> str:
        return self.name

    @property
    def volatile(self) -> bool:
        """Whether it leaves with the execution that it came with."""
        return self.execution_id is not None


def volatile_name(name: str, execution_id: str) -> str:
    """What an agent of a mission's team is called in one execution."""
    return f"{name}{MARK}{execution_id}"


class Queue(Struct, frozen=True, kw_only=True):
    """`slots`: how many of its tasks may run at once; None is limited by the daemon's `maxConcurrency` alone."""

    name: str
    slots: Annotated[int, Meta(ge=0)] | None = None
    paused: bool = False


class Busy(Struct, frozen=True):
    """Slots that are taken, by queue and by agent: always counted from rows, never beside them (invariant 13)."""

    queues: Mapping[str, int]
    agents: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.queues.values())
