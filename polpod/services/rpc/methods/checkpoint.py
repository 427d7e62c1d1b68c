"""checkpoint.*: where a run can be resumed: the next run of its task finds what the last one saved."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from polpod.errors import TooLarge
from polpod.model.organisation.runtime import Checkpoint
from polpod.rules.metrics import agent_of
from polpod.services import bookkeeping
from polpod.services.instance import now
from polpod.services.rpc import own
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.refusal import entity
from polpod.store.changes import require
from polpod.store.organisation import Checkpoints
from polpod.store.records import Tx

LARGEST = 2**20
"""Bytes of one context."""

KEPT = 10
"""Checkpoints of one task, the newest ones."""


class Save(Struct, frozen=True, forbid_unknown_fields=True):
    context_json: Annotated[str, Meta(min_length=2)]
    """A JSON object, kept as it is."""


class Get(Struct, frozen=True, forbid_unknown_fields=True):
    task_id: str | None = None
    """Null: the task of the run that asks."""


async def save(call: Call, params: Save) -> dict[str, object]:
    call.desk.instance.refuse_when_full()
    run = await own.own_run(call)
    if len(params.context_json.encode()) > LARGEST:
        raise TooLarge(f"a checkpoint has at most {LARGEST >> 20} MiB: keep what is large as an artifact")

    def body(tx: Tx) -> Checkpoint:
        task, at = require(tx, run.task_id), now()
        newest = _newest(tx, task.id)
        turn = newest.turn_number + 1 if newest is not None else 1
        with entity():
            checkpoint = Checkpoint(
                execution_id=bookkeeping.execution_id(run.id), agent_id=agent_of(task), task_id=task.id,
                turn_number=turn, context_json=params.context_json, created_at=at,
            )  # fmt: skip
        tx[Checkpoints].add(checkpoint)
        tx[Checkpoints].delete_where(Checkpoints.task_id.eq(task.id), Checkpoints.turn.le(turn - KEPT))
        bookkeeping.acted(tx, task, run, at, turns=1)
        return checkpoint

    saved = await call.desk.instance.tasks.write(body)
    call.desk.health.active(run.id)
    return {"turn_number": saved.turn_number, "id": saved.id}


async def get(call: Call, params: Get) -> dict[str, Any]:
    task, _ = await own.own_task(call, params.task_id)
    return {"checkpoint": await call.desk.instance.tasks.read(lambda tx: _newest(tx, task.id))}


def _newest(tx: Tx, task_id: str) -> Checkpoint | None:
    found = tx[Checkpoints].find(Checkpoints.task_id.eq(task_id), limit=1)
    return found[0] if found else None


METHODS = (
    Method(
        "checkpoint.save",
        Save,
        {"turn_number": int, "id": str},
        save,
        "A run keeps where it can be resumed.",
        Right.RUN,
        writes=True,
        telling=True,
    ),
    Method(
        "checkpoint.get",
        Get,
        {"checkpoint": Checkpoint | None},
        get,
        "The last checkpoint of a task, whichever run saved it.",
        Right.RUN,
    ),
)
