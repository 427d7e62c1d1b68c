"""Changes: what rules decide about a task, and the store writes in one transaction (invariant 8)."""

from __future__ import annotations

from msgspec import Struct

from polpod.model.events import Event
from polpod.model.tasks import Task


class Change(Struct, frozen=True):
    """A task as it shall be stored, and the events that go with it, in order."""

    task: Task
    events: tuple[Event, ...]

    def and_then(self, later: Change) -> Change:
        return Change(later.task, self.events + later.events)
