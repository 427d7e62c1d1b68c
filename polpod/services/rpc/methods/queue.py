"""queue.*: the shares of the machine."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from polpod.model.agents import Queue
from polpod.model.submissions import Name
from polpod.services.instance import now
from polpod.services.queues import overview
from polpod.services.rpc.answers import Queued
from polpod.services.rpc.method import Call, Method, Nothing, Right
from polpod.store import changes
from polpod.store.records import Tx
from polpod.store.tables import Queues


class Set(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    slots: Annotated[int, Meta(ge=0)] | msgspec.UnsetType | None = msgspec.UNSET
    """Null: limited by `maxConcurrency` alone."""
    paused: bool | msgspec.UnsetType = msgspec.UNSET


async def list_(call: Call, params: Nothing) -> dict[str, object]:
    instance = call.desk.instance
    return {"queues": await instance.tasks.read(lambda tx: overview(instance, tx))}


async def set_(call: Call, params: Set) -> dict[str, object]:
    instance = call.desk.instance

    def body(tx: Tx) -> Queue:
        queue = instance.queues(tx).get(params.name, Queue(name=params.name))
        if not isinstance(params.slots, msgspec.UnsetType):
            queue = msgspec.structs.replace(queue, slots=params.slots)
        if not isinstance(params.paused, msgspec.UnsetType):
            queue = msgspec.structs.replace(queue, paused=params.paused)
        tx[Queues].save(queue)
        subject = f"queue/{queue.name}"
        changes.note(tx, now(), "queue:updated", subject, slots=queue.slots, paused=queue.paused, by=call.caller.name)
        return queue

    return {"queue": await instance.tasks.write(body)}


METHODS = (
    Method("queue.list", Nothing, {"queues": list[Queued]}, list_, "The queues.", Right.RUN),
    Method(
        "queue.set", Set, {"queue": Queue}, set_, "Set a queue's slots, pause or resume it.", Right.OWNER, writes=True
    ),
)
