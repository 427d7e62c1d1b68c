"""What a daemon counts of itself while it lives: how often something happened, and how long it took.

Rules:

1. Each daemon begins with zeros, a reloaded one too: to whoever scrapes it, that is the reset of a counter.
2. What happens to tasks and runs is counted from the committed events of the journal, and from nothing else.
3. Labels have few values, whatever clients do: queues, of which there may be QUEUES, and never a task, a run or a user.
   A counter whose labels are known is there with 0 before it counts, since an increase from nothing is seen by nobody.
4. These are plain numbers; what they are called outside is said in exposition.py, which only a scrape loads.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from polpod.model.events import Event
from polpod.model.tasks import FINISHED, TaskStatus
from polpod.rules.outcome import MEANING
from polpod.store.group import Group

QUEUES = 100
"""Queues that are told apart; anybody who may submit can name new ones."""

OTHERS = "(others)"
"""What stands for the queues beyond them."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for what the daemon does itself."""

LONG = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)
"""Bounds for work, which may take milliseconds or days."""

PHASES = ("execution", "review")

AGAIN = ("retry", "escalation")
"""Why a task that failed waits again by itself (rules/again.py), in the transaction that had it fail: that was no end."""

DEFECT = "defect"
"""The outcome of a call that failed by a mistake of ours."""

Labels = tuple[str, ...]
"""Values of labels, in their order."""


class Histogram:
    """How many values there were up to each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> Iterator[tuple[str, float]]:
        """Each bound, `+Inf` in the end, with how many values did not exceed it."""
        number = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self._counts, strict=True):
            number += count
            yield bound, number


class LoopTurns(trio.abc.Instrument):
    """How long each turn of the event loop takes: whatever becomes ready meanwhile waits for its end.

    It wakes nobody up: a loop that sleeps is not asked.
    """

    def __init__(self) -> None:
        self.turns = Histogram(SECONDS)
        self._woke = time.perf_counter()

    def after_io_wait(self, timeout: float) -> None:
        self._woke = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        self.turns.observe(time.perf_counter() - self._woke)


class Meter:
    """`queues` and `channels` are those that are known at the start, by name."""

    def __init__(self, queues: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        self.submitted: Counter[Labels] = Counter()
        """Tasks, by queue; as `finished`, by queue and status."""
        self.finished: Counter[Labels] = Counter()
        self.retried: Counter[Labels] = Counter({("automatic",): 0, ("manual",): 0})
        self.recovered: Counter[Labels] = Counter({("lost",): 0, ("never_started",): 0, ("shutdown",): 0})
        self.started: Counter[Labels] = Counter()
        """Runs, by queue and phase; as `ended`, by queue, phase, status and reason."""
        self.ended: Counter[Labels] = Counter()
        self.late: Counter[Labels] = Counter({(): 0})
        self.quarantined: Counter[Labels] = Counter({(): 0})
        self.undelivered: Counter[Labels] = Counter({(channel,): 0 for channel in channels})
        self.waits: dict[Labels, Histogram] = {}
        """Seconds from ready to started, by queue; as `durations`, of executions that ended."""
        self.durations: dict[Labels, Histogram] = {}
        self.commits: dict[Labels, Histogram] = {(store,): Histogram(SECONDS) for store in ("tasks", "runs")}
        self.bodies: Counter[Labels] = Counter({("tasks",): 0, ("runs",): 0})
        self.calls: Counter[Labels] = Counter()
        """By method and outcome."""
        self.defects: Counter[Labels] = Counter({(): 0})
        """Calls that were answered with an error of ours."""
        self.answers = Histogram(SECONDS)
        """Seconds until a call was answered that does not wait on purpose."""
        self.connections = 0
        self.scraping = trio.CapacityLimiter(1)
        """One scrape at a time."""
        self.loop = LoopTurns()
        self._queues: set[str] = set()
        for queue in queues:
            self.queue(queue)

    def queue(self, name: object) -> str:
        """What stands for the queue: its name, or OTHERS."""
        name = str(name)
        if name in self._queues:
            return name
        if len(self._queues) >= QUEUES:
            name = OTHERS
        if name not in self._queues:
            self._queues.add(name)
            self.submitted[name,] += 0
            self.waits[name,], self.durations[name,] = Histogram(LONG), Histogram(LONG)
            self.finished.update(dict.fromkeys(((name, str(status)) for status in FINISHED), 0))
            self.started.update(dict.fromkeys(((name, phase) for phase in PHASES), 0))
            self.ended.update(dict.fromkeys(((name, PHASES[0], *map(str, end)) for end in MEANING), 0))
        return name

    def absorb(self, events: Iterable[Event]) -> None:
        """Committed, in commit order."""
        for event in events:
            self._count(event)

    def _count(self, event: Event) -> None:
        body = event.body
        match event.kind:
            case "task:created":
                self.submitted[self.queue(body["queue"]),] += 1
            case "task:transition" if body["to"] in FINISHED:
                self.finished[self.queue(body["queue"]), str(body["to"])] += 1
            case "task:transition" if body["from"] == TaskStatus.FAILED and body.get("reason") in AGAIN:
                self.finished[self.queue(body["queue"]), str(body["from"])] -= 1
            case "agent:spawned":
                queue = self.queue(body["queue"])
                self.started[queue, "execution"] += 1
                self.waits[queue,].observe(body["waited"])
            case "assessment:started":
                self.started[self.queue(body["queue"]), "review"] += 1
            case "agent:finished":
                queue = self._ended("execution", body)
                if body["duration"] is not None:
                    self.durations[queue,].observe(body["duration"])
            case "assessment:complete":
                self._ended("review", body)
            case "task:retry":
                self.retried["automatic" if "delay" in body else "manual",] += 1
            case "task:recovered":
                self.recovered[str(body["reason"]),] += 1
            case "run:late":
                self.late[()] += 1
            case "notification:failed":
                self.undelivered[str(body["channel"]),] += 1
            case kind if kind.endswith(":quarantined"):
                self.quarantined[()] += 1

    def _ended(self, phase: str, body: dict[str, object]) -> str:
        queue = self.queue(body["queue"])
        self.ended[queue, phase, str(body["status"]), str(body["reason"])] += 1
        return queue

    def committed(self, store: str, group: Group[Any]) -> None:
        """A group of bodies is over; those that were refused, or not stored, wrote nothing."""
        self.bodies[store,] += sum(ticket.error is None for ticket in group.tickets)
        for seconds in group.commits:
            self.commits[store,].observe(seconds)

    def called(self, method: str, outcome: str, seconds: float, *, waits: bool) -> None:
        """A call was answered."""
        self.calls[method, outcome] += 1
        self.defects[()] += outcome == DEFECT
        if not waits:
            self.answers.observe(seconds)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """A client is there meanwhile."""
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1
