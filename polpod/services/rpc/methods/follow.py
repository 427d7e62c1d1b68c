"""task.wait, task.logs and event.list: what a client follows, by long polls with a cursor."""

from __future__ import annotations

import base64
from typing import Annotated

import trio
from msgspec import Meta, Struct

from polpod.errors import NotFound
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
from polpod.store import queries
from polpod.store.changes import require
from polpod.store.records import Tx
from polpod.store.runs import RunTx

LONG_POLL = 30.0
LOG_LOOK_EVERY = 0.1
"""Seconds between looks at a log that grows: the job writes it directly, so nobody can ring."""

Wait = Annotated[float, Meta(ge=0, le=LONG_POLL)]


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


class EventList(Struct, frozen=True, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] | None = None
    kinds: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    subject: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    wait: Wait = 0.0


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


async def logs(call: Call, params: Logs) -> dict[str, object]:
    """Bytes of a run's log from an offset; with `wait`, waits until there are some or none will follow.

    `end`: the log was read to its end, and nothing will be added: the run that was named is over, or none was named and
    the task will have no other run by itself.
    """
    instance = call.desk.instance
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
                return {
                    "run_id": run.id if run else None,
                    "offset": part.offset,
                    "data": base64.b64encode(part.data).decode(),
                    "next_offset": part.next_offset,
                    "end": end,
                }
            await watch.wait(until if over else trio.current_time() + LOG_LOOK_EVERY)


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


async def events(call: Call, params: EventList) -> dict[str, object]:
    """Events after a cursor, oldest first; without one the newest; with `wait`, waits until there is one."""
    instance = call.desk.instance
    with instance.journal.listening([params.subject or EVERYTHING]) as bell:
        until = trio.current_time() + params.wait
        while True:
            page = await instance.tasks.read(lambda tx: _events(tx, params))
            if page["events"] or trio.current_time() >= until:
                return page
            await bell.wait(until)


def _events(tx: Tx, params: EventList) -> dict[str, object]:
    page = queries.page_of_journal(
        tx, after=params.after, kinds=params.kinds, subject=params.subject, limit=params.limit
    )
    # Whole pages of long events would not fit into an answer; those that are left out are next, or older.
    page = views.fitting(page) if params.after is not None else views.fitting(page[::-1])[::-1]
    # Where nothing fits, the reader has seen all there is: it need not look through the same events again.
    following = page[-1].seq if page else max(params.after or 0, queries.last_seq(tx))
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
        {"run_id": int | None, "offset": int, "data": str, "next_offset": int, "end": bool},
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
)
