"""Approvals: functions of a transaction."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from polpod.contracts.taskstore import said
from polpod.errors import Conflict, InvalidRequest
from polpod.model.polpo.approvals import ApprovalRequest, ApprovalStatus
from polpod.store.polpo import Approvals, next_number
from polpod.store.records import Tx


def upsert(
    tx: Tx, /, request: ApprovalRequest | Mapping[str, object] | None = None, **fields: object
) -> ApprovalRequest:
    """Store a request, or what became of it; `requested_at` is made where it is not given, and its place is kept.

    Raises InvalidRequest, naming the field; Conflict for one of polpod's own, which moves a task when it is decided.
    """
    values = said.fields(request, fields)
    new = said.entity(ApprovalRequest, {"requested_at": said.now()} | values)
    if new.kind is not None:
        raise InvalidRequest("kind: only polpod's own requests have one", "$.kind")
    known = tx[Approvals].get(new.id)
    _refuse_own(known)
    if known is None:
        new = structs.replace(new, seq=next_number(tx, Approvals, Approvals.seq))
    else:
        new = structs.replace(new, seq=known.seq, requested_at=values.get("requested_at") or known.requested_at)
    tx[Approvals].save(new)
    return new


def _refuse_own(known: ApprovalRequest | None) -> None:
    if known is not None and known.kind is not None:
        about = known.about
        raise Conflict(
            f"{known.id} is polpod's own, about {about}: it is decided by `polpoctl approval`, and goes with that"
        )


def get(tx: Tx, request_id: str) -> ApprovalRequest | None:
    """The request; None: there is none of that id."""
    return tx[Approvals].get(request_id)


def list_(tx: Tx, status: str | None = None) -> list[ApprovalRequest]:
    """The requests, of a status or all, the oldest first.  Raises InvalidRequest for what is no status."""
    if status is None:
        return tx[Approvals].find()
    return tx[Approvals].find(Approvals.status.eq(said.value("status", status, ApprovalStatus)))


def list_by_task(tx: Tx, task_id: str) -> list[ApprovalRequest]:
    """The requests about a task, whatever became of them, the oldest first."""
    return tx[Approvals].find(Approvals.task_id.eq(task_id))


def delete(tx: Tx, request_id: str) -> bool:
    """Whether there was such a request.  Raises Conflict for one of polpod's own."""
    _refuse_own(tx[Approvals].get(request_id))
    return tx[Approvals].delete(request_id)
