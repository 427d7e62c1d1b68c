"""task.wait, task.logs and event.list: what a client follows, by long polls with a cursor."""

from __future__ import annotations

import base64
from typing import Annotated

import trio
from msgspec import Meta, Struct

from polpod.errors import NotFound
from polpod.model.runs import Run
from polpod.model.submissions import Id
from polpod.model.tasks import Task, TaskStatus
from polpod.rules.waiting import ending
from polpod.services import views
from polpod.services.instance import Instance
from polpod.services.journal import EVERYTHING
from polpod.services.logs import Slice, read_log
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.selection import require
from polpod.store import queries
from polpod.store.records import Tx

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
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=2**20)] = 2**20
    tail: Annotated[int, Meta(ge=0)] | None = None
    wait: Wait = 0.0


class EventList(Struct, frozen=True, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] | None = None
    kinds: tuple[str, ...] = ()
    subject: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    wait: Wait = 0.0


async def wait(call: Call, params: WaitFor) -> dict[str, object]:
    """Returns when all (any) of the tasks ended, or at the end of the long poll with `finished` false."""
    instance = call.desk.instance
    with instance.journal.listening(f"task/{i}" for i in params.ids) as bell:
        until = trio.current_time() + params.timeout
        while True:
            seen = await instance.tasks.read(lambda tx: [_ending(tx, i, params.keep_waiting) for i in params.ids])
            over = [s["outcome"] is not None for s in seen]
            finished = any(over) if params.any else all(over)
            if finished or trio.current_time() >= until:
                return {"finished": finished, "tasks": seen}
            # A dependency of a dependency may have failed, which is no event of the task itself: look again in a while.
            await bell.wait(min(until, trio.current_time() + 5))


def _ending(tx: Tx, task_id: str, keep_waiting: bool) -> dict[str, object]:
    task = require(tx, task_id)
    end = ending(task, None if keep_waiting else _dead_end(tx, task))
    result = task.result
    return {
        "id": task.id,
        "status": task.status,
        "outcome": end.outcome,
        "reason": result.reason if result else None,
        "exit_code": result.exit_code if result else None,
        "signal": result.signal if result else None,
        "message": end.message,
    }


def _dead_end(tx: Tx, task: Task) -> Task | str | None:
    """A failed or cancelled task, or the id of a quarantined one, that this one waits for, directly or through others."""
    seen, waiting = {task.id}, [task]
    while waiting:
        unmet = views.unmet_dependencies(tx, waiting.pop())
        if unmet.quarantined:
            return unmet.quarantined[0]
        for dependency in unmet.tasks:
            if dependency.finished:
                return dependency
            if dependency.id not in seen:
                seen.add(dependency.id)
                waiting.append(dependency)
    return None


async def logs(call: Call, params: Logs) -> dict[str, object]:
    """Bytes of a run's log from an offset; with `wait`, waits until there are some or none will follow.

    `end`: the log was read to its end, and nothing will be added: the run that was named is over, or none was named and
    the task will have no other run by itself.
    """
    instance = call.desk.instance
    until = trio.current_time() + params.wait
    while True:
        # First whether it is over, then the bytes: what was written before the end is never missed.
        task, run = await _task_and_run(instance, params)
        over = run is None or not run.live
        part = Slice(params.offset, b"", params.offset)
        if run is not None:
            part = await trio.to_thread.run_sync(read_log, run.log_path, params.offset, params.limit, params.tail)
        settled = task.finished or task.status is TaskStatus.AWAITING_APPROVAL
        end = not part.data and over and (settled or params.run is not None)
        if part.data or end or trio.current_time() >= until:
            return {
                "run_id": run.id if run else None,
                "offset": part.offset,
                "data": base64.b64encode(part.data).decode(),
                "next_offset": part.next_offset,
                "end": end,
            }
        await trio.sleep(LOG_LOOK_EVERY)


async def _task_and_run(instance: Instance, params: Logs) -> tuple[Task, Run | None]:
    task = await instance.tasks.read(lambda tx: require(tx, params.id))
    run_id = task.run_id if params.run is None else params.run
    run = None if run_id is None else await instance.runs.read(lambda tx: tx.get(run_id))
    if params.run is not None and (run is None or run.task_id != task.id):
        raise NotFound(f"task {task.id} has no run {params.run}")
    return task, run


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
    Method("task.wait", WaitFor, dict, wait, "Wait until tasks end (long poll).", Right.RUN, waits=True),
    Method("task.logs", Logs, dict, logs, "Bytes of a run's log from an offset (long poll).", Right.RUN, waits=True),
    Method("event.list", EventList, dict, events, "Events after a cursor (long poll).", Right.RUN, waits=True),
)
