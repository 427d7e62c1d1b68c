"""What runs ask people: the question is a row at once, whatever becomes of the run, the daemon or the connection."""

from __future__ import annotations

from datetime import datetime

from msgspec import structs

from polpod.errors import Conflict
from polpod.model.changes import Change
from polpod.model.polpo.approvals import ApprovalKind, ApprovalRequest, ApprovalStatus, Asked
from polpod.model.questions import Question
from polpod.model.runs import Phase, Run
from polpod.model.tasks import changed
from polpod.rules.tasks import event
from polpod.store import approvals, changes
from polpod.store.polpo import Approvals
from polpod.store.records import Tx


def ask(tx: Tx, run: Run, text: str, rounds: int, at: datetime) -> ApprovalRequest:
    """The request for an answer to what the run, which is live, asks; asking the same again is asking once.

    Raises Conflict: another question of its waits, or its task asked as often as it may, or it carries out checks.
    """
    if run.phase is Phase.REVIEW:
        raise Conflict(f"run {run.id} carries out checks, and a check asks nobody: it passes or does not")
    task = changes.require(tx, run.task_id)
    if task.run_id != run.id:
        raise Conflict(f"task {task.id} is not carried out by run {run.id} any more")
    asked = task.question
    if asked is not None and asked.run_id == run.id:
        known = tx[Approvals].get(asked.approval_id)
        if known is not None and asked.text == text and not asked.delivered:
            return known
        if not asked.delivered:
            raise Conflict(f"task {task.id} asks already ({asked.approval_id}): {asked.text}")
    if task.question_rounds >= rounds:
        raise Conflict(
            f"task {task.id} was answered {task.question_rounds} times, and may not ask more often (maxQuestionRounds)"
        )
    request, requested = approvals.ask_about(tx, task, Asked(kind=ApprovalKind.QUESTION, message=text), at)
    waiting = changed(
        task, at, approval_id=request.id,
        question=Question(approval_id=request.id, run_id=run.id, text=text),
    )  # fmt: skip
    told = event(task, "task:question", at, request_id=request.id, run_id=run.id, question=text)
    changes.apply(tx, Change(waiting, (told, requested)))
    return request


def take_answer(tx: Tx, run: Run, request_id: str, at: datetime) -> ApprovalRequest | None:
    """The request once it is over; None: nobody answered yet.  From then on the run has the answer.

    Raises Conflict: that is no question of this run.
    """
    task = changes.require(tx, run.task_id)
    asked = task.question
    if asked is None or asked.approval_id != request_id or asked.run_id != run.id:
        raise Conflict(f"{request_id} is no question of run {run.id}")
    request = tx[Approvals].get(request_id)
    if request is None or request.status is ApprovalStatus.PENDING:
        return None
    if not asked.delivered:
        changes.apply(tx, Change(changed(task, at, question=structs.replace(asked, delivered=True)), ()))
    return request
