"""The state of a project as one: its tasks, and what is kept beside them.

Rule: `set_state` is one transaction.  What polpod knows by itself (runs, what a task executes, its place in the order) is
never taken from what is handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from msgspec import Struct, structs

from polpod.contracts.taskstore import said
from polpod.contracts.taskstore.tasks import BY, created, fitting, get_all_tasks, live
from polpod.errors import InvalidRequest
from polpod.model.changes import Change
from polpod.model.entity import types_of
from polpod.model.polpo.state import PolpoState, Project
from polpod.model.tasks import Task, TaskStatus
from polpod.rules import tasks as rules
from polpod.rules.tasks import event
from polpod.store import changes, queries
from polpod.store.polpo import SOLE, Projects, Sole
from polpod.store.records import Tx
from polpod.store.tables import OWNER, Dependencies, Tasks

_OURS = (
    *("seq", "spec_id", "created_by", "idempotency_key", "run_id", "applied_run", "started_boot"),
    *("approval_id", "question", "context_id", "spent", "over_budget"),
)
"""Fields of a task that `set_state` leaves as they are, or unset."""


def get_state(tx: Tx) -> PolpoState:
    """Everything: empty where nothing was stored."""
    return PolpoState(**structs.asdict(_project(tx)), tasks=tuple(get_all_tasks(tx)))


def set_state(tx: Tx, /, partial: Mapping[str, object] | PolpoState | None = None, **fields: object) -> None:
    """Store what is named, and leave the rest; `tasks`, `teams` and `processes` are replaced as a whole.

    `tasks` are then there with their ids and statuses, and no others; new ones come after all that were there, in the
    order of their `created_at`.  None clears.  Raises InvalidRequest: a field, a task of another owner, an id named twice,
    a dependency that is not among them, or that waits for its own; Conflict: that would end, or change the status of, a task that may have a live
    run.  Then nothing is changed.
    """
    values = said.fields(partial, fields)
    said.known(values, types_of(PolpoState))
    tasks = values.pop("tasks", None)
    if values:
        kinds: Mapping[str, Any] = types_of(Project)
        said_values = said.update(values, kinds, said.defaults_of(Project))
        tx[Projects].save(Sole(SOLE, structs.replace(_project(tx), **said_values)))
        changes.note(tx, said.now(), "project:updated", "project", fields=sorted(values), by=BY)
    if tasks is not None:
        _replace_tasks(tx, said.value("tasks", tasks, tuple[Task, ...]))


def _project(tx: Tx) -> Project:
    stored = tx[Projects].get(SOLE)
    return Project() if stored is None else stored.value


def _replace_tasks(tx: Tx, tasks: Sequence[Task]) -> None:
    wanted = {task.id: task for task in tasks}
    there = {task.id: task for task in get_all_tasks(tx)}
    if len(wanted) < len(tasks):
        raise InvalidRequest("tasks: an id is named twice", "$.tasks")
    for task in tasks:
        if task.owner != OWNER or (task.id not in there and tx[Tasks].count(Tasks.id.eq(task.id))):
            raise InvalidRequest(f"tasks: task {task.id} is another owner's", "$.tasks")
    waits = {task.id: _dependencies(task, there, wanted) for task in tasks}
    _refuse_cycle(waits)
    for task in there.values():
        if task.may_have_live_run and (task.id not in wanted or wanted[task.id].status is not task.status):
            raise live(task)
        tx[Dependencies].delete_where(Dependencies.task_id.eq(task.id))  # they would follow each task as it is put
    changes.remove(tx, [task for task in there.values() if task.id not in wanted], said.now(), BY)
    for task in sorted(tasks, key=lambda t: (t.created_at, t.seq)):
        _put(tx, task, there.get(task.id), list(waits[task.id].values()).count(False))
    for task_id, met in waits.items():
        changes.depend(tx, task_id, met)


def _dependencies(task: Task, there: Mapping[str, Task], wanted: Mapping[str, Task]) -> dict[str, bool]:
    """What the task waits for, and what of it is done; what was there, and is gone, is left out."""
    before: Collection[str] = there[task.id].depends_on if task.id in there else ()
    for on_id in task.depends_on:
        if on_id not in wanted and (on_id in there or on_id not in before):
            raise InvalidRequest(f"tasks: task {task.id} depends on {on_id}, which is not there", "$.tasks")
    return {on_id: wanted[on_id].status is TaskStatus.DONE for on_id in task.depends_on if on_id in wanted}


def _refuse_cycle(waits: Mapping[str, Mapping[str, bool]]) -> None:
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as exc:
        raise InvalidRequest(f"tasks: these wait for each other: {', '.join(exc.args[1][1:])}", "$.tasks") from exc


def _put(tx: Tx, task: Task, there: Task | None, unmet: int) -> None:
    if there is None:
        ours = {name: value for name, value in _UNSET.items() if name != "seq"}
        task = structs.replace(task, **ours, seq=queries.next_task_seq(tx), unmet=unmet)
        queries.note_client_id(tx, task.id)
        changes.apply(tx, Change(fitting(task), (created(task),)))
        return
    task = structs.replace(task, **{name: getattr(there, name) for name in _OURS}, unmet=unmet)
    if task == there:
        return
    at = said.now()
    different = [name for name in _fields(task) if getattr(task, name) != getattr(there, name)]
    moved = rules.unsafe_set_status(there, task.status, "set_state", at).events if "status" in different else ()
    updated = event(task, "task:updated", at, fields=different, by=BY)
    changes.apply(tx, Change(fitting(structs.replace(task, version=there.version + 1)), (updated, *moved)))


def _fields(entity: Struct) -> Sequence[str]:
    return entity.__struct_fields__


_UNSET = {name: default for name, default in said.defaults_of(Task).items() if name in _OURS}
