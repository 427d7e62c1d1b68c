"""Requests for approval, as rows: they come and go in the transaction of what waits for them.

Rules:

1. A task that comes to wait for approval has a pending request from then on, and one that waits no more has none: whoever
   stores a change of a task (store/changes.py) passes through `followed`, which sees to both.
2. A request is answered once: what is not pending any more is never changed.
3. What is asked, and what an answer means, is decided in rules/approvals.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import structs

from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.polpo.approvals import KINDS, ApprovalKind, ApprovalRequest, ApprovalStatus, Asked, Resolution
from polpod.model.tasks import Task, TaskStatus
from polpod.store.organisation import ParkedContexts
from polpod.store.polpo import Approvals, next_number
from polpod.store.records import Tx

_GATE = "polpod"
"""Whose requests are no gate's."""


def followed(tx: Tx, change: Change) -> Change:
    """The change with what it means for the requests about its task (rule 1)."""
    task, at = change.task, change.task.updated_at
    events: list[Event] = []
    entered = task.status is TaskStatus.AWAITING_APPROVAL and _last_move(change, "to") == task.status
    asked = change.asked or asked_by(change)
    if task.approval_id is not None:
        goes_on = change.resolution is None and _waits(task)
        if entered and goes_on:
            before = tx[Approvals].get(task.approval_id)
            goes_on = before is not None and before.kind is asked.kind
        if not goes_on:
            events += resolve(tx, task.approval_id, change.resolution or _resolution(change), at)
            task = structs.replace(task, approval_id=None)
    if task.status is TaskStatus.AWAITING_APPROVAL and task.approval_id is None:
        request, requested = ask_about(tx, task, asked, at)
        events.append(requested)
        task = structs.replace(task, approval_id=request.id)
    return structs.replace(change, task=task, events=(*change.events, *events))


def ask_about(tx: Tx, task: Task, asked: Asked, at: datetime) -> tuple[ApprovalRequest, Event]:
    """A new request about the task, which has none that is pending, and its event."""
    return ask(
        tx, asked, at,
        task_id=task.id, mission_id=task.mission_id, execution_id=task.execution_id, revision=task.revision_count,
    )  # fmt: skip


def ask(tx: Tx, asked: Asked, at: datetime, **about: object) -> tuple[ApprovalRequest, Event]:
    """A new request about what is named, of which none is pending, and its event."""
    number = next_number(tx, Approvals, Approvals.seq)
    while tx[Approvals].get(f"a{number}") is not None:  # somebody else chose that id
        number = next_number(tx, Approvals, Approvals.seq)
    request = ApprovalRequest(
        id=f"a{number}",
        seq=number,
        gate_id=asked.gate_id or _GATE,
        gate_name=asked.gate_name,
        kind=asked.kind,
        message=asked.message,
        payload=asked.payload,
        requested_at=at,
        deadline=None if asked.timeout is None else at + timedelta(seconds=asked.timeout),
        on_timeout=asked.on_timeout,
        max_revisions=asked.max_revisions,
        **about,  # type: ignore[arg-type]
    )
    tx[Approvals].add(request)
    body = {"message": request.message, "deadline": request.deadline, "on_timeout": request.on_timeout}
    return request, told(request, "approval:requested", at, **body)


def resolve(tx: Tx, request_id: str, resolution: Resolution, at: datetime) -> list[Event]:
    """End the request as the resolution says; nothing where it is gone, or was answered (rule 2)."""
    request = tx[Approvals].get(request_id)
    if request is None or request.status is not ApprovalStatus.PENDING:
        return []
    tx[Approvals].save(
        structs.replace(
            request, status=resolution.status, resolved_at=at, resolved_by=resolution.by, note=resolution.note,
            feedback=resolution.feedback,
        )
    )  # fmt: skip
    body = {"status": resolution.status, "resolved_by": resolution.by} | (
        {"note": resolution.note} if resolution.note else {}
    )
    return [told(request, "approval:resolved", at, **body)]


def told(request: ApprovalRequest, kind: str, at: datetime, **body: object) -> Event:
    """An event about a request; its subject is what waits."""
    about: dict[str, object] = {
        "request_id": request.id, "kind": request.kind, "gate_id": request.gate_id, "gate_name": request.gate_name,
    }  # fmt: skip
    about |= {
        n: v for n in ("task_id", "mission_id", "execution_id", "project") if (v := getattr(request, n)) is not None
    }
    subject = request.about or f"approval/{request.id}"
    if request.task_id is None and request.mission_id is not None:
        subject = f"mission/{request.mission_id}"
    return Event(at=at, kind=kind, subject=subject, body=about | body)


def forget(tx: Tx, about: str, at: datetime, by: str) -> list[Event]:
    """What it was about is gone, and its requests with it; the events of what was pending."""
    events: list[Event] = []
    for request in tx[Approvals].find(Approvals.about.eq(about)):
        gone = Resolution(status=ApprovalStatus.REJECTED, by=by, note="removed")
        events += resolve(tx, request.id, gone, at)
        tx[ParkedContexts].delete_where(ParkedContexts.approval_id.eq(request.id))
        tx[Approvals].delete(request.id)
    return events


def pending(tx: Tx, about: str) -> ApprovalRequest | None:
    """The request that is pending about `task/7`, `execution/1.2` or `project/web`."""
    found = tx[Approvals].find(Approvals.pending.eq(about), limit=1)
    return found[0] if found else None


def rejected(tx: Tx, task: Task) -> ApprovalRequest | None:
    """The request by which the task failed: nobody allowed it, and that was its end."""
    if task.status is not TaskStatus.FAILED:
        return None
    last = tx[Approvals].find(Approvals.about.eq(f"task/{task.id}"), order_by=(Approvals.seq.desc(),), limit=1)
    denied = (ApprovalStatus.REJECTED, ApprovalStatus.TIMEOUT)
    return next((r for r in last if r.status in denied and r.resolved_at == task.finished_at), None)


def asked_by(change: Change) -> Asked:
    """What is asked where nobody said: by the reason of the last transition."""
    why = str(_last_move(change, "reason") or "")
    kind = KINDS.get(why, ApprovalKind.DECISION)
    return Asked(kind=kind, message=why if kind is ApprovalKind.DECISION else "")


def _waits(task: Task) -> bool:
    """Whether the task waits for an answer, or its run asked for one and goes on."""
    if task.question is not None and task.question.approval_id == task.approval_id:
        return task.status in (TaskStatus.AWAITING_APPROVAL, TaskStatus.IN_PROGRESS)
    return task.status is TaskStatus.AWAITING_APPROVAL


def _resolution(change: Change) -> Resolution:
    """How a request ends that nobody answered by itself, as the last transition says."""
    frm, to = _last_move(change, "from"), _last_move(change, "to")
    let = frm == TaskStatus.AWAITING_APPROVAL and to not in (TaskStatus.FAILED, TaskStatus.CANCELLED)
    why = str(_last_move(change, "reason") or f"the task is {to}")
    return Resolution(
        status=ApprovalStatus.APPROVED if let else ApprovalStatus.REJECTED, by=why[:200], note=f"task: {to}"
    )


def _last_move(change: Change, field: str) -> object:
    for event in reversed(change.events):
        if event.kind == "task:transition":
            return event.body.get(field)
    return None
