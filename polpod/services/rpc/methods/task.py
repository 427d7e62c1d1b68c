"""task.*: hand work in, look at it, change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

import msgspec
import trio
from msgspec import Meta, Struct

from polpod import crash
from polpod.config import Config
from polpod.errors import RequestError
from polpod.model.agents import MARK, Agent
from polpod.model.submissions import Edit, Id, Selector, Submission
from polpod.model.tasks import FINISHED, Spec, Task, TaskStatus
from polpod.rules.waiting import Why, why
from polpod.services import agents, limits, operations, views
from polpod.services.instance import now
from polpod.services.operations import Done, Operation
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.own import require_own
from polpod.services.rpc.refusal import invalid, refusal
from polpod.services.selection import select, statuses
from polpod.services.submission import Submitted, enterable, specify, store
from polpod.store import pages, queries
from polpod.store.changes import absent, require
from polpod.store.records import Tx

RECENT = timedelta(hours=1)
"""For how long a finished task is still listed without `all`."""


MOST_RUNS = 1000
"""Runs, the newest ones, that are shown with their task; `run.list` pages through all."""


class SubmitMany(Struct, frozen=True, forbid_unknown_fields=True):
    tasks: Annotated[tuple[dict[str, Any], ...], Meta(max_length=1000)]
    defaults: dict[str, Any] = {}


class Get(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    env: bool = False


class List(Struct, frozen=True, forbid_unknown_fields=True):
    all: bool = False
    select: Selector = Selector()
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: int | None = None
    before: int | None = None
    """Given: the tasks before this `seq`, the newest first."""
    text: Annotated[str, Meta(max_length=1000)] | None = None
    """Words that are in the title, each of them, or are the id; without `ids`."""


class Selected(Struct, frozen=True, forbid_unknown_fields=True):
    select: Selector


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id


async def submit(call: Call, params: Submission) -> Submitted:
    instance = call.desk.instance
    spec = await _checked(call, params, await _agents(call, [params.agent]), {})
    instance.refuse_when_full()
    submitted = await instance.tasks.write(lambda tx: store(tx, params, spec, instance.config, call.caller.uid))
    crash.point("submit.committed")
    return submitted


async def submit_many(call: Call, params: SubmitMany) -> dict[str, object]:
    instance = call.desk.instance
    instance.refuse_when_full()
    checked: list[tuple[Submission, Spec] | RequestError] = []
    entered: dict[str, RequestError | None] = {}
    known = await _agents(call, [(params.defaults | given).get("agent") for given in params.tasks])
    for given in params.tasks:
        try:
            submission = msgspec.convert(params.defaults | given, Submission)
            checked.append((submission, await _checked(call, submission, known, entered)))
        except RequestError as exc:
            checked.append(exc)
        except msgspec.ValidationError as exc:
            checked.append(invalid(exc))
    config, uid = instance.config, call.caller.uid
    bodies = [partial(_stored, entry=entry, config=config, uid=uid) for entry in checked]
    results = await instance.tasks.write_each(bodies)
    crash.point("submit.committed")
    return {"results": [{"error": refusal(r)} if isinstance(r, RequestError) else r for r in results]}


async def get(call: Call, params: Get) -> dict[str, object]:
    instance = call.desk.instance
    with_values = params.env

    def body(tx: Tx) -> tuple[Task, views.Unmet, dict[str, Any] | None]:
        task = require(tx, params.id)
        if with_values:
            require_own(call.caller, task)  # a run has the values of its own task already, and no business with others
        spec = views.spec_view(tx, task.spec_id, with_values=with_values)
        return task, views.unmet_dependencies(tx, task), spec

    task, unmet, spec = await instance.tasks.read(body)
    runs = await instance.runs.read(lambda tx: tx.of_task(task.id))
    live = next((r for r in runs if r.live), None)
    around = views.surroundings(task, unmet, live, call.desk.killer.stuck)
    view = views.task_view(task, around) | {"spec": spec}
    return {"task": view, "runs": [views.run_view(r) for r in runs[-MOST_RUNS:]]}


async def list_(call: Call, params: List) -> dict[str, object]:
    instance, selector = call.desk.instance, params.select
    recent = not params.all and selector.status is None
    since = now() - RECENT if recent else None
    default = [s for s in TaskStatus if s not in FINISHED] if recent else None

    def body(tx: Tx) -> tuple[list[tuple[Task, views.Unmet]], int | None]:
        if selector.ids is not None:
            tasks, missing = select(tx, selector)
            if missing:
                raise absent(tx, *missing)
            tasks = [t for t in tasks if params.after is None or t.seq > params.after]
            if params.before is not None:
                tasks = [t for t in reversed(tasks) if t.seq < params.before]
            page, rest = tasks[: params.limit], tasks[params.limit :]
            following = page[-1].seq if rest else None
        else:
            found = pages.page_of_tasks(
                tx, after=params.after or 0, before=params.before, limit=params.limit,
                statuses=statuses(selector) or default, finished_since=since, queue=selector.queue, project=selector.project, labels=selector.labels,
                text=params.text,
            )  # fmt: skip
            page, following = found.tasks, found.next
        return [(t, views.unmet_dependencies(tx, t)) for t in page], following

    page, following = await instance.tasks.read(body)
    live = await views.live_runs(instance, [t for t, _ in page])
    stuck = call.desk.killer.stuck
    shown = [views.task_view(t, views.surroundings(t, d, live.get(t.id), stuck)) for t, d in page]
    fitting = views.fitting(shown)
    return {"tasks": fitting, "next": following if len(fitting) == len(shown) else fitting[-1]["seq"]}


async def update(call: Call, params: Edit) -> dict[str, object]:
    def body(tx: Tx) -> Task:
        require_own(call.caller, require(tx, params.id))
        return operations.edit(tx, params, call.desk.instance.config, call.caller.name)

    await limits.refuse(call.desk.instance, params)
    task = await call.desk.instance.tasks.write(body)
    return {"task": msgspec.to_builtins(task)}


async def cancel(call: Call, params: Selected) -> dict[str, object]:
    done = await _each(call, params, operations.cancel)
    runs = [d.run_id for d in done if isinstance(d.run_id, int)]
    if runs:
        crash.point("kill.noted")
        await call.desk.killer.request(runs, "cancelled", call.caller.name)
    return {"results": done}


async def retry(call: Call, params: Selected) -> dict[str, object]:
    return {"results": await _each(call, params, operations.retry)}


async def reassess(call: Call, params: Selected) -> dict[str, object]:
    return {"results": await _each(call, params, operations.reassess)}


async def remove(call: Call, params: Selected) -> dict[str, object]:
    return {"results": await _each(call, params, operations.remove)}


async def hold(call: Call, params: Selected) -> dict[str, object]:
    return {"results": await _each(call, params, operations.hold)}


async def release(call: Call, params: Selected) -> dict[str, object]:
    return {"results": await _each(call, params, operations.release)}


async def explain(call: Call, params: ById) -> dict[str, object]:
    instance, killer = call.desk.instance, call.desk.killer
    task = await instance.tasks.read(lambda tx: require(tx, params.id))
    live = (await views.live_runs(instance, [task])).get(task.id)

    def body(tx: Tx) -> Why:
        around = views.surroundings(task, views.unmet_dependencies(tx, task), live, killer.stuck)
        ahead = queries.ready_before(tx, task)
        capacity = instance.capacity(tx, () if task.assigned_to is None else (task.assigned_to,))
        busy = queries.busy(tx, capacity.queues, capacity.agents)
        return why(task, around, capacity, busy, ahead, instance.launcher_paused, now())

    because = await instance.tasks.read(body)
    return {"id": task.id, "status": task.status, "sentences": because.sentences, "next": because.next}


async def _each(call: Call, params: Selected, operation: Operation) -> list[Done]:
    def guarded(tx: Tx, task: Task, at: Any, by: str) -> Done:
        require_own(call.caller, task)
        return operation(tx, task, at, by)

    def body(tx: Tx) -> list[Done]:
        tasks, missing = select(tx, params.select)
        not_there = [Done(i, error=refusal(absent(tx, i))) for i in missing]
        return operations.each(tx, tasks, guarded, call.caller.name, refusal) + not_there

    return await call.desk.instance.tasks.write(body)


async def _agents(call: Call, names: Iterable[object]) -> dict[str, Agent]:
    """Those of them that there are, and that work for more than one mission."""
    wanted = {name for name in names if isinstance(name, str) and MARK not in name}
    if not wanted:
        return {}
    config = call.desk.instance.config
    return await call.desk.instance.tasks.read(
        lambda tx: {name: found[1] for name in wanted if (found := agents.find(tx, config, name)) is not None}
    )


async def _checked(
    call: Call, submission: Submission, known_agents: Mapping[str, Agent], entered: dict[str, RequestError | None]
) -> Spec:
    """The spec of a submission whose cwd and limits were looked at; `entered` remembers directories within one request.

    A cwd that is gone, or a limit that cannot be set any more, does not keep a client from asking again, by its key, what
    became of its task.
    """
    instance, uid, key = call.desk.instance, call.caller.uid, submission.idempotency_key
    spec = specify(submission, instance.config, instance.paths.root, known_agents)
    if spec.cwd not in entered:
        try:
            await trio.to_thread.run_sync(enterable, spec.cwd)
            entered[spec.cwd] = None
        except RequestError as exc:
            entered[spec.cwd] = exc
    problem = entered[spec.cwd]
    if problem is None:
        try:
            await limits.refuse(instance, submission)
            return spec
        except RequestError as exc:
            problem = exc
    known = None if key is None else await instance.tasks.read(lambda tx: queries.by_idempotency_key(tx, uid, key))
    if known is None:
        raise problem
    return spec


def _stored(tx: Tx, entry: tuple[Submission, Spec] | RequestError, config: Config, uid: int) -> Submitted:
    if isinstance(entry, RequestError):
        raise entry
    return store(tx, *entry, config, uid)


METHODS = (
    Method(
        "task.submit", Submission, Submitted, submit, "Store a task; the answer says that it is durable.", writes=True
    ),
    Method("task.submit_many", SubmitMany, dict, submit_many, "Store many tasks; a result for each.", writes=True),
    Method("task.get", Get, dict, get, "One task with its runs, oldest first.", Right.RUN),
    Method("task.list", List, dict, list_, "Tasks by page, in order of submission, or the newest first.", Right.RUN),
    Method("task.update", Edit, dict, update, "Change a task that does not run.", writes=True),
    Method("task.cancel", Selected, dict, cancel, "Cancel; what runs is ended first.", writes=True),
    Method(
        "task.retry", Selected, dict, retry, "Run again what failed, was cancelled or waits for approval.", writes=True
    ),
    Method("task.reassess", Selected, dict, reassess, "Check again work that is done, failed, or parked.", writes=True),
    Method("task.remove", Selected, dict, remove, "Forget tasks that do not run.", writes=True),
    Method("task.hold", Selected, dict, hold, "Keep pending tasks from starting.", writes=True),
    Method("task.release", Selected, dict, release, "Let held tasks start.", writes=True),
    Method("task.why", ById, dict, explain, "Why it waits, or failed, and what would change that.", Right.RUN),
)
