"""What people do to tasks: cancel, retry, remove, hold, release, edit.

Each operation is one body of the task store for one task; what a live run makes impossible is refused with `conflict`.
Only cancelling reaches further: a live run is ended first, and the task becomes cancelled when its run is over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import UNSET, Struct, UnsetType, structs

from polpod.config import Config
from polpod.errors import Conflict, InvalidTransition, RequestError
from polpod.model.changes import Change
from polpod.model.expectations import as_said
from polpod.model.submissions import Edit
from polpod.model.tasks import Spec, Task, TaskStatus, changed
from polpod.rules.tasks import event, unsafe_set_status, walk
from polpod.services import assignment
from polpod.services.instance import now
from polpod.services.submission import open_queue, refuse_large_task, refuse_unreviewed, title_of, utc
from polpod.store import changes
from polpod.store.changes import require
from polpod.store.records import Tx
from polpod.store.tables import Specs


class Done(Struct, frozen=True, omit_defaults=True):
    """What became of one task that a command was about."""

    id: str
    status: str | None = None
    run_id: int | UnsetType = UNSET
    """The live run that is being ended for it."""
    error: dict[str, object] | None = None


Operation = Callable[[Tx, Task, datetime, str], Done]


def cancel(tx: Tx, task: Task, at: datetime, by: str) -> Done:
    """Cancel what does not run at once; of what runs it is noted, and the run named that has to end first."""
    if task.occupies and task.run_id is not None:
        if task.cancelled_by is None:
            asked = changed(task, at, cancelled_by=by)
            changes.apply(tx, Change(asked, (event(task, "task:updated", at, fields=["cancelled_by"], by=by),)))
        return Done(task.id, task.status, task.run_id)
    if task.status is TaskStatus.CANCELLED:
        return Done(task.id, task.status)
    return _move(tx, walk(task, at, TaskStatus.CANCELLED, why=by, cancelled_by=by))


def retry(tx: Tx, task: Task, at: datetime, by: str) -> Done:
    """Again, from failed, cancelled or awaiting approval; it spends none of the automatic retries."""
    refuse_live(task)
    if task.over_budget is not None and task.status is TaskStatus.AWAITING_APPROVAL:
        raise Conflict(f"task {task.id} is over its budget: polpoctl approval approve {task.id} [--budget …]")
    failed = task.status is TaskStatus.FAILED
    fresh: dict[str, object] = {
        "not_before": None,
        "launch_failures": 0,
        "recoveries": 0,
        "manual_retries": task.manual_retries + failed,
    }
    fresh |= {
        "cancelled_by": None,
        "over_budget": None,
        "phase": "execution",
        "fix_attempts": 0,
        "escalations": 0,
        "assessing": None,
    }
    change = walk(task, at, TaskStatus.PENDING, why=f"retry by {by}", **fresh)
    return _move(tx, Change(change.task, (event(task, "task:retry", at, retries=change.task.retries), *change.events)))


def reassess(tx: Tx, task: Task, at: datetime, by: str) -> Done:
    """Carry out the checks of work that is done, failed, or waits for a person once more, and judge it by them alone."""
    refuse_live(task)
    if not task.checked:
        raise InvalidTransition(f"task {task.id} has no checks")
    if task.status not in REASSESSED:
        raise InvalidTransition(
            f"task {task.id} is {task.status}: only what is done, failed or parked is checked again"
        )
    if task.result is None or task.result.exit_code != 0 or task.run_id is None or task.spec_id is None:
        raise Conflict(
            f"the work of task {task.id} did not succeed, so there is nothing to check: polpoctl retry {task.id}"
        )
    if task.status is TaskStatus.DONE:
        changes.undo_done(tx, task.id, at)
    change = unsafe_set_status(task, TaskStatus.REVIEW, f"reassess by {by}", at)
    fresh = {"assessing": "reassess", "assessment_retries": 0, "launch_failures": 0, "not_before": None}
    fresh |= {"applied_run": task.run_id, "cancelled_by": None}
    return _move(tx, Change(structs.replace(change.task, **fresh), change.events))


REASSESSED = frozenset({TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.AWAITING_APPROVAL, TaskStatus.REVIEW})
"""Where a task may be that is checked again."""


def remove(tx: Tx, task: Task, at: datetime, by: str) -> Done:
    """Forget a task that does not run and that nothing waits for; its id is never used again."""
    refuse_live(task)
    changes.remove(tx, [task], at, by)
    return Done(task.id, "removed")


def hold(tx: Tx, task: Task, at: datetime, by: str) -> Done:
    """Keep a pending task from starting."""
    return _held(tx, task, at, True)


def release(tx: Tx, task: Task, at: datetime, by: str) -> Done:
    """Let a held task start."""
    return _held(tx, task, at, False)


def each(
    tx: Tx, tasks: list[Task], operation: Operation, by: str, refuse: Callable[[RequestError], dict[str, object]]
) -> list[Done]:
    """Carry out the operation on each task; one that is refused does not keep the others from it."""
    done = []
    for task in reversed(tasks):  # as a rule, what waits for another is younger, and has to be removed before it
        try:
            done.append(operation(tx, task, now(), by))
        except RequestError as exc:
            done.append(Done(task.id, task.status, error=refuse(exc)))
    return done[::-1]


def edit(tx: Tx, wanted: Edit, config: Config, by: str) -> Task:
    """Change what is named.  Raises NotFound, InvalidRequest, TooLarge, Conflict (a live run, another version, a cycle)."""
    task, at = require(tx, wanted.id), now()
    refuse_live(task)
    refuse_large_task(wanted)
    if wanted.version is not None and wanted.version != task.version:
        raise Conflict(f"task {task.id} is at version {task.version}, not {wanted.version}: read it again")
    values = {
        name: _EMPTY.get(name) if value is None else value
        for name, value in structs.asdict(wanted).items()
        if value is not UNSET and name not in ("id", "version", "agent", "depends_on")
    }
    if wanted.agent is not UNSET:
        values |= assignment.assigned(tx, task, wanted.agent, config)
    intended = structs.replace(task, **values)
    spec = _spec(tx, intended)
    if spec is not None and {"title", "description", "spec_id"} & values.keys():
        assignment.refuse_prompt(spec, intended.title or "", intended.description)
    refuse_unreviewed(wanted.expectations or (), config)
    values |= {name: as_said(getattr(wanted, name) or ()) for name in ("expectations", "metrics") if name in values}
    if wanted.description is not UNSET:
        values["original_description"] = None
    if wanted.title is None:
        values["title"] = "" if spec is None else title_of(spec, intended.description)
    for name in ("not_before", "deadline"):
        if isinstance(instant := values.get(name), datetime):
            values[name] = utc(instant, f"$.{name}")
    if wanted.queue is not UNSET:
        open_queue(tx, wanted.queue, config)
    if wanted.depends_on is not UNSET:
        values |= changes.rewire(tx, task, tuple(dict.fromkeys(wanted.depends_on or ())))
    edited = changed(task, at, **values)
    names = sorted(values.keys() - {"unmet", "original_description"})
    moved = {"queue": edited.queue, "old_queue": task.queue, "status": task.status}
    about = moved if edited.queue != task.queue else {}
    changes.apply(tx, Change(edited, (event(edited, "task:updated", at, fields=names, by=by, **about),)))
    return edited


_EMPTY: dict[str, object] = {"description": "", "labels": {}}
"""What a field that was cleared is, where it is not None."""


def _spec(tx: Tx, task: Task) -> Spec | None:
    stored = tx[Specs].get(task.spec_id) if task.spec_id else None
    return stored.spec if stored else None


def _held(tx: Tx, task: Task, at: datetime, on: bool) -> Done:
    if task.status is not TaskStatus.PENDING:
        raise InvalidTransition(f"task {task.id} is {task.status}: only a pending one is held or released")
    if task.hold is not on:
        held = changed(task, at, hold=on)
        changes.apply(tx, Change(held, (event(task, "task:updated", at, fields=["hold"], hold=on),)))
    return Done(task.id, task.status)


def refuse_live(task: Task) -> None:
    """Raises Conflict."""
    if task.occupies:
        raise Conflict(f"task {task.id} has a live run ({task.run_id}): cancel it first, or wait for it")


def _move(tx: Tx, change: Change) -> Done:
    changes.apply(tx, change)
    return Done(change.task.id, change.task.status)
