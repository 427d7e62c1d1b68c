"""artifact.*: what jobs leave behind: files, in parts that fit into a message."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from msgspec import Meta, Struct

from polpod.errors import InvalidRequest, NotFound
from polpod.model.organisation.artifacts import Artifact, ArtifactType
from polpod.model.submissions import Id
from polpod.rules.budgets import BY
from polpod.services import budgets, views
from polpod.services.instance import now
from polpod.services.rpc import own
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.refusal import entity
from polpod.store.changes import note, require
from polpod.store.organisation import Artifacts
from polpod.store.records import Tx
from polpod.store.tables import Tasks

PART = 2**20
"""Bytes that are sent at once, at most: with base64 and what is around them they fit into a message."""


class Begin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    """What it is called; nobody opens it."""
    size: Annotated[int, Meta(ge=0)]
    type: ArtifactType = ArtifactType.CODE
    description: Annotated[str, Meta(max_length=4096)] = ""
    content_type: Annotated[str, Meta(max_length=256)] = ""
    task_id: Id | None = None
    """Null: the task of the run that asks."""


class Write(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    offset: Annotated[int, Meta(ge=0)]
    data: Annotated[str, Meta(max_length=PART // 3 * 4 + 8)]
    """In base64."""


class End(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Get(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=0, le=PART)] = PART


class List(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    task_id: Id | None = None
    """Null: of the run that asks, or of all tasks that are the caller's to act on."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: str | None = None


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: str


async def begin(call: Call, params: Begin) -> dict[str, object]:
    call.desk.instance.refuse_when_full()
    about = await own.own_task(call, params.task_id)
    with entity(size_bytes="size"):
        artifact = Artifact(
            id="new", type=params.type, path=params.path, task_id=about.task.id, created_by=about.by,
            description=params.description, content_type=params.content_type, size_bytes=params.size,
            created_at=now(), project_id=about.task.project if (about.task.project or "").strip() else None,
        )  # fmt: skip
    return {"id": await call.desk.uploads.begin(artifact, call.caller.name), "part": PART}


async def write(call: Call, params: Write) -> dict[str, object]:
    try:
        data = base64.b64decode(params.data, validate=True)
    except ValueError as exc:
        raise InvalidRequest(f"not base64: {exc}", "$.data") from exc
    return {"size": await call.desk.uploads.write(params.id, call.caller.name, params.offset, data)}


async def end(call: Call, params: End) -> dict[str, object]:
    by = call.caller.name

    over: list[int] = []

    def keep(tx: Tx, artifact: Artifact) -> None:
        after = budgets.spend(tx, require(tx, artifact.task_id), now(), disk=artifact.size_bytes)
        over[:] = [after.run_id] if after.over_budget and after.may_have_live_run and after.run_id else []
        tx[Artifacts].add(artifact)
        note(
            tx, now(), "artifact:added", f"task/{artifact.task_id}",
            id=artifact.id, path=artifact.path, size=artifact.size_bytes, by=by,
        )  # fmt: skip

    kept = await call.desk.uploads.end(params.id, by, params.sha256, keep)
    if over:
        await call.desk.killer.request(over, "cancelled", BY)
    return {"artifact": kept}


async def get(call: Call, params: Get) -> dict[str, Any]:
    artifact = await _own(call, params.id)
    data = await call.desk.uploads.read(artifact, params.offset, params.limit) if params.limit else b""
    following = params.offset + len(data)
    return {
        "artifact": artifact,
        "offset": params.offset,
        "data": base64.b64encode(data).decode(),
        "next_offset": following,
        "end": following >= artifact.size_bytes,
    }


async def list_(call: Call, params: List) -> dict[str, Any]:
    task_id, who = params.task_id, call.caller
    if who.run_id is not None or task_id is not None:
        task_id = (await own.own_task(call, task_id)).task.id
    where = [] if params.after is None else [Artifacts.id.gt(params.after)]
    if task_id is not None:
        where.append(Artifacts.task_id.eq(task_id))

    def body(tx: Tx) -> tuple[list[Artifact], set[str]]:
        found = tx[Artifacts].find(*where, limit=params.limit)
        tasks = tx[Tasks].find(Tasks.id.is_in({artifact.task_id for artifact in found}))
        return found, {task.id for task in tasks if task_id is not None or own.is_own(who, task)}

    found, shown = await call.desk.instance.tasks.read(body)
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    listed = [artifact for artifact in page if artifact.task_id in shown]
    return {"artifacts": listed, "next": page[-1].id if more else None}


async def remove(call: Call, params: ById) -> dict[str, object]:
    artifact = await _own(call, params.id)
    await call.desk.uploads.remove(artifact.id)
    return {"id": artifact.id}


async def _own(call: Call, artifact_id: str) -> Artifact:
    """Raises NotFound, PermissionDenied."""
    artifact = await call.desk.instance.tasks.read(lambda tx: tx[Artifacts].get(artifact_id))
    if artifact is None:
        raise NotFound(f"there is no artifact {artifact_id}")
    await own.own_task(call, artifact.task_id)
    return artifact


METHODS = (
    Method(
        "artifact.begin",
        Begin,
        {"id": str, "part": int},
        begin,
        "Announce a file that is to be kept for a task.",
        Right.RUN,
        writes=True,
    ),
    Method("artifact.write", Write, {"size": int}, write, "Its next bytes.", Right.RUN, writes=True, telling=True),
    Method(
        "artifact.end",
        End,
        {"artifact": Artifact},
        end,
        "All was sent: check it, and keep it.",
        Right.RUN,
        writes=True,
        telling=True,
    ),
    Method(
        "artifact.get",
        Get,
        {"artifact": Artifact, "offset": int, "data": str, "next_offset": int, "end": bool},
        get,
        "A part of the content, with what is known of it.",
        Right.RUN,
    ),
    Method(
        "artifact.list",
        List,
        {"artifacts": list[Artifact], "next": str | None},
        list_,
        "Artifacts by page, by id.",
        Right.RUN,
    ),
    Method(
        "artifact.remove", ById, {"id": str}, remove, "Forget an artifact, content and all.", Right.RUN, writes=True
    ),
)
