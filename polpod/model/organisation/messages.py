"""Messages: what agents say to each other, by channel."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID, uuid4

from msgspec import field

from polpod.model.entity import Amount, Count, Entity, NotBlank, distinct
from polpod.model.tasks import Instant


class MessageType(StrEnum):
    TASK_UPDATE = "task_update"
    QUESTION = "question"
    ANNOUNCEMENT = "announcement"
    REVIEW_REQUEST = "review_request"
    APPROVAL = "approval"
    DELEGATION = "delegation"
    STATUS_REPORT = "status_report"
    ESCALATION = "escalation"
    MEETING_CONTRIBUTION = "meeting_contribution"
    HR_NOTIFICATION = "hr_notification"


class MessagePriority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class AttachmentType(StrEnum):
    ARTIFACT = "artifact"
    FILE = "file"
    LINK = "link"


class Attachment(Entity, frozen=True, kw_only=True):
    type: AttachmentType
    ref: NotBlank


class MessageMetadata(Entity, frozen=True, kw_only=True):
    rules = (distinct("extra", of=lambda pair: pair[0]),)

    task_id: NotBlank | None = None
    project_id: NotBlank | None = None
    tokens_used: Count | None = None
    cost_usd: Amount | None = None
    extra: tuple[tuple[NotBlank, str], ...] = ()


class Message(Entity, frozen=True, kw_only=True):
    """`sender` is `from` in JSON."""

    id: UUID = field(default_factory=uuid4)
    timestamp: Instant
    sender: NotBlank = field(name="from")
    to: NotBlank
    type: MessageType
    priority: MessagePriority = MessagePriority.NORMAL
    channel: NotBlank
    content: NotBlank
    attachments: tuple[Attachment, ...] = ()
    metadata: MessageMetadata = MessageMetadata()
