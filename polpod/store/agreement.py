"""The invariants across both databases (DESIGN §14), seen from their rows at one moment.

Between launching a run and collecting its result the two files differ on purpose, in an order that makes every such
difference one that recovery understands (DESIGN §6); those are no findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from polpod.model.executions import BarrierState
from polpod.model.tasks import Dependency, TaskStatus
from polpod.runner import contract
from polpod.store.findings import Finding, note, problem
from polpod.store.missions import Barriers
from polpod.store.sqlite import Connection
from polpod.store.tables import OWNER, Dependencies, Quarantine, Specs, Tasks

_BOTH = "both"

_DOC = "CAST(doc AS BLOB)"
"""As bytes: a name in it that means nothing may be no UTF-8, and the record decodes all the same."""


class _Task(Struct, frozen=True):
    """What is compared of a task."""

    status: TaskStatus
    run_id: int | None
    waits: bool
    spec_id: str | None
    finished: bool
    occupies: bool


class _Run(Struct, frozen=True):
    task_id: str
    status: str
    kill_reason: str | None
    collected: bool


def disagreements(tasks: Connection, runs: Connection, served: bool) -> list[Finding]:
    """What is wrong between the rows of two databases that are each in order; `served`: a daemon has them open."""
    known, work = _tasks(tasks), _runs(runs)
    edges = [Dependencies.entity_of(doc) for (doc,) in tasks.execute(f"SELECT {_DOC} FROM {Dependencies.name}")]
    aside = {subject for (subject,) in tasks.execute(f"SELECT subject FROM {Quarantine.name}")}
    specs = {spec_id for (spec_id,) in tasks.execute(f"SELECT id FROM {Specs.name}")}
    return [
        *_one_live_run(work),
        *_progress_has_a_run(known, work, served),
        *_live_runs_are_wanted(known, work, aside, served),
        *_unmet_is_right(known, edges, aside, _open_barriers(tasks)),
        *_specs_are_there(known, specs),
    ]


def _tasks(db: Connection) -> dict[str, _Task]:
    found = {}
    for (doc,) in db.execute(f"SELECT {_DOC} FROM {Tasks.name} WHERE owner = ?", (OWNER,)):
        task = Tasks.entity_of(doc)
        found[task.id] = _Task(task.status, task.run_id, task.unmet > 0, task.spec_id, task.finished, task.occupies)
    return found


def _open_barriers(db: Connection) -> set[str]:
    barriers = (Barriers.entity_of(doc) for (doc,) in db.execute(f"SELECT {_DOC} FROM {Barriers.name}"))
    return {barrier.id for barrier in barriers if barrier.state is BarrierState.OPEN}


def _runs(db: Connection) -> dict[int, _Run]:
    rows = db.execute("SELECT id, task_id, status, kill_reason, collected_at IS NOT NULL FROM runs")
    return {run_id: _Run(task_id, status, kill, bool(collected)) for run_id, task_id, status, kill, collected in rows}


def _one_live_run(runs: dict[int, _Run]) -> Iterator[Finding]:
    live = Counter(run.task_id for run in runs.values() if run.status in contract.LIVE)
    for task_id, number in live.items():
        if number > 1:
            yield problem(_BOTH, f"task {task_id} has {number} live runs", "repair")


def _progress_has_a_run(tasks: dict[str, _Task], runs: dict[int, _Run], served: bool) -> Iterator[Finding]:
    """Who takes a slot has a run that lives, or one whose outcome is still to be applied (invariant 13)."""
    for task_id, task in tasks.items():
        if not task.occupies:
            continue
        run = runs.get(task.run_id) if task.run_id is not None else None
        if run is None:
            what = "without a run" if task.run_id is None else f"with run {task.run_id}, which runs.db does not have"
            yield _settled_by_start(f"task {task_id} is {task.status} {what}", served)
        elif run.task_id != task_id:
            yield problem(
                _BOTH, f"task {task_id} is {task.status} with run {task.run_id}, of task {run.task_id}", "repair"
            )
        elif run.collected:
            yield _settled_by_start(
                f"task {task_id} is {task.status}, and its run {task.run_id} was {run.status} and collected", served
            )


def _live_runs_are_wanted(
    tasks: dict[str, _Task], runs: dict[int, _Run], aside: set[str], served: bool
) -> Iterator[Finding]:
    """A run that was claimed belongs to the task that is in progress with it, or is being ended, or nobody can say."""
    for run_id, run in runs.items():
        if run.status != "running" or run.kill_reason is not None or f"{Tasks.noun}/{run.task_id}" in aside:
            continue
        task = tasks.get(run.task_id)
        if task is None or not task.occupies or task.run_id != run_id:
            state = "is not there" if task is None else f"is {task.status} with run {task.run_id}"
            yield _settled_by_start(f"run {run_id} is running, and its task {run.task_id} {state}", served)


def _unmet_is_right(
    tasks: dict[str, _Task], edges: list[Dependency], aside: set[str], opened: set[str]
) -> Iterator[Finding]:
    """A task that was set aside holds up what depends on it (store/quarantine.py)."""
    unmet: Counter[str] = Counter()
    for edge in edges:
        unmet[edge.task_id] += not edge.met
        if edge.barrier:
            if edge.met is not (edge.on_id in opened):
                waits = "does not wait" if edge.met else "still waits"
                yield problem(_BOTH, f"task {edge.task_id} {waits} for {edge.on_id}, wrongly", "repair")
            continue
        on = tasks.get(edge.on_id)
        met = f"{Tasks.noun}/{edge.on_id}" not in aside if on is None else on.status is TaskStatus.DONE
        if edge.met != met:
            waits = "does not wait" if edge.met else "still waits"
            state = "gone" if on is None else on.status
            yield problem(_BOTH, f"task {edge.task_id} {waits} for task {edge.on_id}, which is {state}", "repair")
    for task_id, task in tasks.items():
        if task.waits is not (unmet[task_id] > 0):
            waits = "waits" if task.waits else "does not wait"
            yield problem(_BOTH, f"task {task_id} {waits}, and has {unmet[task_id]} unmet dependencies", "repair")


def _specs_are_there(tasks: dict[str, _Task], specs: set[str]) -> Iterator[Finding]:
    for task_id, task in tasks.items():
        if task.spec_id is not None and task.spec_id not in specs and not task.finished:
            yield problem(_BOTH, f"what task {task_id} executes is lost, so it cannot start", "remove", task_id)


def _settled_by_start(says: str, served: bool) -> Finding:
    return problem(_BOTH, says, "restart") if served else note(_BOTH, f"{says}; the next start settles that", "start")
