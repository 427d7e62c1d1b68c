"""notification.*: what channels were told of, and whether one works."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from polpod.errors import NotFound
from polpod.model.events import Event
from polpod.model.notifying import Rule, named
from polpod.model.polpo.notifications import NotificationRecord, NotificationStatus
from polpod.rules.notifying import TESTED, Notice
from polpod.services import views
from polpod.services.channels import Line
from polpod.services.instance import now
from polpod.services.notifier import record
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.polpo import SentNotifications
from polpod.store.table import Where

Name = Annotated[str, Meta(min_length=1, max_length=200)]


class List(Struct, frozen=True, forbid_unknown_fields=True):
    channel: Name | None = None
    rule: Name | None = None
    status: NotificationStatus | None = None
    before: int | None = None
    """The `seq` of the last one of the page before."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Test(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    """Of the channel."""


async def list_(call: Call, params: List) -> dict[str, object]:
    records = SentNotifications
    where: list[Where[NotificationRecord]] = []
    where += [] if params.channel is None else [records.channel.eq(params.channel)]
    where += [] if params.rule is None else [records.rule_id.eq(params.rule)]
    where += [] if params.status is None else [records.status.eq(params.status)]
    where += [] if params.before is None else [records.seq.lt(params.before)]
    found = await call.desk.instance.tasks.read(
        lambda tx: tx[records].find(*where, order_by=(records.seq.desc(),), limit=params.limit)
    )
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    return {"notifications": page, "next": page[-1].seq if more else None}


async def test(call: Call, params: Test) -> dict[str, object]:
    instance, name = call.desk.instance, params.name
    channels = instance.config.settings.told.channels
    if (channel := channels.get(name)) is None:
        raise NotFound(f"there is no channel {name} in polpo.json (there are: {named(channels)})")
    line = Line(instance, name, channel)
    event = Event(at=now(), kind=TESTED, subject=f"notification/{name}", body={"by": call.caller.name})
    text = f"a test of {name}, asked for by {call.caller.name}"
    notice = Notice(event, Rule(id="test", channels=(name,)), "test", text, text)
    problem = await line.attempt(notice)
    await line.note(f"a test: {problem or 'delivered'}")
    await instance.tasks.write(lambda tx: record(tx, name, line.kind, notice, problem), durable=False)
    return {"channel": name, "type": line.kind, "delivered": problem is None, "problem": problem}


METHODS = (
    Method("notification.list", List, {"notifications": list[NotificationRecord], "next": int | None}, list_, "What channels were told of, by page, the newest first."),
    Method(
        "notification.test", Test, {"channel": str, "type": str, "delivered": bool, "problem": str | None}, test, "Tell a channel of a test now, and say what came of it.", Right.OWNER,
        writes=True, waits=True,
    ),
)  # fmt: skip
