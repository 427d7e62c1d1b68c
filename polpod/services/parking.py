"""What a task's next run needs to go on where the last one stopped to ask a person (ParkedContext).

It is kept in the transaction in which the task comes to wait, and given to the next run as a file, whose name that run
finds in its environment as POLPO_CONTEXT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec import structs

from polpod.model.organisation.runtime import ParkedContext
from polpod.model.runs import Run
from polpod.model.tasks import Task, TaskStatus
from polpod.rules.metrics import agent_of
from polpod.services import bookkeeping
from polpod.store.organisation import Checkpoints, ParkedContexts
from polpod.store.polpo import Approvals
from polpod.store.records import Tx
from polpod.store.tables import Tasks


def park(tx: Tx, task: Task, run: Run, at: datetime) -> None:
    """The task, as it is stored, after the run: where it waits for a person now, keep what it stood at."""
    if task.status is not TaskStatus.AWAITING_APPROVAL or task.approval_id is None:
        return
    newest = tx[Checkpoints].find(Checkpoints.task_id.eq(task.id), limit=1)
    context = {
        "task_id": task.id,
        "run_id": run.id,
        "attempt": run.attempt,
        "checkpoint": json.loads(newest[0].context_json) if newest else None,
        "spent": task.spent,
        "result": task.result,
    }
    if task.context_id is not None:
        tx[ParkedContexts].delete(task.context_id)
    kept = ParkedContext(
        id=f"context-{task.approval_id}",
        execution_id=bookkeeping.execution_id(run.id),
        agent_id=agent_of(task),
        task_id=task.id,
        approval_id=task.approval_id,
        parked_at=at,
        context_json=msgspec.json.encode(context).decode(),
    )
    tx[ParkedContexts].save(kept)
    tx[Tasks].save(structs.replace(task, context_id=kept.id))


def contexts(tx: Tx, tasks: Iterable[Task]) -> dict[str, bytes]:
    """What is kept for these tasks' next runs, as JSON, by task id: with what the person said."""
    return {task.id: text for task in tasks if (text := _context(tx, task)) is not None}


def _context(tx: Tx, task: Task) -> bytes | None:
    kept = tx[ParkedContexts].get(task.context_id) if task.context_id is not None else None
    if kept is None:
        return None
    context: dict[str, object] = json.loads(kept.context_json)
    request = tx[Approvals].get(kept.approval_id)
    if request is not None:
        names = ("id", "kind", "message", "status", "feedback", "resolved_by")
        context["approval"] = {name: getattr(request, name) for name in names}
    return msgspec.json.encode(context)
