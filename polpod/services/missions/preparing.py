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


async def planned(instance: Instance, text: str) -> Prepared:
    """The document, and what its tasks shall be, read beside the event loop: ten thousand take a moment.

    Raises RequestError.
    """
    agents = await lasting(instance)

    def read() -> Prepared:
        document = checked(text)
        return Prepared(document, plan(document, agents, instance.config, instance.paths.root))

    return await trio.to_thread.run_sync(read)


async def prepare(instance: Instance, mission: Mission) -> Prepared:
    """Raises RequestError: it cannot be carried out now, since its document or a directory that it names is bad."""
    prepared = await planned(instance, mission.data)
    for cwd in {one.spec.cwd for one in prepared.planned}:
        await trio.to_thread.run_sync(enterable, cwd)
    return prepared
