"""task.wait, task.logs, event.list and event.subscribe: what a client follows, by long polls with a cursor or by feeds."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any, TypeVar

import msgspec
import trio
from msgspec import UNSET, Meta, Struct, UnsetType

from polpod.errors import Conflict, NotFound
from polpod.model.events import Event
from polpod.model.runs import Phase, Run
from polpod.model.submissions import Id
from polpod.services import views
from polpod.services.awaited import Awaited
from polpod.services.instance import Instance
from polpod.services.journal import EVERYTHING
from polpod.services.logs import Slice, read_log
from polpod.services.rpc.answers import Ended
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.subscriptions import GREATEST
from polpod.store import queries
from polpod.store.changes import require
from polpod.store.records import Tx
from polpod.store.runs import RunTx

X = TypeVar("X")

LONG_POLL = 30.0
LOG_LOOK_EVERY = 0.1
"""Seconds between looks at a log that grows: the job writes it directly, so nobody can ring."""

FED = 2**18
"""Bytes of a notification, about: so much is kept for each subscription of a client that does not read."""

FED_EVENTS = 250
"""So many at most, for the same reason, and so that what it is behind is not out of date."""

_ONE_SEARCHES = trio.CapacityLimiter(1)
"""Who asks for kinds may have all of the journal looked through: one at a time, so that others can read meanwhile."""

Wait = Annotated[float, Meta(ge=0, le=LONG_POLL)]
Number = Annotated[int, Meta(ge=1, le=GREATEST)]
"""Of a subscription."""


class WaitFor(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=10_000)]
    any: bool = False
    keep_waiting: bool = False
    timeout: Wait = LONG_POLL


class Logs(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    run: int | None = None
    phase: Phase | None = None
    """The newest run that carried this out; null: the newest of all."""
    after: Annotated[int, Meta(ge=0)] | None = None
    """The oldest run later than this one: so who follows a task misses none, however short."""
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=2**20)] = 2**20
    tail: Annotated[int, Meta(ge=0)] | None = None
    wait: Wait = 0.0
    follow: bool = False
    """Tell what follows in notifications `task.logged`, the last of which has `end`."""
    subscription: Number | None = None
    """With `follow`: what those are to be numbered; null: with a new number."""


class LogPart(Struct, frozen=True):
    """Bytes of a run's log, in base 64, and where they end; `run_id` null: nothing has run yet.

    `size`: how long the log was when it was read (0: it was not), so what lies between it and `next_offset` is yet to be read.
    """

    run_id: int | None
    offset: int
    data: str
    next_offset: int
    size: int
    end: bool
    subscription: int | UnsetType = UNSET


class EventList(Struct, frozen=True, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] | None = None
    kinds: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    subject: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    wait: Wait = 0.0


class Subscribe(Struct, frozen=True, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] | None = None
    """The cursor; null: from now on."""
    kinds: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    """Globs, one of which must fit."""
    subject: str | None = None
    subscription: Number | None = None
    """What it is to be numbered; null: a new number."""


class Unsubscribe(Struct, frozen=True, forbid_unknown_fields=True):
    subscription: Number


async def wait(call: Call, params: WaitFor) -> dict[str, object]:
    """Returns when all (any) of the tasks ended, or at the end of the long poll with `finished` false."""
    instance = call.desk.instance
    with instance.journal.listening() as watch:
        awaited = Awaited(instance.tasks, watch, params.ids, keep_waiting=params.keep_waiting)
        until = trio.current_time() + params.timeout
        while True:
            await awaited.look()
            finished = awaited.over(any_of_them=params.any)
            if finished or trio.current_time() >= until:
                return {"finished": finished, "tasks": awaited.entries()}
            await watch.wait(until)


async def logs(call: Call, params: Logs) -> LogPart:
    """Bytes of a run's log from an offset; with `wait`, waits until there are some or none will follow.

    `end`: the log was read to its end, and nothing will be added: the run that was named is over, or none was named and
    the task will have no other run by itself.
    """
    instance = call.desk.instance
    if not params.follow:
        return await _part(instance, params)
    # Who goes on with one has its number at once, before anybody else is given it; what is wrong then is told there.
    run = None if params.subscription else await _run(instance, params)
    number = call.subscriptions.add(LogFeed(instance, params), params.subscription)
    nothing = _answer(run, Slice(params.offset, b"", params.offset), end=False)
    return msgspec.structs.replace(
        nothing, subscription=number
    )  # all bytes come in notifications, so that another generation can go on


class LogFeed:
    """A log from an offset on."""

    notification = "task.logged"

    def __init__(self, instance: Instance, params: Logs) -> None:
        self._instance = instance
        self._params = msgspec.structs.replace(params, wait=LONG_POLL, limit=min(params.limit, FED))

    async def next(self) -> dict[str, Any]:
        while True:
            part = await _part(self._instance, self._params)
            if part.data or part.end:
                told: dict[str, Any] = msgspec.to_builtins(part)
                return told

    def told(self, params: dict[str, Any]) -> None:
        run = self._params.run if params["run_id"] is None else params["run_id"]
        self._params = msgspec.structs.replace(self._params, run=run, offset=params["next_offset"], tail=None)

    def call(self) -> tuple[str, dict[str, Any]]:
        return "task.logs", msgspec.structs.asdict(self._params)


async def _part(instance: Instance, params: Logs) -> LogPart:
    with instance.journal.listening() as watch:
        awaited = Awaited(instance.tasks, watch, [params.id])
        until = trio.current_time() + params.wait
        while True:
            # First whether it is over, then the bytes: what was written before the end is never missed.
            if params.run is None:
                await awaited.look()
            run = await _run(instance, params)
            over = run is None or not run.live
            part = Slice(params.offset, b"", params.offset)
            if run is not None:
                part = await trio.to_thread.run_sync(read_log, run.log_path, params.offset, params.limit, params.tail)
            end = not part.data and over and (params.run is not None or awaited.over())
            if part.data or end or trio.current_time() >= until:
                return _answer(run, part, end)
            await watch.wait(until if over else trio.current_time() + LOG_LOOK_EVERY)


def _answer(run: Run | None, part: Slice, end: bool) -> LogPart:
    data = base64.b64encode(part.data).decode()
    return LogPart(run.id if run else None, part.offset, data, part.next_offset, part.size, end)


async def _run(instance: Instance, params: Logs) -> Run | None:
    """The run that is meant: by `run`, or else by `after`, or else by `phase`; None: there is none yet.

    Raises NotFound for a run that is no run of the task.
    """
    task = await instance.tasks.read(lambda tx: require(tx, params.id))

    def find(tx: RunTx) -> Run | None:
        match params:
            case Logs(run=int(named)):
                run = tx.get(named)
                if run is None or run.task_id != task.id:
                    raise NotFound(f"task {task.id} has no run {named}")
                return run
            case Logs(after=int(after)):
                return tx.next_of(task.id, after)
            case Logs(phase=Phase() as phase):
                return tx.newest_of(task.id, phase)
        return None if task.run_id is None else tx.get(task.run_id)

    return await instance.runs.read(find)


async def subscribe(call: Call, params: Subscribe) -> dict[str, object]:
    """Tell events after the cursor, first those that there are, in notifications `event.next`.

    Each has `events`, `next` (the cursor to go on from), `behind` (how many events more there are by now), and `missed`
    (how many were removed before they could be told).  Raises Conflict: the cursor is that of another journal.
    """
    last = await call.desk.instance.tasks.read(lambda tx: _last(tx, params.after))
    after = last if params.after is None else params.after
    feed = EventFeed(call.desk.instance, EventList(after, params.kinds, params.subject, limit=FED_EVENTS))
    return {"subscription": call.subscriptions.add(feed, params.subscription), "next": after}


class EventFeed:
    """Events past a cursor."""

    notification = "event.next"

    def __init__(self, instance: Instance, params: EventList) -> None:
        self._instance = instance
        self._params = params

    async def next(self) -> dict[str, Any]:
        params = self._params
        with self._instance.journal.listening([params.subject or EVERYTHING]) as bell:
            while True:
                page, first, last = await _read(self._instance, params, lambda tx: _told(tx, params))
                missed = max(0, (last + 1 if first is None else first) - (params.after or 0) - 1)
                following = page[-1].seq if page else max(params.after or 0, last)
                if page or missed:
                    told = msgspec.to_builtins(page)
                    return {"events": told, "next": following, "behind": last - following, "missed": missed}
                # Another generation need not look through the same events, some of which may be gone by then.
                self._params = params = msgspec.structs.replace(params, after=following)
                await bell.wait()

    def told(self, params: dict[str, Any]) -> None:
        self._params = msgspec.structs.replace(self._params, after=params["next"])

    def call(self) -> tuple[str, dict[str, Any]]:
        return "event.subscribe", {n: getattr(self._params, n) for n in ("after", "kinds", "subject")}


async def unsubscribe(call: Call, params: Unsubscribe) -> dict[str, object]:
    call.subscriptions.remove(params.subscription)
    return {"subscription": params.subscription}


async def events(call: Call, params: EventList) -> dict[str, object]:
    """Events after a cursor, oldest first; without one the newest; with `wait`, waits until there is one.

    Raises Conflict: the cursor is that of another journal.
    """
    instance = call.desk.instance
    with instance.journal.listening([params.subject or EVERYTHING]) as bell:
        until = trio.current_time() + params.wait
        while True:
            page = await _read(instance, params, lambda tx: _events(tx, params))
            if page["events"] or trio.current_time() >= until:
                return page
            await bell.wait(until)


async def _read(instance: Instance, params: EventList, body: Callable[[Tx], X]) -> X:
    async with _ONE_SEARCHES if params.kinds else nullcontext():
        return await instance.tasks.read(body)


def _told(tx: Tx, params: EventList) -> tuple[list[Event], int | None, int]:
    """What comes next, and the first and the last event that there are."""
    page = queries.page_of_journal(
        tx, after=params.after, kinds=params.kinds, subject=params.subject, limit=params.limit
    )
    return views.fitting(page, FED), queries.first_seq(tx), queries.last_seq(tx)


def _last(tx: Tx, after: int | None) -> int:
    """The last event.  Raises Conflict: it was before the cursor `after`, which is that of another journal."""
    last = queries.last_seq(tx)
    if after is not None and after > last:
        raise Conflict(f"the last event is {last}, so {after} is none of this journal's: begin anew")
    return last


def _events(tx: Tx, params: EventList) -> dict[str, object]:
    last = _last(tx, params.after)
    page = queries.page_of_journal(
        tx, after=params.after, kinds=params.kinds, subject=params.subject, limit=params.limit
    )
    # Whole pages of long events would not fit into an answer; those that are left out are next, or older.
    page = views.fitting(page) if params.after is not None else views.fitting(page[::-1])[::-1]
    # Where nothing fits, the reader has seen all there is: it need not look through the same events again.
    following = page[-1].seq if page else last
    return {"events": page, "first": queries.first_seq(tx), "next": following}


METHODS = (
    Method(
        "task.wait",
        WaitFor,
        {"finished": bool, "tasks": list[Ended]},
        wait,
        "Wait until tasks end (long poll).",
        Right.RUN,
        waits=True,
    ),
    Method(
        "task.logs",
        Logs,
        LogPart,
        logs,
        "Bytes of a run's log from an offset (long poll).",
        Right.RUN,
        waits=True,
    ),
    Method(
        "event.list",
        EventList,
        {"events": list[Event], "first": int | None, "next": int},
        events,
        "Events after a cursor (long poll).",
        Right.RUN,
        waits=True,
    ),
    Method(
        "event.subscribe",
        Subscribe,
        {"subscription": int, "next": int},
        subscribe,
        "Tell events from now on, or after a cursor.",
        Right.RUN,
    ),
    Method(
        "event.unsubscribe",
        Unsubscribe,
        {"subscription": int},
        unsubscribe,
        "Tell no more, of events or of a log.",
        Right.RUN,
    ),
)
