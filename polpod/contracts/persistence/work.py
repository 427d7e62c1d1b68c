"""Tasks, and what they cost and took.

A task of the organisation is a row of the daemon's table, owned by it, with the whole entity as its document; polpod's
own tasks are there to be read (polpod/rules/organisation.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from polpod.contracts.persistence.errors import QueryError
from polpod.contracts.persistence.repository import Repository, where
from polpod.model import tasks as ours
from polpod.model.organisation.money import CostRecord
from polpod.model.organisation.work import Task, TaskMetricRecord, TaskStatus
from polpod.rules.organisation import STAND_IN, STATUSES, as_seen
from polpod.store import organisation as stored
from polpod.store import quarantine, queries, tables
from polpod.store.organisation import ORGANISATION, StoredCost
from polpod.store.records import Tx
from polpod.store.table import AnyOf, Where


def _read_back(row: ours.Task) -> Task:
    return msgspec.convert(row.document, Task) if row.owner == ORGANISATION else as_seen(row)


def _save(tx: Tx, task: Task) -> None:
    at = datetime.now(UTC)
    values: dict[str, Any] = {
        "project": task.project,
        "assigned_to": task.assigned_to,
        "document": msgspec.to_builtins(task),
    }
    if (old := tx[tables.Tasks].get(task.id)) is not None:
        _require_theirs(old)
        tx[tables.Tasks].save(ours.changed(old, at, **values))
    else:
        _require_free(tx, task.id)
        queries.note_client_id(tx, task.id)
        seq = queries.next_task_seq(tx)
        row = ours.Task(id=task.id, seq=seq, owner=ORGANISATION, created_at=at, updated_at=at, **values)
        tx[tables.Tasks].add(row)


def _delete(tx: Tx, task_id: str) -> bool:
    if (old := tx[tables.Tasks].get(task_id)) is None:
        return False
    _require_theirs(old)
    return tx[tables.Tasks].delete(task_id)


def _require_theirs(row: ours.Task) -> None:
    if row.owner != ORGANISATION:
        raise QueryError(f"task {row.id} is carried out by polpod, and can be read but not written here")


def _require_free(tx: Tx, task_id: str) -> None:
    """The id of a task of polpod's own that was set aside is not free: it may have a run that goes on (F10)."""
    kept = quarantine.of_task(tx, task_id)
    if kept is not None and kept.columns.get(tables.Tasks.owner.name) != ORGANISATION:
        raise QueryError(
            f"task {task_id} is polpod's, and its record cannot be read; it is kept in the table quarantine"
        )


class Tasks(Repository[ours.Task, str]):
    async def save(self, task: Task) -> None:
        await self._write(lambda tx: _save(tx, task))

    async def get(self, task_id: str) -> Task | None:
        def body(tx: Tx) -> Task | None:
            row = tx[tables.Tasks].get(task_id)
            return None if row is None else _read_back(row)

        return await self._read(body)

    async def list_tasks(
        self, *, status: TaskStatus | None = None, assigned_to: str | None = None, project: str | None = None
    ) -> tuple[Task, ...]:
        """In the order in which they were saved first."""
        narrowed = where(
            (_may_be, status),
            (tables.Tasks.assigned_to.eq, None if assigned_to == STAND_IN else assigned_to),
            (tables.Tasks.project.eq, None if project == STAND_IN else project),
        )
        asked = {"status": status, "assigned_to": assigned_to, "project": project}

        def body(tx: Tx) -> tuple[Task, ...]:
            return tuple(task for task in map(_read_back, tx[tables.Tasks].find(*narrowed)) if _fits(task, asked))

        return await self._read(body)

    async def delete(self, task_id: str) -> bool:
        """Raises QueryError while costs or metrics name the task."""
        return await self._write(lambda tx: _delete(tx, task_id))


def _may_be(status: TaskStatus) -> Where[ours.Task]:
    """Every task that has this status, and few others: what polpod's own one is seen with depends on its assignee, too."""
    own = tables.Tasks.status.is_in([own for own, seen in STATUSES.items() if status in seen])
    return AnyOf((tables.Tasks.other_status.eq(status), own))


def _fits(task: Task, asked: dict[str, Any]) -> bool:
    return all(value is None or getattr(task, name) == value for name, value in asked.items())


class CostRecords(Repository[StoredCost, int]):
    async def save(self, record: CostRecord) -> None:
        """Raises QueryError if there is no such task."""
        await self._write(lambda tx: tx.append(stored.CostRecords, StoredCost(0, record)))

    async def query(self, *, agent_id: str | None = None, task_id: str | None = None) -> tuple[CostRecord, ...]:
        """In the order in which they were saved."""
        found = await self._find(*_of(agent_id, task_id))
        return tuple(entry.record for entry in found)

    async def aggregate(self, *, agent_id: str | None = None, task_id: str | None = None) -> float:
        """US dollars."""
        column, filters = stored.CostRecords.cost_usd, _of(agent_id, task_id)
        return await self._read(lambda tx: tx[stored.CostRecords].total(column, *filters))


def _of(agent_id: str | None, task_id: str | None) -> tuple[Where[StoredCost], ...]:
    return where((stored.CostRecords.agent_id.eq, agent_id), (stored.CostRecords.task_id.eq, task_id))


class TaskMetrics(Repository[TaskMetricRecord, str]):
    async def save(self, record: TaskMetricRecord) -> None:
        """Raises DuplicateRecordError; QueryError if there is no such task."""
        await self._insert(record)

    async def query(
        self, *, agent_id: str | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[TaskMetricRecord, ...]:
        """Completed from `since` to `until`, both included; the newest first."""
        of = stored.TaskMetrics
        filters = where((of.agent_id.eq, agent_id), (of.completed_at.ge, since), (of.completed_at.le, until))
        return await self._find(*filters)
