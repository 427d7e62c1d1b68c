"""Changes: what rules decide about a task, and the store writes in one transaction (invariant 8)."""

from __future__ import annotations

from msgspec import Struct

from polpod.model.events import Event
from polpod.model.polpo.approvals import Asked, Resolution
from polpod.model.tasks import Task


class Change(Struct, frozen=True):
    """A task as it shall be stored, and the events that go with it, in order."""

    task: Task
    events: tuple[Event, ...]
    asked: Asked | None = None
    """Where it ends waiting for approval: what a person is asked; None: what the last transition's reason says."""
    resolution: Resolution | None = None
    """How its pending request ends; None: as the transition says."""

    def and_then(self, later: Change) -> Change:
        return Change(later.task, self.events + later.events, later.asked, later.resolution or self.resolution)
