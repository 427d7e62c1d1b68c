"""agent.*: who carries out work: those of polpo.json, those that were added, and those that came with missions."""

from __future__ import annotations

import os
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from polpod.errors import InvalidRequest, NotFound, PermissionDenied, TooLarge
from polpod.model.agents import Agent, StoredAgent
from polpod.model.submissions import Argument, Name
from polpod.model.tasks import Prompt
from polpod.services import agents, views
from polpod.services.instance import Instance, now
from polpod.services.rpc.answers import ShownAgent
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.own import require_own
from polpod.services.rpc.refusal import entity
from polpod.store.agents import Agents
from polpod.store.organisation import AgentStates
from polpod.store.records import Tx

LARGEST = 2**18
"""Bytes of JSON that an agent may be."""

AnyName = Annotated[str, Meta(min_length=1, max_length=500)]
"""Also of one that came with a mission."""
Command = Annotated[tuple[Argument, ...], Meta(min_length=1)]


class Page(Struct, frozen=True, forbid_unknown_fields=True):
    team: Name | None = None
    after: str | None = None
    """The name of the last agent of the page before."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Get(Struct, frozen=True, forbid_unknown_fields=True):
    id: AnyName
    env: bool = False
    """With the values of its environment, which are for its owner alone."""


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: Name
    command: tuple[Argument, ...] = ()
    role: Annotated[str, Meta(max_length=4096)] = ""
    prompt: Prompt | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    max_concurrency: Annotated[int, Meta(ge=1)] | None = None
    reports_to: AnyName | None = None
    team: Name = "default"


class Edit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is not named stays as it is, and null clears a field."""

    id: AnyName
    command: Command | UnsetType | None = UNSET
    role: Annotated[str, Meta(max_length=4096)] | UnsetType | None = UNSET
    prompt: Prompt | UnsetType | None = UNSET
    cwd: str | UnsetType | None = UNSET
    env: dict[str, str | None] | UnsetType | None = UNSET
    """These variables are set, and those removed that are null; the others stay."""
    max_concurrency: Annotated[int, Meta(ge=1)] | UnsetType | None = UNSET
    reports_to: AnyName | UnsetType | None = UNSET
    team: Name | UnsetType | None = UNSET


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: AnyName


_CLEARED: dict[str, object] = {"command": (), "role": "", "env": {}, "team": "default"}
"""What a field that was cleared is, where it is not None."""


async def list_(call: Call, params: Page) -> dict[str, object]:
    instance = call.desk.instance

    def body(tx: Tx) -> list[dict[str, Any]]:
        names = [agent.name for agent in instance.config.agents if params.team in (None, agent.team)]
        where = () if params.team is None else (Agents.team.eq(params.team),)
        past = () if params.after is None else (Agents.agent.gt(params.after),)
        names += [stored.name for stored in tx[Agents].find(*where, *past, limit=params.limit)]
        page = sorted({name for name in names if params.after is None or name > params.after})[: params.limit]
        return [_view(instance, tx, name) for name in page]

    found = await instance.tasks.read(body)
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    return {"agents": page, "next": page[-1]["name"] if more else None}


async def get(call: Call, params: Get) -> dict[str, object]:
    if params.env and call.caller.right is not Right.OWNER:
        raise PermissionDenied("the values of an agent's environment are for polpod's own user")
    instance = call.desk.instance

    def body(tx: Tx) -> dict[str, Any]:
        return _view(instance, tx, params.id, with_values=params.env)

    return {"agent": await instance.tasks.read(body)}


async def add(call: Call, params: Add) -> dict[str, object]:
    instance, by = call.desk.instance, call.caller
    with entity():
        agent = Agent(**structs.asdict(params))
    _refuse(agent)

    def body(tx: Tx) -> dict[str, Any]:
        agents.refuse_superior(tx, instance.config, agent.name, agent.reports_to)
        agents.add(tx, instance.config, agent, by.uid, by.name, now())
        return _view(instance, tx, agent.name)

    return {"agent": await instance.tasks.write(body)}


async def edit(call: Call, params: Edit) -> dict[str, object]:
    instance, by = call.desk.instance, call.caller
    named = {k: v for k, v in structs.asdict(params).items() if v is not UNSET and k != "id"}

    def body(tx: Tx) -> dict[str, Any]:
        stored = agents.require_stored(tx, instance.config, params.id)
        require_own(by, stored)
        values = {name: _CLEARED.get(name) if value is None else value for name, value in named.items()}
        if isinstance(params.env, dict):
            merged = stored.agent.env | params.env
            values["env"] = {name: value for name, value in merged.items() if value is not None}
        with entity():
            agent = structs.replace(stored.agent, **values)
        _refuse(agent)
        if "reports_to" in values:
            agents.refuse_superior(tx, instance.config, params.id, agent.reports_to)
        agents.edit(tx, stored, agent, sorted(values), by.name, now())
        return _view(instance, tx, params.id)

    return {"agent": await instance.tasks.write(body)}


async def remove(call: Call, params: ById) -> dict[str, object]:
    instance, by = call.desk.instance, call.caller

    def body(tx: Tx) -> None:
        stored = agents.require_stored(tx, instance.config, params.id)
        require_own(by, stored)
        agents.remove(tx, stored, by.name, now())

    await instance.tasks.write(body)
    return {"removed": params.id}


def _refuse(agent: Agent) -> None:
    """What could not be carried out is refused now, rather than with the first task."""
    if agent.command and not agent.command[0]:
        raise InvalidRequest("the name of the command is empty", "$.command[0]")
    if agent.cwd is not None and not os.path.isabs(agent.cwd):
        raise InvalidRequest(f"cwd {agent.cwd}: not an absolute path", "$.cwd")
    if (size := len(msgspec.json.encode(agent))) > LARGEST:
        raise TooLarge(f"an agent of {size} bytes, and at most {LARGEST}; put long texts into a file")


def _view(instance: Instance, tx: Tx, name: str, *, with_values: bool = False) -> dict[str, Any]:
    """Raises NotFound."""
    found = agents.find(tx, instance.config, name)
    if found is None:
        raise NotFound(f"there is no agent {name}: `polpoctl agent list` shows them")
    agent = found[1]
    configured = any(a.name == name for a in instance.config.agents)
    stored = None if configured else tx[Agents].get(name)
    return {
        "name": name,
        "team": agent.team,
        "role": agent.role,
        "command": agent.command,
        "prompt": agent.prompted if agent.command else None,
        "cwd": agent.cwd,
        "env": agent.env if with_values else sorted(agent.env),
        "max_concurrency": agent.max_concurrency,
        "reports_to": agent.reports_to,
        "origin": "polpo.json" if stored is None else "mission" if stored.volatile else "added",
        "volatile": stored is not None and stored.volatile,
        **_stored_view(stored),
        "state": msgspec.to_builtins(tx[AgentStates].get(name)),
    }


def _stored_view(stored: StoredAgent | None) -> dict[str, Any]:
    names = ("execution_id", "version", "created_by", "created_at", "updated_at")
    return {name: None if stored is None else msgspec.to_builtins(getattr(stored, name)) for name in names}


METHODS = (
    Method(
        "agent.list",
        Page,
        {"agents": list[ShownAgent], "next": str | None},
        list_,
        "Agents by name, and what each does now.",
        Right.RUN,
    ),
    Method("agent.get", Get, {"agent": ShownAgent}, get, "One agent.", Right.RUN),
    Method("agent.add", Add, {"agent": ShownAgent}, add, "Add an agent beside those of polpo.json.", writes=True),
    Method("agent.edit", Edit, {"agent": ShownAgent}, edit, "Change an agent that was added.", writes=True),
    Method("agent.remove", ById, {"removed": str}, remove, "Forget an agent that was added.", writes=True),
)
