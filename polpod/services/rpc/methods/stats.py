"""stats.*: what the metrics of all runs say together."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from msgspec import Struct

from polpod.model.tasks import Instant, Task
from polpod.rules.metrics import Measured, Summary, groups_of, measured, summary
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.organisation import TaskMetrics
from polpod.store.records import Tx
from polpod.store.tables import Tasks

PAGE = 500


class Of(Struct, frozen=True, forbid_unknown_fields=True):
    by: Literal["queue", "agent", "project", "label"] = "queue"
    since: Instant | None = None
    """Of runs that ended from then on."""


class Stats(Struct, frozen=True):
    groups: list[Summary]
    total: Summary | None
    """Null: there are none."""


async def runs(call: Call, params: Of) -> Stats:
    """Read page by page, so that nobody waits for it."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    every: list[Measured] = []
    after = ""
    since = [] if params.since is None else [TaskMetrics.completed_at.ge(params.since)]

    def body(tx: Tx) -> tuple[str, list[tuple[Measured, Task | None]]]:
        page = tx[TaskMetrics].find(TaskMetrics.id.gt(after), *since, order_by=(TaskMetrics.id.asc(),), limit=PAGE)
        tasks = {task.id: task for task in tx[Tasks].find(Tasks.id.is_in({metric.task_id for metric in page}))}
        return page[-1].id if page else "", [(measured(metric), tasks.get(metric.task_id)) for metric in page]

    while True:
        after, page = await call.desk.instance.tasks.read(body)
        if not page:
            break
        for record, task in page:
            every.append(record)
            for group in groups_of(task, params.by):
                groups[group].append(record)
    found = [summary(group, records) for group, records in sorted(groups.items())]
    return Stats(found, summary("", every) if every else None)


METHODS = (Method("stats.runs", Of, Stats, runs, "How many runs, how they ended, and what they took.", Right.RUN),)
