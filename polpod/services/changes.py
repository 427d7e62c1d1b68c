"""How a change to a task becomes rows: the task, its events, and what it unblocks, in the transaction of the caller."""

from __future__ import annotations

from datetime import datetime

from polpod.model.events import Event
from polpod.model.tasks import Dependency, TaskStatus, changed
from polpod.rules.tasks import Change
from polpod.store import queries
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Events, Tasks


def apply(tx: Tx, change: Change) -> None:
    """Store the change; a task that became done is met as a dependency by all that wait for it."""
    tx[Tasks].save(change.task)
    for event in change.events:
        tx.append(Events, event)
    if change.task.status is TaskStatus.DONE:
        _meet(tx, change.task.id, change.task.updated_at)


def note(tx: Tx, at: datetime, kind: str, subject: str, **body: object) -> None:
    """An event that goes with no change of a task."""
    tx.append(Events, Event(at=at, kind=kind, subject=subject, body=body))


def _meet(tx: Tx, task_id: str, at: datetime) -> None:
    for waiting in queries.dependents_of(tx, task_id):
        if waiting.met:
            continue
        tx[Dependencies].save(Dependency(task_id=waiting.task_id, on_id=task_id, met=True))
        dependent = tx[Tasks].get(waiting.task_id)
        if dependent is not None:
            tx[Tasks].save(changed(dependent, at, unmet=dependent.unmet - 1))
