"""mission.*: graphs of tasks: store them, carry them out, look at them, hold and let go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
import trio
from msgspec import Meta, Struct, structs

from polpod import crash
from polpod.errors import Conflict
from polpod.model.executions import ENDED, Barrier, Execution, ExecutionStatus
from polpod.model.polpo.missions import Mission
from polpod.model.tasks import Instant, Task
from polpod.rules import graphs
from polpod.services import views
from polpod.services.instance import now
from polpod.services.missions import control
from polpod.services.missions.control import last, latest
from polpod.services.missions.executing import as_stored, execute, require_mission
from polpod.services.missions.planning import checked
from polpod.services.missions.preparing import planned, prepare
from polpod.services.missions.saving import save
from polpod.services.rpc.answers import ShownMission, ShownNode, ShownTask
from polpod.services.rpc.method import Call, Method
from polpod.services.rpc.methods.follow import LONG_POLL
from polpod.services.rpc.methods.follow import Wait as LongPoll
from polpod.services.rpc.own import require_own
from polpod.services.rpc.refusal import entity
from polpod.store.missions import Barriers, Documents, Executions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.schedules import Schedules
from polpod.store.tables import Tasks

X = TypeVar("X")

Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Create(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    document: Annotated[str, Meta(max_length=2**21)]
    """JSON text."""
    name: Name | None = None
    prompt: str | None = None
    quality_threshold: Annotated[float, Meta(ge=1, le=5)] | None = None
    deadline: Instant | None = None


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: Name
    """Or its name."""


class Show(Struct, frozen=True, forbid_unknown_fields=True):
    id: Name
    execution: int | None = None
    """Its number; null: the one that goes on, or else the last."""
    after: int = 0
    """The `seq` of the last task of the page before."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class Resume(Struct, frozen=True, forbid_unknown_fields=True):
    id: Name
    barrier: Name | None = None
    retry_failed: bool = False


class Wait(Struct, frozen=True, forbid_unknown_fields=True):
    id: Name
    keep_waiting: bool = False
    """Also while it is paused."""
    timeout: LongPoll = LONG_POLL


class Page(Struct, frozen=True, forbid_unknown_fields=True):
    after: int | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def create(call: Call, params: Create) -> dict[str, object]:
    instance = call.desk.instance
    instance.refuse_when_full()
    document, _ = await planned(instance, params.document)

    def body(tx: Tx) -> Mission:
        with entity():
            return save(
                tx, params.name, params.document, now(), call.caller.name, prompt=params.prompt,
                deadline=params.deadline, quality_threshold=params.quality_threshold,
                notifications=as_stored(document.notifications), created_by=call.caller.uid,
            )  # fmt: skip

    mission = await instance.tasks.write(body)
    return {"id": mission.id, "name": mission.name}


async def execute_(call: Call, params: ById) -> dict[str, object]:
    instance, by = call.desk.instance, call.caller
    instance.refuse_when_full()
    mission = await instance.tasks.read(lambda tx: require_mission(tx, params.id))
    document, tasks = await prepare(instance, mission)

    def body(tx: Tx) -> Execution:
        again = require_mission(tx, mission.id)
        require_own(by, again)
        if again.data != mission.data:
            raise Conflict(f"mission {mission.name} was changed meanwhile: execute it again")
        return execute(tx, again, document, tasks, instance.config, by.uid, now(), by.name)

    execution = await instance.tasks.write(body)
    crash.point("mission.executed")
    return {"execution": execution, "tasks": len(tasks)}


async def list_(call: Call, params: Page) -> dict[str, object]:
    where = () if params.after is None else (Missions.seq.lt(params.after),)

    def body(tx: Tx) -> list[dict[str, Any]]:
        found = tx[Missions].find(*where, order_by=(Missions.seq.desc(),), limit=params.limit)
        return [_summary(tx, mission) for mission in found]

    found = await call.desk.instance.tasks.read(body)
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    return {"missions": page, "next": page[-1]["seq"] if more else None}


async def get(call: Call, params: Show) -> dict[str, object]:
    def body(tx: Tx) -> tuple[dict[str, Any], Execution | None, list[Barrier], list[tuple[Task, views.Unmet]]]:
        mission = require_mission(tx, params.id)
        execution = _execution(tx, mission, params.execution)
        if execution is None:
            return _summary(tx, mission), None, [], []
        tasks = tx[Tasks].find(
            Tasks.execution_id.eq(execution.id), Tasks.seq.gt(params.after), order_by=(Tasks.seq.asc(),),
            limit=params.limit,
        )  # fmt: skip
        shown = [(task, views.unmet_dependencies(tx, task)) for task in tasks]
        return _summary(tx, mission), execution, tx[Barriers].find(Barriers.execution_id.eq(execution.id)), shown

    instance = call.desk.instance
    mission, execution, barriers, tasks = await instance.tasks.read(body)
    live = await views.live_runs(instance, [task for task, _ in tasks])
    stuck = call.desk.killer.stuck
    shown = views.fitting([views.task_view(t, views.surroundings(t, u, live.get(t.id), stuck)) for t, u in tasks])
    more = len(shown) < len(tasks) or len(tasks) == params.limit
    following = shown[-1]["seq"] if shown and more else None
    return {"mission": mission, "execution": execution, "barriers": barriers, "tasks": shown, "next": following}


async def document(call: Call, params: ById) -> dict[str, object]:
    """For who may carry it out: it may have the values of environments, which nobody else sees of tasks either."""
    mission = await call.desk.instance.tasks.read(lambda tx: require_mission(tx, params.id))
    require_own(call.caller, mission)
    return {"id": mission.id, "name": mission.name, "document": mission.data}


async def graph(call: Call, params: ById) -> dict[str, object]:
    """The graph of its document, each node with how it stands in the execution of it."""

    def body(tx: Tx) -> tuple[Mission, str, list[Task], list[Barrier]]:
        mission = require_mission(tx, params.id)
        execution = _execution(tx, mission, None)
        if execution is None:
            return mission, mission.data, [], []
        stored = tx[Documents].get(execution.document_id)
        tasks = tx[Tasks].find(Tasks.execution_id.eq(execution.id))
        barriers = tx[Barriers].find(Barriers.execution_id.eq(execution.id))
        return mission, mission.data if stored is None else stored.text, tasks, barriers

    mission, text, tasks, barriers = await call.desk.instance.tasks.read(body)
    nodes = await trio.to_thread.run_sync(_nodes, text, tasks, barriers)
    return {"name": mission.name, "nodes": nodes}


def _nodes(text: str, tasks: list[Task], barriers: list[Barrier]) -> list[dict[str, Any]]:
    stand = {("task", task.title): (task.id, str(task.status)) for task in tasks}
    stand |= {(barrier.kind, barrier.name): (barrier.id, str(barrier.state)) for barrier in barriers}
    nodes = []
    for node in graphs.nodes(checked(text)):
        id, state = stand.get((node.kind, node.name), (None, None))
        nodes.append({"id": id, "state": state, **structs.asdict(node)})
    return nodes


async def wait(call: Call, params: Wait) -> dict[str, object]:
    """Returns when its newest execution is over, or can only go on by a person; or at the end of the long poll."""
    instance = call.desk.instance

    def body(tx: Tx) -> tuple[Mission, Execution]:
        mission = require_mission(tx, params.id)
        return mission, latest(tx, mission)

    mission, execution = await instance.tasks.read(body)
    with instance.journal.listening([f"mission/{mission.id}"]) as watch:
        until = trio.current_time() + params.timeout
        while True:
            _, execution = await instance.tasks.read(body)
            finished = execution.status in ENDED
            paused = execution.status is ExecutionStatus.PAUSED and not params.keep_waiting
            if finished or paused or trio.current_time() >= until:
                return {"finished": finished or paused, "execution": execution}
            await watch.wait(until)


async def executions(call: Call, params: ById) -> dict[str, object]:
    def body(tx: Tx) -> list[Execution]:
        mission = require_mission(tx, params.id)
        return tx[Executions].find(
            Executions.mission_id.eq(mission.id), order_by=(Executions.number.desc(),), limit=1000
        )

    return {"executions": views.fitting(await call.desk.instance.tasks.read(body))}


async def pause(call: Call, params: ById) -> dict[str, object]:
    return {"execution": await _change(call, params.id, control.pause)}


async def resume(call: Call, params: Resume) -> control.Resumed:
    resumed = partial(control.resume, barrier=params.barrier, retry_failed=params.retry_failed)
    return await _change(call, params.id, resumed)


async def abort(call: Call, params: ById) -> dict[str, object]:
    runs = await _change(call, params.id, control.abort)
    if runs:
        await call.desk.killer.request(runs, "cancelled", call.caller.name)
    return {"runs": runs}


async def delete(call: Call, params: ById) -> dict[str, object]:
    return {"tasks": await _change(call, params.id, control.delete)}


async def _change(call: Call, name: str, operation: Callable[[Tx, Mission, datetime, str], X]) -> X:
    def body(tx: Tx) -> X:
        mission = require_mission(tx, name)
        require_own(call.caller, mission)
        return operation(tx, mission, now(), call.caller.name)

    return await call.desk.instance.tasks.write(body)


def _execution(tx: Tx, mission: Mission, number: int | None) -> Execution | None:
    if number is not None:
        found = tx[Executions].find(Executions.mission_id.eq(mission.id), Executions.number.eq(number))
        return found[0] if found else None
    return last(tx, mission)


def _summary(tx: Tx, mission: Mission) -> dict[str, Any]:
    """The mission without its document, and how far its execution is."""
    fields: dict[str, Any] = msgspec.to_builtins(mission)
    del fields["data"]
    execution = _execution(tx, mission, None)
    here = None if execution is None else Tasks.execution_id.eq(execution.id)
    stages = ("moving", "blocked", "done", "failed", "cancelled")
    counts = {} if here is None else {s: n for s in stages if (n := tx[Tasks].count(here, Tasks.stage.eq(s)))}
    schedule = tx[Schedules].get(mission.id)
    return fields | {
        "tasks": counts,
        "next_at": schedule.next_at if schedule is not None and schedule.enabled else None,
    }


_SHOWN = {
    "mission": ShownMission,
    "execution": Execution | None,
    "barriers": list[Barrier],
    "tasks": list[ShownTask],
    "next": int | None,
}

METHODS = (
    Method(
        "mission.create",
        Create,
        {"id": str, "name": str},
        create,
        "Store a mission; its document is checked whole.",
        writes=True,
    ),
    Method(
        "mission.list",
        Page,
        {"missions": list[ShownMission], "next": int | None},
        list_,
        "Missions by page, the newest first.",
    ),
    Method("mission.get", Show, _SHOWN, get, "A mission, one execution of it, and its tasks by page."),
    Method(
        "mission.document",
        ById,
        {"id": str, "name": str, "document": str},
        document,
        "Its document, as it was given: only to whose it is.",
    ),
    Method(
        "mission.graph",
        ById,
        {"name": str, "nodes": list[ShownNode]},
        graph,
        "The graph of its document, and how each node stands.",
    ),
    Method(
        "mission.wait",
        Wait,
        {"finished": bool, "execution": Execution},
        wait,
        "Wait until it is over, or waits for a person (long poll).",
        waits=True,
    ),
    Method(
        "mission.executions", ById, {"executions": list[Execution]}, executions, "Its executions, the newest first."
    ),
    Method(
        "mission.execute",
        ById,
        {"execution": Execution, "tasks": int},
        execute_,
        "Carry it out: all its tasks in one transaction.",
        writes=True,
    ),
    Method("mission.pause", ById, {"execution": Execution}, pause, "Start nothing more of it.", writes=True),
    Method("mission.resume", Resume, control.Resumed, resume, "Let it go on, or through a barrier.", writes=True),
    Method("mission.abort", ById, {"runs": list[int]}, abort, "Cancel what of it is not over.", writes=True),
    Method("mission.delete", ById, {"tasks": int}, delete, "Forget it with its executions and tasks.", writes=True),
)
