"""Approvals: questions whether something may go on, and what was decided."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from polpod.model.entity import Count, Entity
from polpod.model.submissions import Id
from polpod.model.tasks import Instant


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    TIMEOUT = "timeout"
    """Nobody answered in time, and what was declared for that case was done: no person said no."""


class ApprovalKind(StrEnum):
    """What a person is asked."""

    START = "start"
    """Whether it may start."""
    DONE = "done"
    """Whether what it did is good."""
    LOST = "lost"
    """What to do about work of which nobody knows how it ended."""
    SHUTDOWN = "shutdown"
    """The same, of what has side effects and was ended as polpod stopped."""
    LAUNCH = "launch"
    """It could not be started, again and again."""
    EFFECTS = "side_effects"
    """Whether to repeat what has side effects."""
    ESCALATION = "escalation"
    """What nobody else got right."""
    BUDGET = "budget"
    """Whether it may spend more."""
    QUESTION = "question"
    """What a run asked."""
    QUARANTINED = "quarantined"
    """The record of its run cannot be read."""
    DECISION = "decision"
    """Anything else: a program had it wait."""


OnTimeout = Literal["approve", "reject"]


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
    kind: ApprovalKind | None = None
    """Of polpod's own; None: somebody else's, which moves no task."""
    execution_id: str | None = None
    project: str | None = None
    message: str = ""
    """What is asked, in words."""
    deadline: Instant | None = None
    on_timeout: OnTimeout | None = None
    """What is done when the deadline passes; None: it is told, and the request stays."""
    timed_out_at: Instant | None = None
    """When it was told that the deadline passed."""
    feedback: str | None = None
    """What the person said, for who does the work."""
    revision: Count = 0
    """How often another version was asked for before."""
    max_revisions: Count = 3

    @property
    def about(self) -> str | None:
        """What of polpod's own waits for it: `task/7`, `execution/1.2`, `project/web`; at most one request is pending."""
        if self.kind is None:
            return None
        if self.task_id is not None:
            return f"task/{self.task_id}"
        return f"execution/{self.execution_id}" if self.execution_id is not None else f"project/{self.project}"


class Asked(Struct, frozen=True, kw_only=True):
    """What a person shall be asked about a task that stops for it."""

    kind: ApprovalKind
    message: str = ""
    gate_id: str | None = None
    """None: no gate of polpo.json's, but polpod itself."""
    gate_name: str = ""
    timeout: float | None = None
    """Seconds."""
    on_timeout: OnTimeout | None = None
    max_revisions: int = 3
    payload: object = None


class Resolution(Struct, frozen=True, kw_only=True):
    """How a request ends."""

    status: ApprovalStatus
    by: str
    feedback: str | None = None
    note: str | None = None


KINDS: dict[str, ApprovalKind] = {
    "needs_approval": ApprovalKind.START,
    "approve_done": ApprovalKind.DONE,
    "lost": ApprovalKind.LOST,
    "shutdown": ApprovalKind.SHUTDOWN,
    "never_started": ApprovalKind.LAUNCH,
    "side effects": ApprovalKind.EFFECTS,
    "escalation": ApprovalKind.ESCALATION,
    "budget": ApprovalKind.BUDGET,
    "question": ApprovalKind.QUESTION,
}
"""The kind by the reason for which a task came to wait, where nothing more was said."""
