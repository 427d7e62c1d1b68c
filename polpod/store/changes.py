"""How tasks come, change and go, as rows: each with its events, its dependencies, and what it unblocks.

Rules:

1. Everything here happens in the transaction of the caller: a task never comes or changes without its events
   (invariant 8), nor without what it means for those that wait for it.
2. A dependency is met if and only if the task that it names is done, or was and is gone.
3. What may happen is decided elsewhere (rules/): these are the rows of it.
4. A task takes along what was kept of its work: metrics, costs, checkpoints, artifacts, approvals.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import structs

from polpod.errors import Conflict, NotFound
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.executions import Unsettled
from polpod.model.tasks import Dependency, Task, TaskStatus, changed
from polpod.store import approvals, organisation, quarantine, queries
from polpod.store.a2a import A2AAssignments
from polpod.store.missions import BarrierTasks, UnsettledTasks
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Events, Tasks


def require(tx: Tx, task_id: str) -> Task:
    """The task, one of polpod's own.  Raises NotFound."""
    task = queries.own(tx, task_id)
    if task is None:
        raise absent(tx, task_id)
    return task


def absent(tx: Tx, *task_ids: str) -> NotFound:
    """Why there are no tasks of these ids: nobody made them, or their rows were set aside (F10)."""
    kept = {i: row for i in task_ids if (row := quarantine.of_task(tx, i)) is not None}
    why = [
        f"task {i} is quarantined: its record cannot be read ({row.problem}); it is kept in the table quarantine"
        for i, row in kept.items()
    ]
    if unknown := ", ".join(i for i in task_ids if i not in kept):
        why.insert(0, f"there is no task {unknown}")
    return NotFound("; ".join(why))


def dependencies(tx: Tx, on_ids: Sequence[str]) -> Mapping[str, bool]:
    """Each of the tasks that a new one shall wait for, and whether it is done.  Raises NotFound."""
    met = {}
    for on_id in on_ids:
        try:
            met[on_id] = require(tx, on_id).status is TaskStatus.DONE
        except NotFound as exc:
            raise NotFound(f"depends_on: {exc}") from exc
    return met


def add(tx: Tx, change: Change, met: Mapping[str, bool]) -> Task:
    """Store a new task that waits for these others; its `unmet` must say how many are not done.  Returns it, as `apply`."""
    task = apply(tx, change)
    depend(tx, task.id, met)
    return task


def depend(tx: Tx, task_id: str, met: Mapping[str, bool]) -> None:
    """Let a task that waits for nobody wait for these others."""
    for on_id, done in met.items():
        tx[Dependencies].add(Dependency(task_id=task_id, on_id=on_id, met=done))


def apply(tx: Tx, change: Change) -> Task:
    """Store the change; a task that became done is met as a dependency by all that wait for it.

    Returns the task as it is stored: with the request for approval that it waits for, if it does.
    """
    change = approvals.followed(tx, change)
    if change.task.execution_id is not None:
        _unsettle(tx, change.task, change.task.execution_id)
    if change.task.a2a_id is not None:
        _fall_behind(tx, change.task.id)
    tx[Tasks].save(change.task)
    for event in change.events:
        tx.append(Events, event)
    if change.task.status is TaskStatus.DONE:
        meet(tx, change.task.id, change.task.updated_at, met=True)
    return change.task


def undo_done(tx: Tx, task_id: str, at: datetime) -> None:
    """A task that was done is so no more: all that depend on it wait again."""
    meet(tx, task_id, at, met=False)


def note(tx: Tx, at: datetime, kind: str, subject: str, **body: object) -> None:
    """An event that goes with no change of a task."""
    tx.append(Events, Event(at=at, kind=kind, subject=subject, body=body))


def rewire(tx: Tx, task: Task, on_ids: Sequence[str]) -> dict[str, object]:
    """Let the task wait for these others and for no more, but for the barriers of its mission; the values that it has then.

    Raises NotFound; Conflict where one of them waits for it, or is none of its mission's (invariant 12).
    """
    barriers = [d for d in tx[Dependencies].find(Dependencies.task_id.eq(task.id)) if d.barrier]
    unmet = sum(not barrier.met for barrier in barriers)
    tx[Dependencies].delete_where(Dependencies.task_id.eq(task.id))
    for barrier in barriers:
        tx[Dependencies].add(barrier)
    seen: set[str] = set()
    for on_id in on_ids:
        other = require(tx, on_id)
        if task.execution_id not in (None, other.execution_id):
            raise Conflict(f"task {task.id} cannot depend on {on_id}: that is none of execution {task.execution_id}")
        if _reaches(tx, on_id, task.id, seen):
            raise Conflict(f"task {task.id} cannot depend on {on_id}, which waits for it")
        met = other.status is TaskStatus.DONE
        unmet += not met
        tx[Dependencies].add(Dependency(task_id=task.id, on_id=on_id, met=met))
    return {"depends_on": tuple(on_ids), "unmet": unmet}


def remove(tx: Tx, tasks: Sequence[Task], at: datetime, by: str) -> None:
    """Forget tasks that do not run; their ids are never used again.

    Raises Conflict, with nothing removed, where one of them has to stay.
    """
    going = {task.id for task in tasks}
    for task in tasks:
        if (reason := stays(tx, task, going)) is not None:
            raise Conflict(reason)
    for task in tasks:
        tx[Dependencies].delete_where(Dependencies.task_id.eq(task.id))
        tx[Dependencies].delete_where(Dependencies.on_id.eq(task.id))
    for task in tasks:
        tx[organisation.TaskMetrics].delete_where(organisation.TaskMetrics.task_id.eq(task.id))
        tx[organisation.CostRecords].delete_where(organisation.CostRecords.task_id.eq(task.id))
        tx[organisation.Checkpoints].delete_where(organisation.Checkpoints.task_id.eq(task.id))
        tx[organisation.Artifacts].delete_where(organisation.Artifacts.task_id.eq(task.id))
        if task.execution_id is not None:
            tx[UnsettledTasks].save(Unsettled(task.id, task.execution_id))
        if task.a2a_id is not None:
            _fall_behind(tx, task.id)
        tx[Tasks].delete(task.id)
        queries.let_go_of_spec(tx, task.spec_id)
        for event in approvals.forget(tx, f"task/{task.id}", at, by):
            tx.append(Events, event)
        about = {name: value for name in ("execution_id", "a2a_id") if (value := getattr(task, name)) is not None}
        note(tx, at, "task:removed", f"task/{task.id}", status=task.status, queue=task.queue, by=by, **about)


def stays(tx: Tx, task: Task, going: Collection[str] = ()) -> str | None:
    """Why the task has to stay, if it has to: one that is not `going`, too, waits for it."""
    waiting = () if task.status is TaskStatus.DONE else queries.dependents_of(tx, task.id)
    for dependency in waiting:
        if dependency.task_id not in going:
            return f"task {task.id} is what task {dependency.task_id} waits for: remove that first"
    return None


def _unsettle(tx: Tx, task: Task, execution_id: str) -> None:
    """Where a task of an execution comes to another stage, or goes: what follows is found out by who settles missions."""
    before = tx[Tasks].get(task.id)
    if before is not None and Tasks.stage.get(before) != Tasks.stage.get(task):
        tx[UnsettledTasks].save(Unsettled(task.id, execution_id))


def _fall_behind(tx: Tx, task_id: str) -> None:
    """The A2A task that it works on does not say how it stands any more: services/assignments.py brings it up to date."""
    assignment = tx[A2AAssignments].get(task_id)
    if assignment is not None and not assignment.behind:
        tx[A2AAssignments].save(structs.replace(assignment, behind=True))


def _reaches(tx: Tx, start: str, goal: str, seen: set[str]) -> bool:
    """Whether the task waits for the goal, through tasks and closed barriers that are not `seen` yet; they are then."""
    todo = [start]
    while todo:
        waiting = todo.pop()
        if waiting == goal:
            return True
        if waiting in seen:
            continue
        seen.add(waiting)
        for on in tx[Dependencies].find(Dependencies.task_id.eq(waiting)):
            if not on.barrier:
                todo.append(on.on_id)
            elif not on.met and on.on_id not in seen:
                seen.add(on.on_id)
                todo += (edge.task_id for edge in tx[BarrierTasks].find(BarrierTasks.barrier_id.eq(on.on_id)))
    return False


def meet(tx: Tx, on_id: str, at: datetime, *, met: bool) -> None:
    """What a task or a barrier is to those that wait for it.

    What waits for others still is not read: its record may name ten thousand.
    """
    for waiting in queries.dependents_of(tx, on_id):
        if waiting.met is met:
            continue
        tx[Dependencies].save(structs.replace(waiting, met=met))
        if met and queries.waits(tx, waiting.task_id):
            continue
        dependent = tx[Tasks].get(waiting.task_id)
        if dependent is not None and bool(dependent.unmet) is met:
            dependent = changed(dependent, at, unmet=int(not met))
            if dependent.execution_id is not None:
                _unsettle(tx, dependent, dependent.execution_id)
            tx[Tasks].save(dependent)
