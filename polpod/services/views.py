"""How tasks and runs look from outside: their fields, and what is computed from their surroundings (DESIGN §10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from polpod.model.runs import Run
from polpod.model.tasks import OCCUPYING, Spec, Task, TaskStatus
from polpod.rules.waiting import Surroundings, state
from polpod.services.instance import Instance
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Specs, Tasks

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


def fitting(page: list[T]) -> list[T]:
    """The first entries of a page, one at least, that make up no more than PAGE_BYTES."""
    size = 0
    for number, entry in enumerate(page):
        size += len(msgspec.json.encode(entry))
        if number and size > PAGE_BYTES:
            return page[:number]
    return page


class Unmet(NamedTuple):
    """What a task still waits for."""

    tasks: list[Task]
    quarantined: list[str]
    """Ids: only a row that was set aside goes while another task waits for it."""


def unmet_ids(tx: Tx, task: Task) -> list[str]:
    """The ids of the tasks that this one still waits for."""
    if not task.unmet:
        return []
    return [d.on_id for d in tx[Dependencies].find(Dependencies.task_id.eq(task.id)) if not d.met]


def unmet_dependencies(tx: Tx, task: Task) -> Unmet:
    found = {name: tx[Tasks].get(name) for name in unmet_ids(tx, task)}
    return Unmet([t for t in found.values() if t is not None], [name for name, t in found.items() if t is None])


async def live_runs(instance: Instance, tasks: Iterable[Task]) -> Mapping[str, Run]:
    """The live runs of those tasks that have one, by task id."""
    ids = [t.run_id for t in tasks if t.status in OCCUPYING and t.run_id is not None]
    if not ids:
        return {}
    runs = await instance.runs.read(lambda tx: tx.many(ids))
    return {r.task_id: r for r in runs if r.live}


def surroundings(task: Task, unmet: Unmet, run: Run | None, stuck: frozenset[int]) -> Surroundings:
    is_stuck = task.run_id in stuck and task.status is TaskStatus.IN_PROGRESS
    return Surroundings(unmet.tasks, run, is_stuck, unmet.quarantined)


def task_view(task: Task, around: Surroundings) -> dict[str, Any]:
    """The task's fields and its `state`."""
    fields: dict[str, Any] = msgspec.to_builtins(task)
    return fields | {"state": state(task, around)}


def spec_view(tx: Tx, spec_id: str | None, *, with_values: bool) -> dict[str, Any] | None:
    """What is executed; of the environment the names, and the values only on request (DESIGN §5, F84)."""
    stored = tx[Specs].get(spec_id) if spec_id else None
    if stored is None:
        return None
    spec: Spec = stored.spec
    env: object = spec.env if with_values else sorted(spec.env)
    return {
        "command": spec.command,
        "shell": spec.shell,
        "cwd": spec.cwd,
        "env": env,
        "umask": spec.umask,
        "stdin": spec.stdin,
    }


def run_view(run: Run) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(run)
    return {name: value for name, value in fields.items() if name not in _HIDDEN}
