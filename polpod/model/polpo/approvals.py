"""Approvals: questions whether something may go on, and what was decided."""

from __future__ import annotations

from enum import StrEnum

from polpod.model.entity import Entity
from polpod.model.submissions import Id
from polpod.model.tasks import Instant


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    TIMEOUT = "timeout"


class ApprovalRequest(Entity, frozen=True, kw_only=True):
    id: Id
    gate_id: str
    gate_name: str = ""
    task_id: str | None = None
    mission_id: str | None = None
    status: ApprovalStatus = ApprovalStatus.PENDING
    payload: object = None
    requested_at: Instant
    resolved_at: Instant | None = None
    resolved_by: str | None = None
    note: str | None = None
    seq: int = 0
    """Order of the requests; the store gives it."""
