"""What the daemon learns from committed events: counts by status and queue, and who waits for a subject.

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


class Watch(Bell):
    """A bell that remembers which of its subjects it was rung for."""

    def __init__(self, waiting: dict[str, set[Watch]]) -> None:
        """`waiting`: who waits for each subject, where it enters itself."""
        super().__init__()
        self._waiting = waiting
        self._subjects: set[str] = set()
        self._news: set[str] = set()

    def add(self, subjects: Iterable[str]) -> None:
        """Listen for these as well."""
        for subject in subjects:
            self._subjects.add(subject)
            self._waiting[subject].add(self)

    def tell(self, subject: str) -> None:
        """Something was committed about the subject."""
        self._news.add(subject)
        self.ring()

    def take(self) -> set[str]:
        """The subjects of what was committed since this was last asked."""
        news, self._news = self._news, set()
        return news

    def close(self) -> None:
        """Listen for nothing any more."""
        for subject in self._subjects:
            self._waiting[subject].discard(self)
            if not self._waiting[subject]:
                del self._waiting[subject]


class Journal:
    def __init__(self, tasks: Mapping[tuple[str, str], int], seq: int = 0) -> None:
        """Starts from the counts by queue and status, and the last event, that the store has now."""
        self.by_queue = Counter(tasks)
        """Tasks by queue and status."""
        self.tasks: Counter[str] = Counter()
        """By status alone."""
        for (_, status), number in tasks.items():
            self.tasks[status] += number
        self.seq = seq
        """Of the last event."""
        self.work = Bell()
        """Rung when something may be ready to start."""
        self.missions = Bell()
        """Rung when something of an execution changed."""
        self.approvals = Bell()
        """Rung when a person is asked something."""
        self.schedules = Bell()
        """Rung when something happened to a mission, its schedule among that."""
        self.deadlines = Bell()
        """Rung when something happened to what has a deadline."""
        self.a2a = Bell()
        """Rung when something changed that works on an A2A task."""
        self._waiting: dict[str, set[Watch]] = defaultdict(set)

    def absorb(self, events: tuple[Event, ...]) -> None:
        subjects = {EVERYTHING}
        for event in events:
            subjects.add(event.subject)
            self._count(event)
            self.seq = event.seq
            if "execution_id" in event.body:
                self.missions.ring()
                if event.subject.startswith("mission/"):  # it goes on, or lets something through
                    self.work.ring()
            if event.subject.startswith("mission/"):
                self.schedules.ring()
            if "deadline" in event.body:
                self.deadlines.ring()
            if "a2a_id" in event.body:
                self.a2a.ring()
        for subject in subjects:
            for watch in self._waiting.get(subject, ()):
                watch.tell(subject)

    def _count(self, event: Event) -> None:
        body = event.body
        match event.kind:
            case "task:created":
                self._add(body["queue"], body["status"], 1)
                self.work.ring()
            case "task:transition":
                self._add(body["queue"], body["from"], -1)
                self._add(body["queue"], body["to"], 1)
                if body["to"] in _STARTABLE:
                    self.work.ring()
            case "task:removed":
                self._add(body["queue"], body["status"], -1)
            case "task:quarantined":
                if body["status"] in self.tasks:  # else it was never counted
                    self._add(body["queue"], body["status"], -1)
                self.work.ring()
            case "task:updated":
                if "old_queue" in body:
                    self._add(body["old_queue"], body["status"], -1)
                    self._add(body["queue"], body["status"], 1)
                self.work.ring()
            case "approval:requested":
                self.approvals.ring()
            case "assessment:complete" | "budget:raised" | "queue:updated":
                self.work.ring()

    def _add(self, queue: str, status: str, number: int) -> None:
        self.tasks[status] += number
        self.by_queue[queue, str(status)] += number

    @contextmanager
    def listening(self, subjects: Iterable[str] = ()) -> Iterator[Watch]:
        """A watch that is rung at each commit about one of these subjects; listen first, then read, then wait."""
        watch = Watch(self._waiting)
        watch.add(subjects)
        try:
            yield watch
        finally:
            watch.close()
