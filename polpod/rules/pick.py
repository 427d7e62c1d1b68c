"""What runs next: priority, then age, within the slots that are free (DESIGN §5).

Slots are derived from rows: the callers count what is in progress, nobody keeps a counter beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from polpod.model.agents import Busy, Queue
from polpod.model.tasks import Task


class Capacity(Struct, frozen=True):
    """How much may run at once: in all, by queue and by agent; one that is not named has no limit of its own.

    An agent that is gone has the limit 0.
    """

    total: int
    queues: Mapping[str, Queue]
    agents: Mapping[str, int]


def free_in_queue(name: str, capacity: Capacity, busy: Busy) -> int:
    """Tasks of this queue that may start now, as far as the queue and the whole are concerned."""
    free = capacity.total - busy.total
    queue = capacity.queues.get(name)
    if queue is None:
        return max(0, free)
    if queue.paused:
        return 0
    if queue.slots is not None:
        free = min(free, queue.slots - busy.queues.get(name, 0))
    return max(0, free)


def pick(ready: Iterable[Task], capacity: Capacity, busy: Busy) -> list[Task]:
    """Those of the ready tasks that start now, in the order in which they start."""
    queues, agents = Counter(busy.queues), Counter(busy.agents)
    picked: list[Task] = []
    for task in sorted(ready, key=lambda t: (-t.priority, t.seq)):
        if free_in_queue(task.queue, capacity, Busy(queues, agents)) <= 0:
            continue
        if task.assigned_to is not None:
            if agents[task.assigned_to] >= capacity.agents.get(task.assigned_to, capacity.total):
                continue
            agents[task.assigned_to] += 1
        queues[task.queue] += 1
        picked.append(task)
    return picked
