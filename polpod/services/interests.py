"""What one channel is to be told of an event: by the rules of polpo.json, of the mission, and of the task.

What a mission says is what it said when it was executed; what a task says is in its row, and asked for only where its
mission's document has tasks that say something.
"""

from __future__ import annotations

from typing import Any

import msgspec

from polpod.model.documents import read
from polpod.model.events import Event
from polpod.model.notifying import Rule, Scope
from polpod.model.tasks import Task
from polpod.rules import notifying as rules
from polpod.rules.notifying import Notice, Wanted
from polpod.store.missions import Documents, Executions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.tables import Tasks

MOST_SCOPES = 1000
"""Executions whose rules are remembered."""

OF_TASKS = (
    "id", "title", "status", "queue", "project", "labels", "assigned_to", "mission_id", "group", "priority", "attempts",
    "retries", "created_by",
)  # fmt: skip
"""Fields that conditions and templates may ask for."""


class Interests:
    """Of one channel."""

    def __init__(self, channel: str, common: tuple[Rule, ...]) -> None:
        """`common`: the rules of polpo.json."""
        self._channel, self._common = channel, common
        self._usual = rules.in_force(common, ())
        self._scopes: dict[str, tuple[Scope | None, bool]] = {}

    def notices(self, tx: Tx, event: Event) -> list[Notice]:
        """What there is to tell of the event."""
        meant = rules.meant(event, self._channel, self._in_force(tx, event))
        values = _values(tx, event) if meant else {}
        return [told for wanted in meant if (told := rules.notice(wanted, event, values)) is not None]

    def _in_force(self, tx: Tx, event: Event) -> list[Wanted]:
        execution_id = event.body.get("execution_id")
        if not isinstance(execution_id, str):
            return self._usual
        mission, tasks_too = self._scope(tx, execution_id)
        task = _task(tx, event) if tasks_too else None
        own = None if task is None else _scope_of(task)
        scopes = [] if task is None or own is None else [(f"task/{task.id}", own)]
        scopes += [] if mission is None else [(f"mission/{execution_id.rpartition('.')[0]}", mission)]
        return rules.in_force(self._common, scopes) if scopes else self._usual

    def _scope(self, tx: Tx, execution_id: str) -> tuple[Scope | None, bool]:
        """What the mission says, and whether any of its tasks says more."""
        if execution_id not in self._scopes:
            while len(self._scopes) >= MOST_SCOPES:
                del self._scopes[next(iter(self._scopes))]
            self._scopes[execution_id] = _said(tx, execution_id)
        return self._scopes[execution_id]


def _said(tx: Tx, execution_id: str) -> tuple[Scope | None, bool]:
    execution = tx[Executions].get(execution_id)
    kept = None if execution is None else tx[Documents].get(execution.document_id)
    if kept is None:
        return None, False
    try:
        document = read(kept.text)
    except ValueError:  # of a version that took what this one does not
        return None, False
    return document.notifications, any(task.notifications is not None for task in document.tasks)


def _scope_of(task: Task) -> Scope | None:
    try:
        return None if task.notifications is None else msgspec.convert(task.notifications, Scope)
    except ValueError:  # others wrote it
        return None


def _task(tx: Tx, event: Event) -> Task | None:
    noun, _, task_id = event.subject.partition("/")
    return tx[Tasks].get(task_id) if noun == Tasks.noun else None


def _values(tx: Tx, event: Event) -> dict[str, Any]:
    noun, _, subject = event.subject.partition("/")
    about: dict[str, Any] = {}
    mission_id = subject if noun == Missions.noun else None
    task = _task(tx, event)
    if task is not None:
        about["task"] = {name: msgspec.to_builtins(getattr(task, name)) for name in OF_TASKS}
        mission_id = task.mission_id
    mission = None if mission_id is None else tx[Missions].get(mission_id)
    if mission is not None:
        about["mission"] = {"id": mission.id, "name": mission.name, "status": str(mission.status)}
    return rules.values_of(event, msgspec.to_builtins(event), **about)
