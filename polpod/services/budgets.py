"""What work spends, as rows: of a task, of an execution, of a project; and what happens when it is too much (F90).

Rules:

1. What is spent is added, judged, and where it is too much asked about, in the transaction that notes it; so a daemon
   killed at any moment neither forgets what was spent nor asks twice.
2. A task over its budget is ended by whoever spent for it, once that is durable, and parks when its run is over.  What
   was noted and not ended yet is ended by recovery.
3. Of an execution or a project over its budget nothing more starts; what runs goes on.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime

from msgspec import structs

from polpod.model.budgets import Spent
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.executions import ENDED, Execution, ExecutionStatus
from polpod.model.polpo.approvals import ApprovalKind, Asked
from polpod.model.runs import Run
from polpod.model.tasks import Task, TaskStatus, changed
from polpod.rules import budgets as rules
from polpod.rules.tasks import walk
from polpod.services.missions.executing import note
from polpod.services.missions.settling import move
from polpod.store import approvals, changes, spending
from polpod.store.missions import Executions
from polpod.store.organisation import Projects
from polpod.store.records import Tx
from polpod.store.tables import Events, Tasks


def spend(tx: Tx, task: Task, at: datetime, *, money: float = 0.0, tokens: int = 0, disk: int = 0) -> Task:
    """The task spent this much more.  Returns it as it is stored then; `over_budget` says whether its run has to end."""
    more = Spent(money=money, tokens=tokens, disk=disk)
    spent = _sum(task.spent, more)
    field = None if task.over_budget is not None or task.finished else rules.first_over(task.budget, spent)
    after = changed(task, at, spent=spent, over_budget=field or task.over_budget)
    change = Change(after, ())
    if field is not None:
        change = Change(after, (rules.exceeded(after, field, at, run_id=task.run_id),))
        if task.status is TaskStatus.PENDING:
            parked = walk(after, at, TaskStatus.AWAITING_APPROVAL, why="budget")
            change = change.and_then(structs.replace(parked, asked=rules.asked(after, field)))
    after = changes.apply(tx, change)
    if task.execution_id is not None:
        _of_execution(tx, task.execution_id, more, at)
    if task.project is not None and money:
        _of_project(tx, task.project, money, at)
    return after


def found_over(tx: Tx, task_id: str, run_id: int, field: str, at: datetime) -> None:
    """Somebody who looked at the run saw that it spent more of this than its task may."""
    task = changes.require(tx, task_id)
    if task.over_budget is None and task.run_id == run_id and task.may_have_live_run:
        after = changed(task, at, over_budget=field)
        changes.apply(tx, Change(after, (rules.exceeded(after, field, at, run_id=run_id),)))


def ran(tx: Tx, task: Task, run: Run, at: datetime) -> Task:
    """The run is over and applied to the task, as it is stored: what it took is its execution's, too."""
    disk = 0
    if task.budget is not None and task.budget.disk is not None:
        disk = log_bytes(run)
        task = structs.replace(task, spent=_sum(task.spent, Spent(disk=disk)))
        tx[Tasks].save(task)
    if task.execution_id is not None:
        more = Spent(wall_time=run.duration or 0.0, cpu_time=run.cpu_seconds or 0.0, disk=disk)
        _of_execution(tx, task.execution_id, more, at)
    return task


def log_bytes(run: Run) -> int:
    """What the run's log takes on disk.  Blocking."""
    with suppress(OSError):  # it was removed
        return os.stat(run.log_path).st_blocks * 512
    return 0


def _of_execution(tx: Tx, execution_id: str, more: Spent, at: datetime) -> None:
    execution = tx[Executions].get(execution_id)
    if execution is None or execution.budget is None or execution.status in ENDED:
        return
    execution = structs.replace(execution, spent=_sum(execution.spent, more), version=execution.version + 1)
    tx[Executions].save(execution)
    field = rules.first_over(execution.budget, execution.spent)
    if field is None or approvals.pending(tx, f"execution/{execution_id}") is not None:
        return
    says = rules.sentence(execution.budget, execution.spent, field)
    note(
        tx, at, execution, "budget:exceeded", budget="mission", what=field, spent=getattr(execution.spent, field),
        limit=getattr(execution.budget, field),
    )  # fmt: skip
    _ask(tx, Asked(kind=ApprovalKind.BUDGET, message=says, payload={"what": field}), at, execution)
    if execution.status is ExecutionStatus.ACTIVE:
        move(tx, execution, ExecutionStatus.PAUSED, at, f"{rules.OVER}, {says}")


def _ask(tx: Tx, asked: Asked, at: datetime, execution: Execution) -> None:
    _, told = approvals.ask(tx, asked, at, mission_id=execution.mission_id, execution_id=execution.id)
    tx.append(Events, told)


def _of_project(tx: Tx, name: str, money: float, at: datetime) -> None:
    spent = spending.add(tx, name, money)
    project = tx[Projects].get(name)
    if (
        project is None
        or project.budget == 0
        or round(spent, rules.PLACES) <= project.budget
        or spending.noted_over(tx, name)
    ):
        return
    spending.note_over(tx, name)
    body = {"budget": "project", "what": "money", "spent": spent, "limit": project.budget}
    tx.append(Events, Event(at=at, kind="budget:exceeded", subject=f"project/{name}", body=body))
    if approvals.pending(tx, f"project/{name}") is None:
        says = f"{rules.TEXT['money'](spent)} spent of {rules.TEXT['money'](project.budget)}"
        _, told = approvals.ask(tx, Asked(kind=ApprovalKind.BUDGET, message=says), at, project=name)
        tx.append(Events, told)


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(**{field: getattr(one, field) + getattr(other, field) for field in one.__struct_fields__})
