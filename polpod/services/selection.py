"""Which tasks a selector means."""

from __future__ import annotations

import re
from itertools import islice

from polpod.errors import InvalidRequest
from polpod.model.submissions import Selector
from polpod.model.tasks import Task, TaskStatus
from polpod.store import pages, queries
from polpod.store.records import Tx
from polpod.store.tables import OWNER, Tasks

LIMIT = 100_000
"""Tasks that one command may be about."""

AT_ONCE = 1000
"""Ids that one query is about."""

_RANGE = re.compile(r"(\d{1,18})-(\d{1,18})")


def select(tx: Tx, selector: Selector) -> tuple[list[Task], list[str]]:
    """The selected tasks in order of `seq`, and the ids that were named but are not there.

    Raises InvalidRequest when nothing is named at all: no command is about everything by accident.
    """
    if selector.ids is selector.status is None and not (selector.queue or selector.project or selector.labels):
        raise InvalidRequest("name tasks by id, queue, project, label or status", "$.select")
    missing: list[str] = []
    named = statuses(selector)
    if selector.ids is None:
        tasks = pages.page_of_tasks(tx, statuses=named, queue=selector.queue, limit=LIMIT).tasks
    else:
        tasks = _named(tx, selector.ids, missing)
    return sorted((t for t in tasks if _matches(t, selector, named)), key=lambda t: t.seq), missing


def statuses(selector: Selector) -> tuple[TaskStatus, ...] | None:
    """The statuses that the selector names.  Raises InvalidRequest for a word that is none."""
    if selector.status is None:
        return None
    words = [s.value for s in TaskStatus]
    for word in selector.status:
        if word not in words:
            raise InvalidRequest(f"no status {word!r}: there are {', '.join(words)}", "$.select.status")
    return tuple(TaskStatus(word) for word in dict.fromkeys(selector.status))


def _matches(task: Task, selector: Selector, named: tuple[TaskStatus, ...] | None) -> bool:
    """Whether what the selector gives, other than ids, holds for the task; `named` are its statuses."""
    return (
        (selector.queue is None or task.queue == selector.queue)
        and (selector.project is None or task.project == selector.project)
        and (named is None or task.status in named)
        and (selector.labels or {}).items() <= task.labels.items()
    )


def _named(tx: Tx, ids: tuple[str, ...], missing: list[str]) -> list[Task]:
    found: dict[str, Task] = {}
    numbers: set[int] = set()
    for name in dict.fromkeys(ids):
        task = queries.own(tx, name)
        if task is not None:
            found[task.id] = task
        elif span := _RANGE.fullmatch(name):
            first, last = int(span[1]), int(span[2])
            if last - first >= LIMIT or len(numbers := numbers.union(range(first, last + 1))) > LIMIT:
                raise InvalidRequest(f"{name}: ranges of more than {LIMIT} ids", "$.select.ids")
        else:
            missing.append(name)
    spans = map(str, numbers)
    while some := tuple(islice(spans, AT_ONCE)):
        found |= {task.id: task for task in tx[Tasks].find(Tasks.id.is_in(some), Tasks.owner.eq(OWNER))}
    return list(found.values())
