"""project.*: what tasks are done for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from polpod.model.organisation.artifacts import Project, ProjectStatus
from polpod.services.rpc.directory import Made, methods
from polpod.services.rpc.method import Call
from polpod.store.organisation import Projects
from polpod.store.records import Tx

Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Name
    """What tasks name it by (`project`)."""
    name: Name | None = None
    description: Annotated[str, Meta(max_length=65536)] = ""
    lead: Name | None = None
    team: tuple[Name, ...] = ()
    budget: Annotated[float, Meta(ge=0)] = 0.0
    deadline: str | None = None
    status: ProjectStatus = ProjectStatus.ACTIVE


def _made(tx: Tx, params: Add, call: Call, at: datetime) -> Made:
    return Made(
        Project(
            id=params.id, name=params.name or params.id, description=params.description, lead=params.lead,
            team=params.team, budget=params.budget, deadline=params.deadline, status=params.status,
        )
    )  # fmt: skip


METHODS = methods("project", Projects, Add, _made)
