"""message.*: what agents, jobs and people say to each other, by channel."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from polpod.model.organisation.messages import Message, MessageMetadata, MessageType
from polpod.rules.metrics import agent_of
from polpod.services import views
from polpod.services.instance import now
from polpod.services.rpc import own
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.refusal import entity
from polpod.store.changes import note, require
from polpod.store.organisation import Messages
from polpod.store.records import Tx

Channel = Annotated[str, Meta(min_length=1, max_length=200)]


class Send(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    channel: Channel
    text: Annotated[str, Meta(min_length=1, max_length=65536)]
    to: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """Null: whoever reads the channel."""
    type: MessageType = MessageType.TASK_UPDATE


class History(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    channel: Channel
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def send(call: Call, params: Send) -> dict[str, object]:
    """The sender is the agent of the run that asks, or the user."""
    call.desk.instance.refuse_when_full()
    run = None if call.caller.run_id is None else await own.own_run(call)

    def body(tx: Tx) -> Message:
        task, at = None if run is None else require(tx, run.task_id), now()
        with entity(content="text", to="to" if params.to else "channel"):
            message = Message(
                timestamp=at, sender=call.caller.name if task is None else agent_of(task),
                to=params.to or params.channel, type=params.type, channel=params.channel, content=params.text,
                metadata=MessageMetadata(task_id=None if task is None else task.id),
            )  # fmt: skip
        tx[Messages].add(message)
        note(tx, at, "message:sent", f"channel/{params.channel}", id=str(message.id), sender=message.sender)
        return message

    return {"message": await call.desk.instance.tasks.write(body)}


async def history(call: Call, params: History) -> dict[str, object]:
    """The last ones, in the order in which they were sent; fewer where they do not fit into a message."""
    in_channel = Messages.channel.eq(params.channel)
    newest = await call.desk.instance.tasks.read(lambda tx: tx[Messages].find(in_channel, limit=params.limit))
    return {"messages": views.fitting(newest)[::-1]}


METHODS = (
    Method(
        "message.send",
        Send,
        {"message": Message},
        send,
        "Say something in a channel.",
        Right.RUN,
        writes=True,
        telling=True,
    ),
    Method(
        "message.history", History, {"messages": list[Message]}, history, "What was said last in a channel.", Right.RUN
    ),
)
