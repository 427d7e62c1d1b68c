"""run.*: attempts, and what runners say of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from polpod.errors import InvalidRequest, NotFound
from polpod.model.runs import Reason, RunStatus
from polpod.model.tasks import Progress as Told
from polpod.model.tasks import Task
from polpod.rules.outcome import MEANING
from polpod.rules.progress import reported
from polpod.services import views
from polpod.services.instance import now
from polpod.services.processes import Processes, processes_of
from polpod.services.rpc import own
from polpod.services.rpc.answers import ShownRun
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.changes import apply, require
from polpod.store.records import Tx


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: int


class List(Struct, frozen=True, forbid_unknown_fields=True):
    task_id: str | None = None
    status: tuple[RunStatus, ...] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: int | None = None


class Identify(Struct, frozen=True, forbid_unknown_fields=True):
    """What its job finds as POLPO_RUN_ID and POLPO_TOKEN."""

    run_id: int
    token: Annotated[str, Meta(max_length=1000)]


class Activity(Struct, frozen=True, forbid_unknown_fields=True):
    text: Annotated[str, Meta(max_length=1000)] | None = None
    """None: as it said before."""


class Progress(Struct, frozen=True, forbid_unknown_fields=True):
    percent: Annotated[float, Meta(ge=0, le=100)]
    text: Annotated[str, Meta(max_length=1000)] | None = None
    """As above."""


class Report(Struct, frozen=True):
    """The outcome columns of `runner/contract.py`, with the nonce that makes them believable."""

    id: int
    nonce: str
    status: Literal["completed", "failed", "killed", "lost"]
    reason: Reason
    ended_at: str
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    duration: float | None = None
    cpu_seconds: float | None = None
    max_rss: int | None = None
    leftovers: int | None = None


async def get(call: Call, params: ById) -> dict[str, object]:
    run = await call.desk.instance.runs.read(lambda tx: tx.get(params.id))
    if run is None:
        raise NotFound(f"there is no run {params.id}")
    return {"run": views.run_view(run)}


async def processes(call: Call, params: ById) -> Processes:
    run = await call.desk.instance.runs.read(lambda tx: tx.get(params.id))
    if run is None:
        raise NotFound(f"there is no run {params.id}")
    return await processes_of(run)


async def list_(call: Call, params: List) -> dict[str, object]:
    runs = await call.desk.instance.runs.read(
        lambda tx: tx.page(task_id=params.task_id, statuses=params.status, before=params.before, limit=params.limit)
    )
    following = runs[-1].id if len(runs) == params.limit else None
    return {"runs": [views.run_view(r) for r in runs], "next": following}


async def report(call: Call, params: Report) -> dict[str, object]:
    """The runner's doorbell; the rows are the truth, so this only makes the daemon look."""
    if (params.status, params.reason) not in MEANING:
        raise InvalidRequest(f"a run is never {params.status} for the reason {params.reason}", "$.reason")
    run = await call.desk.instance.runs.read(lambda tx: tx.get(params.id))
    if run is not None and run.nonce == params.nonce:  # what others say must not displace what its runner said
        call.desk.inbox.report(msgspec.to_builtins(params))
    return {}


async def identify(call: Call, params: Identify) -> dict[str, object]:
    run = await own.identify(call, params.run_id, params.token)
    return {"run_id": run.id, "task_id": run.task_id}


async def progress(call: Call, params: Progress) -> dict[str, object]:
    return await _told(call, params.percent, params.text)


async def activity(call: Call, params: Activity) -> dict[str, object]:
    return await _told(call, None, params.text)


async def _told(call: Call, percent: float | None, text: str | None) -> dict[str, object]:
    run = await own.own_run(call)

    def body(tx: Tx) -> Task:
        change = reported(require(tx, run.task_id), run.id, percent, text, now())
        apply(tx, change)
        return change.task

    task = await call.desk.instance.tasks.write(body, durable=False)
    call.desk.health.active(run.id)
    return {"progress": task.progress}


METHODS = (
    Method("run.get", ById, {"run": ShownRun}, get, "One run.", Right.RUN),
    Method("run.processes", ById, Processes, processes, "The processes of its job, as they are now.", Right.RUN),
    Method(
        "run.list", List, {"runs": list[ShownRun], "next": int | None}, list_, "Runs by page, newest first.", Right.RUN
    ),
    Method(
        "run.identify",
        Identify,
        {"run_id": int, "task_id": str},
        identify,
        "Have the rights of this run from now on, and no others.",
        Right.RUN,
    ),
    Method(
        "run.progress",
        Progress,
        {"progress": Told | None},
        progress,
        "A run says how far it is.",
        Right.RUN,
        writes=True,
        telling=True,
    ),
    Method(
        "run.activity",
        Activity,
        {"progress": Told | None},
        activity,
        "A run says that it goes on.",
        Right.RUN,
        writes=True,
        telling=True,
    ),
    Method("run.report", Report, {}, report, "A runner says how its run ended.", Right.RUN),
)
