"""What a library's user may say about a task: the fields of DESIGN §5 that are theirs to set."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from polpod.model.entity import Entity
from polpod.model.submissions import Id, Name
from polpod.model.tasks import Count, Instant, Seconds, TaskResult, TaskStatus

Objects = tuple[dict[str, object], ...]


class NewTask(Entity, frozen=True, kw_only=True):
    """A field that is not named has the default of Task; a duration is in seconds."""

    title: Annotated[str, Meta(min_length=1, max_length=1000)]
    description: str = ""
    assigned_to: Name | None = None
    status: TaskStatus = TaskStatus.PENDING
    group: Name | None = None
    mission_id: Id | None = None
    depends_on: tuple[Id, ...] = ()
    project: Name | None = None
    labels: dict[str, str] = {}
    priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 0
    expectations: Objects = ()
    metrics: Objects = ()
    expected_outcomes: Objects = ()
    outcomes: Objects = ()
    max_retries: Count | None = None
    max_duration: Seconds | None = None
    stale_threshold: Seconds | None = None
    retry_policy: dict[str, object] | None = None
    notifications: dict[str, object] | None = None
    side_effects: bool = False
    hold: bool = False
    not_before: Instant | None = None
    deadline: Instant | None = None
    phase: str | None = None
    session_id: str | None = None
    original_description: str | None = None
    fix_attempts: Count = 0
    question_rounds: Count = 0
    resolution_attempts: Count = 0
    revision_count: Count = 0
    result: TaskResult | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status not in (TaskStatus.PENDING, TaskStatus.DRAFT):
            raise ValueError(f"status: a new task is pending or draft, not {self.status}")
