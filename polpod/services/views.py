"""How tasks and runs look from outside: their fields, and what is computed from their surroundings (DESIGN §10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from polpod.model.executions import IDLE, Barrier, Execution
from polpod.model.polpo.approvals import ApprovalRequest
from polpod.model.runs import Run
from polpod.model.tasks import Spec, Task, TaskStatus
from polpod.rules.waiting import Surroundings, state
from polpod.services.instance import Instance
from polpod.store import queries, spending
from polpod.store.missions import Barriers, Executions
from polpod.store.polpo import Approvals
from polpod.store.records import Tx
from polpod.store.tables import Specs, Tasks

T = TypeVar("T")

_HIDDEN = {
    "nonce",
    "token_hash",
    "seen_at",
    "collected_at",
    "claim_until_mono",
    "started_mono",
    "kill_mono",
    "kill_boot",
}
"""Secrets and bookkeeping; the rest of a run is for everyone who may see the task."""


PAGE_BYTES = 3 * 2**20
"""JSON of a page: with what is around it, it fits into one message (DESIGN §9)."""


def fitting(page: list[T], most: int = PAGE_BYTES) -> list[T]:
    """The first entries of a page, one at least, that make up no more than so many bytes."""
    size = 0
    for number, entry in enumerate(page):
        size += len(msgspec.json.encode(entry))
        if number and size > most:
            return page[:number]
    return page


class Unmet(NamedTuple):
    """What a task still waits for."""

    tasks: list[Task]
    quarantined: list[str]
    """Ids: only a row that was set aside goes while another task waits for it."""
    barriers: list[Barrier]
    idle: Execution | None
    """Its execution, where nothing of that starts now."""
    approval: ApprovalRequest | None
    """The one that is pending about it."""
    over_budget: str | None
    """Its project, where that spent too much."""


def unmet_ids(tx: Tx, task: Task) -> list[str]:
    """The ids of the tasks that this one still waits for."""
    return [edge.on_id for edge in queries.unmet(tx, task.id) if not edge.barrier] if task.unmet else []


def unmet_dependencies(tx: Tx, task: Task) -> Unmet:
    edges = queries.unmet(tx, task.id) if task.unmet else []
    found = {edge.on_id: tx[Tasks].get(edge.on_id) for edge in edges if not edge.barrier}
    barriers = {edge.on_id: tx[Barriers].get(edge.on_id) for edge in edges if edge.barrier}
    execution = None
    if task.execution_id is not None and task.status in (TaskStatus.PENDING, TaskStatus.REVIEW):
        execution = tx[Executions].get(task.execution_id)
    return Unmet(
        [other for other in found.values() if other is not None],
        [name for name, other in (found | barriers).items() if other is None],
        [barrier for barrier in barriers.values() if barrier is not None],
        execution if execution is not None and execution.status in IDLE else None,
        tx[Approvals].get(task.approval_id) if task.approval_id is not None else None,
        task.project if _over_budget(tx, task) else None,
    )


def _over_budget(tx: Tx, task: Task) -> bool:
    waits = task.status is TaskStatus.PENDING and task.project is not None
    return waits and spending.is_over(tx, task.project or "") is not None


async def live_runs(instance: Instance, tasks: Iterable[Task]) -> Mapping[str, Run]:
    """The live runs of those tasks that have one, by task id."""
    ids = [t.run_id for t in tasks if t.occupies and t.run_id is not None]
    if not ids:
        return {}
    runs = await instance.runs.read(lambda tx: tx.many(ids))
    return {r.task_id: r for r in runs if r.live}


def surroundings(task: Task, unmet: Unmet, run: Run | None, stuck: frozenset[int]) -> Surroundings:
    is_stuck = task.run_id in stuck and task.occupies
    return Surroundings(
        unmet.tasks, run, is_stuck, unmet.quarantined, unmet.barriers, unmet.idle, unmet.approval, unmet.over_budget
    )


def task_view(task: Task, around: Surroundings) -> dict[str, Any]:
    """The task's fields and its `state`, and the request for `approval` that is pending; `unmet` is counted anew."""
    fields: dict[str, Any] = msgspec.to_builtins(task)
    unmet = len(around.dependencies) + len(around.quarantined) + len(around.barriers)
    approval = msgspec.to_builtins(around.approval)
    return fields | {"state": state(task, around), "unmet": unmet, "approval": approval}


def spec_view(tx: Tx, spec_id: str | None, *, with_values: bool) -> dict[str, Any] | None:
    """What is executed; of the environment the names, and the values only on request (DESIGN §5, F84)."""
    stored = tx[Specs].get(spec_id) if spec_id else None
    if stored is None:
        return None
    spec: Spec = stored.spec
    env: object = spec.environment if with_values else sorted(spec.environment)
    return {
        "command": spec.command,
        "shell": spec.shell,
        "cwd": spec.cwd,
        "env": env,
        "umask": spec.umask,
        "stdin": spec.stdin,
        "prompt": None if spec.agent is None else spec.agent.prompt,
    }


def run_view(run: Run) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(run)
    command = None if run.command is None else msgspec.json.decode(run.command)
    return {name: value for name, value in fields.items() if name not in _HIDDEN} | {"command": command}
