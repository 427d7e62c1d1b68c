"""Tasks, as the page's TaskStore has them: functions of a transaction on the daemon's own table.

Rules:

1. A change is the rules' (rules/tasks.py), and its journal events are stored with it: invariant 8 knows no exception.
2. Only tasks of polpod's own are seen; those of another owner in the same table are as if they were not there.
3. A task that may have a live run keeps its status until that run is collected: a daemon answers for it (`Conflict`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from polpod.contracts.taskstore import said
from polpod.contracts.taskstore.said import now
from polpod.errors import Conflict, InvalidRequest, NotFound, TooLarge
from polpod.model.changes import Change
from polpod.model.entity import types_of
from polpod.model.events import Event
from polpod.model.polpo.tasks import NewTask
from polpod.model.tasks import Task, TaskResult, TaskStatus, changed
from polpod.rules import tasks as rules
from polpod.rules.tasks import event, walk
from polpod.store import changes, queries
from polpod.store.records import Tx
from polpod.store.tables import OWNER, Tasks

BY = "TaskStore"
"""Who did it, in the journal."""

LARGEST_TASK = 2**20
"""Bytes of JSON: with what it executes, and its runs, it fits into one answer of the daemon (DESIGN §9)."""

_OWN_NAMES = {"assign_to": "assigned_to"}
"""The page's name of a field, where polpod has another."""

_KINDS = {name: kind for name, kind in types_of(NewTask).items() if name != "status"} | {
    "retries": types_of(Task)["retries"]
}
_DEFAULTS = said.defaults_of(NewTask) | {"retries": 0}


def add_task(tx: Tx, /, task: Mapping[str, object] | None = None, **fields: object) -> Task:
    """Store a new task, pending or draft, given as a mapping or by keywords (model/polpo/tasks.py).

    Raises InvalidRequest, naming the field; NotFound for a dependency that is not there.
    """
    new = said.entity(NewTask, _fields(task, fields))
    at = now()
    on_ids = tuple(dict.fromkeys(new.depends_on))
    met = changes.dependencies(tx, on_ids)
    values = structs.asdict(new) | {"depends_on": on_ids, "unmet": list(met.values()).count(False)}
    added = Task(id=queries.next_task_id(tx), seq=queries.next_task_seq(tx), created_at=at, updated_at=at, **values)
    return changes.add(tx, Change(fitting(added), (created(added),)), met)


def get_task(tx: Tx, task_id: str) -> Task | None:
    """The task; None: there is none of that id."""
    return queries.own(tx, task_id)


def get_all_tasks(tx: Tx) -> list[Task]:
    """All tasks, in order of creation."""
    return tx[Tasks].find(Tasks.owner.eq(OWNER))


def update_task(tx: Tx, /, task_id: str, updates: Mapping[str, object] | None = None, **fields: object) -> Task:
    """Change the named fields alone; None or UNSET clears one.

    Raises NotFound; InvalidRequest for `id`, `status`, and any other field that is not the caller's to set; Conflict for
    a dependency on a task that waits for this one.
    """
    task = required(tx, task_id)
    values = said.update(_fields(updates, fields), _KINDS, _DEFAULTS)
    names = sorted(values)
    if "depends_on" in values:
        values |= changes.rewire(tx, task, tuple(dict.fromkeys(values["depends_on"])))
    updated = fitting(changed(task, now(), **values))
    told = event(updated, "task:updated", updated.updated_at, fields=names, by=BY)
    return changes.apply(tx, Change(updated, (told,)))


def remove_task(tx: Tx, task_id: str) -> bool:
    """Whether there was a task.  Raises Conflict: it may have a live run, or another task waits for it."""
    task = get_task(tx, task_id)
    if task is not None:
        _forget(tx, [task])
    return task is not None


def remove_tasks(tx: Tx, filter: Callable[[Task], bool]) -> int:
    """Remove all tasks for which the function says so, or none; how many there were.  Raises as `remove_task` does.

    It is called within the transaction, perhaps twice for a task, and must not use the store.
    """
    going = [task for task in get_all_tasks(tx) if filter(task)]
    _forget(tx, going)
    return len(going)


def transition(tx: Tx, task_id: str, new_status: str) -> Task:
    """Walk one edge of the state machine; `failed` → `pending` counts as a retry.

    Raises NotFound; InvalidTransition, naming what is allowed; Conflict: it may have a live run.
    """
    task, to = _movable(tx, task_id), _status(new_status)
    return _moved(tx, task, walk(task, now(), to, **_with_status(to)))


def unsafe_set_status(tx: Tx, task_id: str, new_status: str, reason: str) -> Task:
    """Overrule the state machine; the journal keeps why.

    Raises NotFound; InvalidRequest without a reason; Conflict: it may have a live run.
    """
    task, to, at = _movable(tx, task_id), _status(new_status), now()
    if not said.value("reason", reason, str).strip():
        raise InvalidRequest("reason: unsafe_set_status needs one", "$.reason")
    overruled = rules.unsafe_set_status(task, to, reason, at)
    return _moved(tx, task, Change(structs.replace(overruled.task, **_with_status(to)), overruled.events))


def required(tx: Tx, task_id: str) -> Task:
    """The task.  Raises NotFound."""
    task = get_task(tx, task_id)
    if task is None:
        raise NotFound(f"Task not found: {changes.absent(tx, task_id)}")
    return task


def _fields(given: Mapping[str, object] | None, named: Mapping[str, object]) -> dict[str, object]:
    values = {_OWN_NAMES.get(name, name): value for name, value in said.fields(given, named).items()}
    if isinstance(values.get("result"), Struct | Mapping):
        values["result"] = _result(said.fields(values["result"], {}))  # type: ignore[arg-type] # as was just asked
    return values


def _result(values: dict[str, object]) -> dict[str, object]:
    """A result that no run of polpod's gave (run 0), with the defaults of one that exited by itself."""
    said.known(values, types_of(TaskResult))
    status = "completed" if values.get("exit_code") in (None, 0) else "failed"
    return {"run_id": 0, "status": status, "reason": "exited"} | values


def created(task: Task) -> Event:
    """The event of a new task."""
    return event(task, "task:created", task.created_at, title=task.title, queue=task.queue, status=task.status)


def fitting(task: Task) -> Task:
    """Raises TooLarge for a task that a daemon could not show."""
    if (size := len(msgspec.json.encode(task))) > LARGEST_TASK:
        raise TooLarge(f"task {task.id}: {size} bytes, and at most {LARGEST_TASK}; put large texts into a file")
    return task


def _status(word: str) -> TaskStatus:
    status: TaskStatus = said.value("status", word, TaskStatus)
    return status


def _with_status(to: TaskStatus) -> dict[str, Any]:
    """What goes with a status: whose end was asked for is not tried again by itself (F48)."""
    match to:
        case TaskStatus.PENDING:
            return {"cancelled_by": None}
        case TaskStatus.CANCELLED:
            return {"cancelled_by": BY}
    return {}


def _movable(tx: Tx, task_id: str) -> Task:
    task = required(tx, task_id)
    if task.may_have_live_run:
        raise live(task)
    return task


def _moved(tx: Tx, task: Task, change: Change) -> Task:
    moved = changes.apply(tx, change)
    if task.status is TaskStatus.DONE and moved.status is not TaskStatus.DONE:
        changes.undo_done(tx, task.id, moved.updated_at)
    return moved


def _forget(tx: Tx, tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.may_have_live_run:
            raise live(task)
    changes.remove(tx, tasks, now(), BY)


def live(task: Task) -> Conflict:
    """Why that cannot be done to a task that may have a live run."""
    return Conflict(f"task {task.id} may have a live run ({task.run_id}): start polpod, which knows, and ask it")
