"""a2a.*: the tasks that agents send each other, as Elkar's stores keep them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import trio
from msgspec import Meta, Struct

from polpod.model.a2a import Changes, KeptTask, Once, SendParams, StoredTask, TaskState
from polpod.model.submissions import Name, Submission
from polpod.services import a2a, assignments, views
from polpod.services.assignments import Assigned
from polpod.services.instance import now
from polpod.services.missions.preparing import lasting
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.submission import enterable, specify
from polpod.store.records import Tx

LONGEST_TITLE = 200


class Upsert(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    params: SendParams
    is_streaming: bool = False
    caller_id: str | None = None
    once: Once | None = None


class Get(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    history_length: Annotated[int, Meta(ge=0)] | None = None
    caller_id: str | None = None


class Update(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    changes: Changes
    once: Once | None = None


class List(Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 100
    before: int | None = None


class Assign(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    agent: Name


class Remove(Struct, frozen=True, forbid_unknown_fields=True):
    id: str


class Stored(Struct, frozen=True):
    stored: StoredTask | None


class Listed(Struct, frozen=True, kw_only=True):
    """A task without what is in it."""

    id: str
    seq: int
    state: TaskState
    caller_id: str | None
    session_id: str | None
    is_streaming: bool
    messages: int
    artifacts: int
    created_by: int
    created_run: int | None
    created_at: datetime
    updated_at: datetime


class Page(Struct, frozen=True):
    tasks: list[Listed]
    next: int | None
    """What `before` is for the page after this one; null: there is none."""


async def upsert(call: Call, params: Upsert) -> Stored:
    instance, by = call.desk.instance, call.caller
    instance.refuse_when_full()

    def body(tx: Tx) -> StoredTask:
        return a2a.upsert(
            tx, by, params.params, now(),
            is_streaming=params.is_streaming, caller_id=params.caller_id, once=params.once,
        )  # fmt: skip

    return Stored(await instance.tasks.write(body))


async def get(call: Call, params: Get) -> Stored:
    def body(tx: Tx) -> StoredTask | None:
        return a2a.get(tx, call.caller, params.id, caller_id=params.caller_id, history_length=params.history_length)

    return Stored(await call.desk.instance.tasks.read(body))


async def update(call: Call, params: Update) -> Stored:
    by = call.caller

    def body(tx: Tx) -> tuple[StoredTask, list[int]]:
        stored = a2a.update(tx, by, params.id, params.changes, now(), once=params.once)
        return stored, assignments.cancel_with(tx, stored, now(), by.name)

    stored, runs = await call.desk.instance.tasks.write(body)
    if runs:
        await call.desk.killer.request(runs, "cancelled", by.name)
    return Stored(stored)


async def assign(call: Call, params: Assign) -> Assigned:
    instance, by = call.desk.instance, call.caller
    instance.refuse_when_full()
    said = await instance.tasks.read(lambda tx: assignments.wanted(tx, by, params.id))
    title = said.text.strip().splitlines()[0][:LONGEST_TITLE]
    submission = Submission(agent=params.agent, title=title, description=said.text)
    spec = specify(submission, instance.config, instance.paths.root, await lasting(instance))
    await trio.to_thread.run_sync(enterable, spec.cwd)
    return await instance.tasks.write(
        lambda tx: assignments.assign(tx, by, params.id, said, submission, spec, instance.config, now())
    )


async def list_(call: Call, params: List) -> Page:
    def body(tx: Tx) -> list[Listed]:
        return [_listed(kept) for kept in a2a.page(tx, call.caller, before=params.before, limit=params.limit)]

    found = await call.desk.instance.tasks.read(body)
    tasks = views.fitting(found)
    more = len(found) == params.limit or len(tasks) < len(found)
    return Page(tasks, tasks[-1].seq if more else None)


async def remove(call: Call, params: Remove) -> dict[str, object]:
    await call.desk.instance.tasks.write(lambda tx: a2a.remove(tx, call.caller, params.id, now()))
    return {"id": params.id}


def _listed(kept: KeptTask) -> Listed:
    stored, task = kept.stored, kept.stored.task
    return Listed(
        id=stored.id, seq=kept.seq, state=task.status.state, caller_id=stored.caller_id, session_id=task.session_id,
        is_streaming=stored.is_streaming, messages=len(task.history or ()), artifacts=len(task.artifacts or ()),
        created_by=kept.created_by, created_run=kept.created_run, created_at=stored.created_at,
        updated_at=stored.updated_at,
    )  # fmt: skip


METHODS = (
    Method(
        "a2a.upsert", Upsert, Stored, upsert, "Begin an A2A task with a message, or add one to it.", Right.RUN,
        writes=True,
    ),
    Method("a2a.get", Get, Stored, get, "One A2A task; null where there is none.", Right.RUN),
    Method(
        "a2a.update", Update, Stored, update, "Change an A2A task's status, artifacts, history or metadata.", Right.RUN,
        writes=True,
    ),
    Method("a2a.list", List, Page, list_, "A2A tasks by page, the newest first.", Right.RUN),
    Method("a2a.assign", Assign, Assigned, assign, "Let an agent work on what a user said last.", writes=True),
    Method("a2a.remove", Remove, {"id": str}, remove, "Forget an A2A task.", Right.RUN, writes=True),
)  # fmt: skip
