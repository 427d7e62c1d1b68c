"""Artifacts and the projects that they are made for.  The content of an artifact is stored elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from polpod.model.entity import Amount, Count, Entity, NotBlank, distinct, iso
from polpod.model.tasks import Instant


class ArtifactType(StrEnum):
    CODE = "code"
    TESTS = "tests"
    DOCUMENTATION = "documentation"


class Artifact(Entity, frozen=True, kw_only=True):
    id: NotBlank
    type: ArtifactType
    path: NotBlank
    task_id: NotBlank
    created_by: NotBlank
    description: str = ""
    content_type: str = ""
    size_bytes: Count = 0
    created_at: Instant | None = None
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")] | None = None
    """Of the content, in lower case hexadecimal digits, where polpod took it."""
    project_id: NotBlank | None = None


class ProjectStatus(StrEnum):
    PLANNING = "planning"
    ACTIVE = "active"
    ON_HOLD = "on_hold"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Project(Entity, frozen=True, kw_only=True):
    rules = (distinct("team"), distinct("task_ids"), iso("deadline"))

    id: NotBlank
    name: NotBlank
    description: str = ""
    team: tuple[NotBlank, ...] = ()
    lead: NotBlank | None = None
    """Need not be in the team."""
    task_ids: tuple[NotBlank, ...] = ()
    deadline: str | None = None
    budget: Amount = 0.0
    status: ProjectStatus = ProjectStatus.PLANNING
