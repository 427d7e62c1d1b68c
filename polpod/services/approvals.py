"""What people decide about what waits for them, and what happens when nobody does in time (F89).

Rules:

1. A decision is one body of the task store: it holds for the request that is pending there, and for no other.  So of
   several answers, from whichever side, one counts, and the work goes on once.
2. Deadlines are columns with an index: a daemon that was down when one passed tells of it when it is there again.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import trio
from msgspec import structs

from polpod.errors import Conflict, NotFound, TooLarge
from polpod.model.budgets import Budget
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.executions import Execution, ExecutionStatus
from polpod.model.organisation.artifacts import Project
from polpod.model.polpo.approvals import ApprovalKind, ApprovalRequest, ApprovalStatus, Resolution
from polpod.model.tasks import Task, TaskStatus
from polpod.rules import approvals as rules
from polpod.rules import budgets
from polpod.services import assignment
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.missions import control
from polpod.services.missions.settling import move
from polpod.services.submission import LARGEST_TASK
from polpod.store import approvals, changes, spending
from polpod.store.missions import Executions
from polpod.store.organisation import Projects
from polpod.store.polpo import Approvals, Missions
from polpod.store.records import Tx
from polpod.store.tables import Events, Specs, Tasks

BATCH = 256
FALLBACK = 60.0
"""Seconds after which it looks even if nobody rang."""


def require(tx: Tx, name: str) -> ApprovalRequest:
    """The request of that id, or the last one about the task of that id.  Raises NotFound."""
    found = tx[Approvals].get(name)
    if found is not None:
        return found
    task = tx[Tasks].get(name)
    of_task = tx[Approvals].find(Approvals.about.eq(f"task/{name}"), order_by=(Approvals.seq.desc(),), limit=1)
    if of_task:
        return of_task[0]
    if task is not None and task.status is TaskStatus.AWAITING_APPROVAL:
        raise NotFound(f"what was asked about task {name} cannot be read: polpoctl retry {name}, or cancel it")
    if task is not None:
        raise NotFound(f"task {name} is {task.status}: nobody has to approve it")
    raise NotFound(f"there is no approval {name}, and no task: `polpoctl approval list` shows what waits")


def approve(
    tx: Tx,
    request: ApprovalRequest,
    at: datetime,
    by: str,
    *,
    feedback: str | None = None,
    budget: Budget | None = None,
) -> ApprovalRequest:
    """Let what waits go on.  Raises Conflict: it was decided already, or needs something else; TooLarge, InvalidRequest."""
    _refuse_decided(request)
    if budget is not None and request.kind is not ApprovalKind.BUDGET:
        raise Conflict(f"{request.id} asks about no budget, but: {request.kind}")
    if request.task_id is not None and request.kind is not None:
        task = changes.require(tx, request.task_id)
        return _carry_out(tx, request, rules.approve(task, request, by, at, feedback=feedback, budget=budget))
    resolution = Resolution(status=ApprovalStatus.APPROVED, by=by, feedback=feedback)
    return _allow_more(tx, request, resolution, budget, at)


def reject(
    tx: Tx, request: ApprovalRequest, at: datetime, by: str, *, feedback: str | None = None, final: bool = False
) -> tuple[ApprovalRequest, list[int]]:
    """Do not let what waits go on; with it, the live runs that have to be ended for that.

    Raises Conflict: it was decided already, or is about a project, of which nothing starts as it is; TooLarge.
    """
    _refuse_decided(request)
    if request.task_id is not None and request.kind is not None:
        task = changes.require(tx, request.task_id)
        return _carry_out(tx, request, rules.reject(task, request, by, at, feedback=feedback, final=final)), []
    if request.project is not None and request.kind is not None:
        raise Conflict(f"as long as nobody approves {request.id}, nothing of project {request.project} starts")
    resolution = Resolution(status=ApprovalStatus.REJECTED, by=by, feedback=feedback)
    ended = _end(tx, request, resolution, at)
    mission = tx[Missions].get(request.mission_id) if request.kind is not None and request.mission_id else None
    return ended, control.abort(tx, mission, at, by) if mission is not None else []


def answer(tx: Tx, request: ApprovalRequest, text: str, at: datetime, by: str) -> ApprovalRequest:
    """Answer a question.  Raises Conflict: it was answered already, or is none; TooLarge, InvalidRequest."""
    _refuse_decided(request)
    if request.task_id is None:
        raise Conflict(f"{request.id} is no question")
    return _carry_out(tx, request, rules.answer(changes.require(tx, request.task_id), request, text, by, at))


def _refuse_decided(request: ApprovalRequest) -> None:
    if request.status is not ApprovalStatus.PENDING:
        raise Conflict(f"{request.id} is {request.status} already, by {request.resolved_by}")


def _carry_out(tx: Tx, request: ApprovalRequest, change: Change) -> ApprovalRequest:
    """Raises TooLarge, InvalidRequest: what was said does not fit in; Conflict: the task waits for another."""
    if len(change.task.description.encode()) > LARGEST_TASK:
        raise TooLarge(f"the description of task {change.task.id} would have more than {LARGEST_TASK} bytes with that")
    stored = tx[Specs].get(change.task.spec_id) if change.task.spec_id is not None else None
    if stored is not None and change.task.status is TaskStatus.PENDING:
        assignment.refuse_prompt(stored.spec, change.task.title, change.task.description)
    if change.task.approval_id != request.id:
        raise Conflict(f"task {change.task.id} does not wait for {request.id}")
    changes.apply(tx, change)
    return require(tx, request.id)


def _end(tx: Tx, request: ApprovalRequest, resolution: Resolution, at: datetime) -> ApprovalRequest:
    for told in approvals.resolve(tx, request.id, resolution, at):
        tx.append(Events, told)
    return require(tx, request.id)


def _allow_more(
    tx: Tx, request: ApprovalRequest, resolution: Resolution, budget: Budget | None, at: datetime
) -> ApprovalRequest:
    ended = _end(tx, request, resolution, at)
    if request.kind is None:
        return ended
    execution = tx[Executions].get(request.execution_id) if request.execution_id is not None else None
    if execution is not None:
        what = budgets.first_over(execution.budget, execution.spent)
        raised = structs.replace(execution, budget=budgets.raised(execution.budget, execution.spent, what, budget))
        _go_on(tx, structs.replace(raised, version=raised.version + 1), at)
    project = tx[Projects].get(request.project) if request.project is not None else None
    if project is not None:
        _raise_project(tx, project, budget, at)
    return ended


def _go_on(tx: Tx, execution: Execution, at: datetime) -> None:
    """It may spend more: it goes on, unless it is paused for another reason, too."""
    for_its_budget = execution.status is ExecutionStatus.PAUSED and (execution.reason or "").startswith(budgets.OVER)
    if for_its_budget and control.held_by_checkpoint(tx, execution):
        execution = structs.replace(execution, reason="a checkpoint was reached")
    elif for_its_budget:
        execution = move(tx, execution, ExecutionStatus.ACTIVE, at, None)
    tx[Executions].save(execution)


def _raise_project(tx: Tx, project: Project, budget: Budget | None, at: datetime) -> None:
    spent = spending.of_project(tx, project.id)
    given = None if budget is None else budget.money
    allowed = 2 * max(spent, project.budget) if given is None else given
    if allowed <= spent:
        raise Conflict(f"{spent:.2f} USD are spent for project {project.id} already: allow more")
    tx[Projects].save(structs.replace(project, budget=allowed))
    spending.note_raised(tx, project.id)
    changes.note(tx, at, "budget:raised", f"project/{project.id}", limit=allowed, spent=spent)


async def serve(instance: Instance) -> None:
    """See to it that all that waits has a request, and tell of deadlines as they pass, for as long as the daemon lives."""
    await instance.recovered.wait()
    await _ask_for_the_rest(instance)
    while True:
        first = await insist_read(instance.tasks, _next_due)
        if first is not None and first <= now():
            await insist(instance.tasks, pass_deadlines, durable=False)
            continue
        sleep = FALLBACK if first is None else min(FALLBACK, (first - now()).total_seconds())
        await instance.journal.approvals.wait(trio.current_time() + max(0.0, sleep))


def _next_due(tx: Tx) -> datetime | None:
    first = tx[Approvals].find(Approvals.due.is_set(), order_by=(Approvals.due.asc(), Approvals.seq.asc()), limit=1)
    return first[0].deadline if first else None


def pass_deadlines(tx: Tx) -> None:
    """A batch of requests whose deadline is over: each is told, and what was declared for it is done."""
    at = now()
    due = tx[Approvals].find(Approvals.due.le(at), order_by=(Approvals.due.asc(), Approvals.seq.asc()), limit=BATCH)
    for request in due:
        late = structs.replace(request, timed_out_at=at)
        tx[Approvals].save(late)
        tx.append(Events, _told_late(late, at))
        task = tx[Tasks].get(request.task_id) if request.task_id is not None else None
        if task is not None and task.approval_id == request.id:
            change = rules.timed_out(task, request, at)
            if change is not None:
                changes.apply(tx, change)


def _told_late(request: ApprovalRequest, at: datetime) -> Event:
    return approvals.told(
        request, "approval:timeout", at, action=request.on_timeout or "wait", deadline=request.deadline
    )


async def _ask_for_the_rest(instance: Instance) -> None:
    """Of what waits without a request: a store of before, or of a program that knew none."""
    after: int | None = 0
    while after is not None:
        after = await insist(instance.tasks, partial(_ask_page, after=after), durable=False)


def _ask_page(tx: Tx, after: int) -> int | None:
    """Ask about those of a page past the `seq` `after`; the last of it, None: there are no more."""
    waiting = Tasks.status.eq(TaskStatus.AWAITING_APPROVAL)
    page: list[Task] = tx[Tasks].find(waiting, Tasks.seq.gt(after), limit=BATCH)
    for task in page:
        if task.approval_id is None or tx[Approvals].get(task.approval_id) is None:  # it may have been set aside (F10)
            changes.apply(tx, rules.unasked(structs.replace(task, approval_id=None)))
    return page[-1].seq if len(page) == BATCH else None
