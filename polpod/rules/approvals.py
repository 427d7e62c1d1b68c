"""What a person is asked, and what an answer means for the task that waits for it.

Rules:

1. Each kind of request is a row of MEANING: where a task goes that was approved, and where one that was rejected.
2. Approved work goes on by itself: nothing is left in a state that nobody moves (W36).  Rejecting is final, but for work
   that was judged: with feedback it is done over, `max_revisions` times.
3. Timeout is not denial: without a declared default, a deadline that passes changes nothing.
4. No clock and no I/O, as everywhere in rules/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec
from msgspec import Struct, structs

from polpod.errors import Conflict
from polpod.model.budgets import Budget
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.gates import ApprovalGate, Hook
from polpod.model.polpo.approvals import KINDS, ApprovalKind, ApprovalRequest, ApprovalStatus, Asked, Resolution
from polpod.model.runs import Run
from polpod.model.tasks import Task, TaskStatus, changed
from polpod.rules import budgets, conditions
from polpod.rules.tasks import event, walk

K = ApprovalKind
S = TaskStatus


class Meaning(Struct, frozen=True):
    approved: TaskStatus
    rejected: TaskStatus
    revised: bool = False
    """Rejected with feedback, it is done over."""


_AGAIN = Meaning(approved=S.PENDING, rejected=S.FAILED)

MEANING: Mapping[ApprovalKind, Meaning] = {
    K.START: Meaning(approved=S.PENDING, rejected=S.CANCELLED),  # nothing was done: a person does not want it
    K.DONE: Meaning(approved=S.DONE, rejected=S.FAILED, revised=True),
    K.LOST: _AGAIN,
    K.SHUTDOWN: _AGAIN,
    K.LAUNCH: _AGAIN,
    K.EFFECTS: _AGAIN,
    K.ESCALATION: _AGAIN,
    K.BUDGET: _AGAIN,
    K.QUESTION: _AGAIN,
    K.QUARANTINED: _AGAIN,
    K.DECISION: _AGAIN,
}

FRESH: Mapping[str, object] = {"not_before": None, "launch_failures": 0, "recoveries": 0, "cancelled_by": None}
"""What a task starts anew with that a person lets go on."""


def approve(
    task: Task, request: ApprovalRequest, by: str, now: datetime, *,
    feedback: str | None = None, budget: Budget | None = None, status: ApprovalStatus = ApprovalStatus.APPROVED,
) -> Change:  # fmt: skip
    """The task as it goes on.  `budget`: the limits that it has then; None: what was spent of it is doubled.

    Raises Conflict for a question, which needs an answer, and for a budget that is spent already.
    """
    assert request.kind is not None
    if request.kind is K.QUESTION:
        raise Conflict(f"{request.id} is a question: polpoctl answer {request.id} TEXT")
    to = MEANING[request.kind].approved
    values: dict[str, object] = {}
    if to is S.PENDING:
        values |= {"description": _with(task, "Feedback", feedback), "original_description": _original(task, feedback)}
    if request.kind is not K.START and to is S.PENDING:
        values |= FRESH
    if request.kind is K.BUDGET:
        values |= {"budget": budgets.raised(task.budget, task.spent, task.over_budget, budget), "over_budget": None}
    moved = walk(task, now, to, why=_why(request, "approved", by), **values)
    return structs.replace(moved, resolution=Resolution(status=status, by=by, feedback=feedback))


def reject(
    task: Task, request: ApprovalRequest, by: str, now: datetime, *,
    feedback: str | None = None, final: bool = False, status: ApprovalStatus = ApprovalStatus.REJECTED,
) -> Change:  # fmt: skip
    """The task as it ends, or, of work that was judged and may be revised, as it is done over with the feedback."""
    assert request.kind is not None
    if request.kind is K.QUESTION and task.status is S.IN_PROGRESS:  # its run goes on, and hears of it if it waits
        question = None if task.question is None else structs.replace(task.question, refused=True)
        refused = Resolution(status=status, by=by, feedback=feedback)
        return Change(changed(task, now, question=question), (), resolution=refused)
    meaning = MEANING[request.kind]
    resolution = Resolution(status=status, by=by, feedback=feedback)
    if meaning.revised and feedback and not final and task.revision_count < request.max_revisions:
        count = task.revision_count + 1
        again = walk(
            task, now, S.PENDING, why=_why(request, "rejected", by), **FRESH,
            revision_count=count, description=_with(task, f"Feedback on version {count}", feedback),
            original_description=_original(task, feedback), outcomes=(), fix_attempts=0,
        )  # fmt: skip
        told = event(
            task, "approval:rejected", now, request_id=request.id, task_id=task.id, feedback=feedback,
            rejection_count=count, resolved_by=by,
        )  # fmt: skip
        return structs.replace(again, events=(told, *again.events), resolution=resolution)
    values = {"cancelled_by": by} if meaning.rejected is S.CANCELLED else {}
    moved = walk(task, now, meaning.rejected, why=_why(request, "rejected", by), **values)
    return structs.replace(moved, resolution=resolution)


def answer(task: Task, request: ApprovalRequest, text: str, by: str, now: datetime) -> Change:
    """The task with the answer to what its run asked: it goes on, or, while that run does, has it at hand.

    Raises Conflict where the request is no question.
    """
    if request.kind is not K.QUESTION:
        raise Conflict(f"{request.id} is no question, but asks about its {request.kind}: approve or reject it")
    resolution = Resolution(status=ApprovalStatus.APPROVED, by=by, feedback=text)
    told = event(task, "task:answered", now, request_id=request.id, question=request.message, answer=text, by=by)
    if task.status is not S.AWAITING_APPROVAL:
        question = None if task.question is None else structs.replace(task.question, answer=text)
        rounds = task.question_rounds + 1
        return Change(changed(task, now, question=question, question_rounds=rounds), (told,), resolution=resolution)
    task = structs.replace(task, question_rounds=task.question_rounds + 1)
    resumed = resume(task, request.message, text, now, _why(request, "answered", by))
    return structs.replace(resumed, events=(told, *resumed.events), resolution=resolution)


def resume(task: Task, question: str, text: str, now: datetime, why: str) -> Change:
    """The task, which waits for the answer, pending with question and answer in its description."""
    description = _with(task, "Question", question, "Answer", text)
    return walk(
        task, now, S.PENDING, why=why, **FRESH,
        description=description, original_description=_original(task, text), question=None, phase="execution",
    )  # fmt: skip


def timed_out(task: Task, request: ApprovalRequest, now: datetime) -> Change | None:
    """What is done by itself with a request whose deadline passed; None: nothing (rule 3)."""
    status, by = ApprovalStatus.TIMEOUT, "timeout"
    match request.on_timeout:
        case "approve" if request.kind is not K.QUESTION:
            return approve(task, request, by, now, status=status)
        case "reject":
            return reject(task, request, by, now, final=True, status=status)
    return None


def gate_for(task: Task, hook: Hook, gates: Iterable[ApprovalGate]) -> Asked | None:
    """What a person is asked by the first of the gates that holds the task there; None: none does."""
    seen: Mapping[str, object] | None = None
    for gate in gates:
        if gate.hook != hook:
            continue
        seen = seen or {"task": msgspec.to_builtins(task)}
        if gate.condition is None or conditions.holds(gate.condition, seen):
            outcomes = list(task.outcomes) if gate.include_outcomes else None
            return Asked(
                kind=K.START if hook == "task:spawn" else K.DONE,
                message=gate.name or f"gate {gate.id}",
                gate_id=gate.id,
                gate_name=gate.name,
                timeout=gate.timeout_ms / 1000 if gate.timeout_ms else None,
                on_timeout=gate.timeout_action,
                max_revisions=gate.max_revisions,
                payload=None if outcomes is None else {"outcomes": outcomes},
            )
    return None


def held_to_start(task: Task, now: datetime, gates: Iterable[ApprovalGate]) -> Change | None:
    """A new task that a person has to let start first, as the task itself says, or a gate; None: it may start."""
    asked = Asked(kind=K.START) if task.needs_approval else gate_for(task, "task:spawn", gates)
    if asked is None:
        return None
    why = "needs_approval" if asked.gate_id is None else f"gate {asked.gate_id}"
    return structs.replace(walk(task, now, S.AWAITING_APPROVAL, why=why), asked=asked)


def after_run(change: Change, run: Run, now: datetime, gates: Iterable[ApprovalGate]) -> Change:
    """What the run made of its task, but for what a person has to allow first, and with what the run spent.

    What was ended for its budget waits, and so does what would be tried again without any left (F90); what would be done
    is judged first where the task or a gate says so.
    """
    task = structs.replace(change.task, spent=budgets.after(change.task.spent, run))
    change = structs.replace(change, task=task)
    if task.status is S.CANCELLED and task.cancelled_by is None and run.kill_by == budgets.BY:
        what = budgets.over(task) or "wall_time"
        return _instead(change, now, "budget", budgets.asked(task, what), _noted(task, what, now), over_budget=what)
    if task.status is S.PENDING and task.cancelled_by is None and (spent := budgets.over(task)) is not None:
        parked = walk(task, now, S.AWAITING_APPROVAL, why="budget", over_budget=spent, not_before=None)
        told = (*_noted(task, spent, now), *parked.events)
        return change.and_then(structs.replace(parked, events=told, asked=budgets.asked(task, spent)))
    if task.status is not S.DONE:
        return change
    asked = Asked(kind=K.DONE) if task.approve_done else gate_for(task, "task:complete", gates)
    if asked is None:
        return change
    return _instead(change, now, "approve_done" if asked.gate_id is None else f"gate {asked.gate_id}", asked)


def _noted(task: Task, spent: str, now: datetime) -> tuple[Event, ...]:
    """The event that a budget is spent, unless it was told when that was found."""
    return () if task.over_budget is not None else (budgets.exceeded(task, spent, now),)


def _instead(
    change: Change, now: datetime, why: str, asked: Asked, told: tuple[Event, ...] = (), **values: object
) -> Change:
    """The change without its last edge, which is not walked: the task waits for approval where that begins."""
    *before, last = change.events
    task = structs.replace(change.task, status=S(str(last.body["from"])), finished_at=None)
    held = structs.replace(walk(task, now, S.AWAITING_APPROVAL, why=why, **values), asked=asked)
    return Change(task, (*before, *told), resolution=change.resolution).and_then(held)


def unasked(task: Task) -> Change:
    """A task that waits and of which nobody was asked: what, as far as it can be told from the task."""
    reason = task.result.reason if task.result is not None else None
    kind = KINDS.get(reason or "", K.DECISION)
    if task.launch_failures:
        kind = K.LAUNCH
    elif not task.attempts:
        kind = K.START
    return Change(task, (), asked=Asked(kind=kind))


def _why(request: ApprovalRequest, what: str, by: str) -> str:
    return f"{request.id} {what} by {by}"


def _with(task: Task, *parts: str | None) -> str:
    """The description, and below it what was said, under headings; nothing where nothing was."""
    if parts[-1] is None:
        return task.description
    heads = "".join(f"\n\n## {head}\n\n{text}" for head, text in zip(parts[::2], parts[1::2], strict=True))
    return f"{task.description}{heads}\n"


def _original(task: Task, said: str | None) -> str | None:
    if said is None or task.original_description is not None:
        return task.original_description
    return task.description
