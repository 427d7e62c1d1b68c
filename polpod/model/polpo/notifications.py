"""Notifications that were sent, or could not be."""

from __future__ import annotations

from enum import StrEnum

from polpod.model.entity import Entity
from polpod.model.submissions import Id
from polpod.model.tasks import Count, Instant


class NotificationStatus(StrEnum):
    SENT = "sent"
    FAILED = "failed"


class NotificationRecord(Entity, frozen=True, kw_only=True):
    id: Id
    timestamp: Instant
    rule_id: str
    rule_name: str = ""
    channel: str
    channel_type: str = ""
    status: NotificationStatus
    error: str | None = None
    title: str = ""
    body: str = ""
    severity: str = "info"
    source_event: str = ""
    attachment_count: Count = 0
    attachment_types: tuple[str, ...] = ()
    seq: int = 0
    """Order of appending; the store gives it."""
