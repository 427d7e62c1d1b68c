"""Tasks that somebody waits for, with all that these wait for: read once, and then as the journal tells of them.

Rules:

1. It listens first and reads then, so that nothing happens unseen between the two.
2. A task is read again only when an event was about it: waiting for many costs what happens to them, and no more.
3. Little is kept of each, since a client may wait for thousands.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from polpod.model.tasks import Task, TaskStatus
from polpod.rules.waiting import DEAD_ENDS, Ending, blocked, ending
from polpod.services import views
from polpod.services.journal import Watch
from polpod.store import approvals
from polpod.store.changes import require
from polpod.store.gate import Gate
from polpod.store.records import Tx
from polpod.store.tables import Tasks

_KIND = "task/"
"""What a task's id is preceded by where it is the subject of an event."""


class _Seen(Struct, frozen=True):
    status: TaskStatus
    end: Ending
    """Its own, whatever it waits for."""
    how: dict[str, object]
    """The fields of its result that are answered."""
    waits_for: tuple[str, ...]


class Awaited:
    """Waiting for `ids`; with `keep_waiting`, what only a person can move on is waited for as well (DESIGN §10)."""

    def __init__(self, tasks: Gate[Tx], watch: Watch, ids: Sequence[str], *, keep_waiting: bool = False) -> None:
        self._tasks = tasks
        self._watch = watch
        self._ids = ids
        self._wanted = frozenset(ids)
        self._keep_waiting = keep_waiting
        self._seen: dict[str, _Seen] = {}
        self._gone: set[str] = set()
        """Those that somebody waited for and that have no row: removed, or, where somebody waits still, quarantined."""
        self._going_on = set(ids)
        """Those that are wanted and have no end of their own."""

    async def look(self) -> None:
        """Read everything at first, later what was committed since.  Raises NotFound for one of the ids."""
        concerned = {subject.removeprefix(_KIND) for subject in self._watch.take()}
        unread = concerned if self._seen else set(self._wanted)
        while unread:
            self._watch.add(_KIND + task_id for task_id in unread)
            found = await self._tasks.read(partial(self._read, unread))
            gone = {task_id for task_id in unread if found[task_id] is None}
            for task_id in unread:
                self._keep(task_id, found.pop(task_id))
            # Those left were read before anybody listened: once more; and so those that waited for what is gone.
            unread = set(found) | {i for i, seen in self._seen.items() if not gone.isdisjoint(seen.waits_for)}

    def over(self, *, any_of_them: bool = False) -> bool:
        """Whether waiting for all, or any, of the ids is over."""
        if any_of_them and len(self._going_on) < len(self._wanted):
            return True
        stuck = self._blocked()
        return bool(stuck) if any_of_them else self._going_on <= stuck.keys()

    def entries(self) -> list[dict[str, object]]:
        """What task.wait says of each id."""
        stuck = self._blocked()
        return [_entry(task_id, self._seen[task_id], stuck.get(task_id)) for task_id in self._ids]

    def _read(self, ids: set[str], tx: Tx) -> dict[str, _Seen | None]:
        """These tasks, and what they wait for as far as nothing is known of it yet."""
        found: dict[str, _Seen | None] = {}
        waiting = list(ids)
        while waiting:
            task_id = waiting.pop()
            if task_id not in found:
                task = require(tx, task_id) if task_id in self._wanted else tx[Tasks].get(task_id)
                found[task_id] = seen = None if task is None else self._see(tx, task)
                waits_for = seen.waits_for if seen else ()
                waiting += [i for i in waits_for if i not in self._seen and i not in self._gone]
        return found

    def _see(self, tx: Tx, task: Task) -> _Seen:
        end, result = ending(task, approvals.rejected(tx, task)), task.result
        if self._keep_waiting and end.outcome == "unknown":
            end = Ending(None)
        follow = not self._keep_waiting and not task.finished
        return _Seen(
            status=task.status,
            end=end,
            how={name: getattr(result, name, None) for name in ("reason", "exit_code", "signal")},
            waits_for=tuple(views.unmet_ids(tx, task)) if follow else (),
        )

    def _keep(self, task_id: str, seen: _Seen | None) -> None:
        if seen is None:
            self._seen.pop(task_id, None)
            self._gone.add(task_id)
            return
        self._seen[task_id] = seen
        if seen.end.outcome is not None:
            self._going_on.discard(task_id)
        elif task_id in self._wanted:
            self._going_on.add(task_id)

    def _blocked(self) -> dict[str, Ending]:
        """The ends of those of the ids that are pending and, directly or through others, wait for a dead end."""
        dead = {i: i for i, seen in self._seen.items() if seen.status in DEAD_ENDS} | {i: i for i in self._gone}
        if not dead or not self._going_on:
            return {}
        dependents = defaultdict(list)
        for task_id, seen in self._seen.items():
            for on_id in seen.waits_for:
                dependents[on_id].append(task_id)
        reached = deque(dead)
        while reached:
            on_id = reached.popleft()
            fresh = [task_id for task_id in dependents[on_id] if task_id not in dead]
            dead |= dict.fromkeys(fresh, dead[on_id])
            reached += fresh
        stuck = [i for i in self._going_on if i in dead and self._seen[i].status is TaskStatus.PENDING]
        ends = {on_id: None if on_id in self._gone else self._seen[on_id].status for on_id in dead.values()}
        return {task_id: blocked(dead[task_id], ends[dead[task_id]]) for task_id in stuck}


def _entry(task_id: str, seen: _Seen, stuck: Ending | None) -> dict[str, object]:
    end = stuck or seen.end
    return {"id": task_id, "status": seen.status, "outcome": end.outcome} | seen.how | {"message": end.message}
