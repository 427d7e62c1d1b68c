"""Pages of tasks, as lists show them: by a cursor, in either direction, and without reading what they do not return."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from msgspec import Struct

from polpod.model.tasks import Task, TaskStatus
from polpod.store.records import Tx
from polpod.store.table import Order, Where
from polpod.store.tables import Tasks

LATELY = 100
"""The most tasks that a list shows because they finished lately."""

MOST_SEARCHED = 5_000
"""Tasks that one call looks through for a text: some tens of milliseconds."""


class TaskPage(Struct, frozen=True):
    """`next` is the cursor of the page after this one; None: there is none."""

    tasks: list[Task]
    next: int | None


def page_of_tasks(
    tx: Tx,
    *,
    after: int = 0,
    before: int | None = None,
    limit: int = 100,
    statuses: Collection[TaskStatus] | None = None,
    finished_since: datetime | None = None,
    queue: str | None = None,
    project: str | None = None,
    labels: Mapping[str, str] | None = None,
    text: str | None = None,
) -> TaskPage:
    """Our tasks past the `seq` `after`, in its order, or else those `before` one, the newest first: in one of `statuses`,
    or among the LATELY newest that finished since then; both None: all.

    Reads on until the page is full where queue, project or labels leave most tasks out.  `text`: words, each of which is in
    the title, or is the id; for those a call looks through MOST_SEARCHED tasks at most, and its page may be empty though others
    follow.
    """
    where: list[Where[Task]] = []
    if queue is not None:
        where.append(Tasks.queue.eq(queue))
    if project is not None:
        where.append(Tasks.project.eq(project))
    wanted, words = (labels or {}).items(), (text or "").casefold().split()
    chunk_size, searched = max(limit, 1000) if words else limit, 0
    page: list[Task] = []
    while True:
        cut = _Cut(after, before)
        if statuses is None and finished_since is None:
            chunk = tx[Tasks].find(Tasks.status.is_set(), cut.where, *where, order_by=(cut.order,), limit=chunk_size)
        else:
            chunk = _merged(tx, cut, chunk_size, statuses or (), finished_since, where)
        page += (task for task in chunk if wanted <= task.labels.items() and _says(task, words))
        searched += len(chunk)
        if len(page) >= limit:
            return TaskPage(page[:limit], page[limit - 1].seq)
        if len(chunk) < chunk_size:
            return TaskPage(page, None)
        if words and searched >= MOST_SEARCHED:
            return TaskPage(page, chunk[-1].seq)
        after, before = chunk[-1].seq, None if before is None else chunk[-1].seq


def _says(task: Task, words: Collection[str]) -> bool:
    title = task.title.casefold() if words else ""
    return all(word in title or word == task.id for word in words)


class _Cut(Struct, frozen=True):
    """Where a page begins, and in which direction it goes."""

    after: int
    before: int | None

    @property
    def where(self) -> Where[Task]:
        return Tasks.seq.gt(self.after) if self.before is None else Tasks.seq.lt(self.before)

    @property
    def order(self) -> Order[Task]:
        return Tasks.seq.asc() if self.before is None else Tasks.seq.desc()

    def has(self, seq: int) -> bool:
        return seq > self.after if self.before is None else seq < self.before


def _merged(
    tx: Tx,
    cut: _Cut,
    limit: int,
    statuses: Collection[TaskStatus],
    finished_since: datetime | None,
    where: list[Where[Task]],
) -> list[Task]:
    """One look in an index for each status: a single query for several would have to sort them all."""
    found: dict[int, Task] = {}
    for status in statuses:
        tasks = tx[Tasks].find(Tasks.status.eq(status), cut.where, *where, order_by=(cut.order,), limit=limit)
        found.update((task.seq, task) for task in tasks)
    if finished_since is not None:
        order = (Tasks.finished_at.desc(), Tasks.seq.desc())
        tasks = tx[Tasks].find(Tasks.finished_at.ge(finished_since), *where, order_by=order, limit=LATELY)
        found.update((task.seq, task) for task in tasks if cut.has(task.seq))
    return [found[seq] for seq in sorted(found, reverse=cut.before is not None)[:limit]]
