"""What the daemon learns from committed events: counts by status, and who waits for a subject.

Rule: fed by the task store after each commit, in commit order; nothing else feeds it, so it never runs ahead of the rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from polpod.model.events import Event
from polpod.services.bell import Bell

EVERYTHING = ""
"""The subject under which those wait who wait for any event."""

_STARTABLE = frozenset({"pending", "done", "failed", "cancelled", "awaiting_approval", "review"})
"""A change to one of these may free a slot or make something ready."""


class Journal:
    def __init__(self, tasks: Mapping[str, int]) -> None:
        """Starts from the counts by status that the store has now."""
        self.tasks = Counter(tasks)
        self.work = Bell()
        """Rung when something may be ready to start."""
        self._waiting: dict[str, set[Bell]] = defaultdict(set)

    def absorb(self, events: tuple[Event, ...]) -> None:
        subjects = {EVERYTHING}
        for event in events:
            subjects.add(event.subject)
            self._count(event)
        for subject in subjects:
            for bell in self._waiting.get(subject, ()):
                bell.ring()

    def _count(self, event: Event) -> None:
        match event.kind:
            case "task:created":
                self.tasks[event.body["status"]] += 1
                self.work.ring()
            case "task:transition":
                self.tasks[event.body["from"]] -= 1
                self.tasks[event.body["to"]] += 1
                if event.body["to"] in _STARTABLE:
                    self.work.ring()
            case "task:removed":
                self.tasks[event.body["status"]] -= 1
            case "task:quarantined":
                if event.body["status"] in self.tasks:  # else it was never counted
                    self.tasks[event.body["status"]] -= 1
                self.work.ring()
            case "task:updated" | "queue:updated":
                self.work.ring()

    @contextmanager
    def listening(self, subjects: Iterable[str]) -> Iterator[Bell]:
        """A bell that rings at each commit about one of these subjects; listen first, then read, then wait."""
        bell, names = Bell(), list(subjects)
        for name in names:
            self._waiting[name].add(bell)
        try:
            yield bell
        finally:
            for name in names:
                self._waiting[name].discard(bell)
                if not self._waiting[name]:
                    del self._waiting[name]
