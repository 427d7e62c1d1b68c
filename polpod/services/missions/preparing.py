"""What is done before a mission is carried out, outside of any transaction: its document read, its tasks planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import trio

from polpod.model.agents import Agent
from polpod.model.documents import MissionDocument
from polpod.model.polpo.missions import Mission
from polpod.services import agents
from polpod.services.instance import Instance
from polpod.services.missions.planning import Planned, checked, plan
from polpod.services.submission import enterable


class Prepared(NamedTuple):
    document: MissionDocument
    planned: Sequence[Planned]


async def lasting(instance: Instance) -> dict[str, Agent]:
    """The agents that a document may name beside its team."""
    return await instance.tasks.read(lambda tx: agents.lasting(tx, instance.config))


async def prepare(instance: Instance, mission: Mission) -> Prepared:
    """Raises RequestError: it cannot be carried out now, since its document or a directory that it names is bad."""
    document = checked(mission.data)
    planned = plan(document, await lasting(instance), instance.config, instance.paths.root)
    for cwd in {one.spec.cwd for one in planned}:
        await trio.to_thread.run_sync(enterable, cwd)
    return Prepared(document, planned)
