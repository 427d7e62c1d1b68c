"""What a run that is over says about work: one record for each, and what many of them say together.

Rules:

1. A record repeats what the row of the run says, and nothing else; where the row has nothing, so has the record, or 0
   where it must have something.
2. Costs are what jobs say: a sum that is beyond what a record can hold is the most that it can.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from polpod.model.entity import LARGEST
from polpod.model.organisation.money import CostRecord
from polpod.model.organisation.work import Complexity, TaskMetricRecord, TaskType
from polpod.model.runs import Run, RunStatus
from polpod.model.tasks import Task
from polpod.rules.organisation import STAND_IN


def metric_id(run_id: int) -> str:
    """Text order is the order of the runs."""
    return f"run-{run_id:015d}"


def metric(task: Task, run: Run, costs: Sequence[CostRecord], turns: int, at: datetime) -> TaskMetricRecord:
    """The record of a run that is over; `costs` and `turns` (checkpoints) are those of this run.

    `at` stands in for an end that nobody saw.
    """
    completed = _instant(run.ended_at) or at
    started = _instant(run.started_at)
    return TaskMetricRecord(
        id=metric_id(run.id),
        agent_id=agent_of(task),
        task_id=task.id,
        task_type=TaskType.DEVELOPMENT,
        started_at=started if started is not None and started < completed else None,
        completed_at=completed,
        is_success=run.status is RunStatus.COMPLETED,
        duration_seconds=run.duration or 0.0,
        cost_usd=min(sum(cost.cost_usd for cost in costs), sys.float_info.max),
        turns_used=turns,
        tokens_used=min(sum(cost.input_tokens + cost.output_tokens for cost in costs), LARGEST),
        complexity=Complexity.MEDIUM,
        cpu_seconds=run.cpu_seconds,
        max_rss=run.max_rss,
        spec_id=task.spec_id,
        work=work_of(task),
    )


def work_of(task: Task) -> str:
    """What is equal for tasks that are the same work, although each was submitted from another environment."""
    said = msgspec.json.encode((agent_of(task), task.title, task.project))
    return hashlib.sha256(said).hexdigest()


def agent_of(task: Task) -> str:
    """Whose work it is: the agent's, or polpod's own."""
    return task.assigned_to if task.assigned_to and task.assigned_to.strip() else STAND_IN


class Measured(Struct, frozen=True):
    """What statistics need of one record."""

    success: bool
    duration: float
    cpu: float
    memory: int | None
    cost: float


class Summary(Struct, frozen=True, kw_only=True):
    """Of the records of one group.  Durations and CPU time in seconds, `peak_memory` in bytes."""

    group: str
    count: int
    success_rate: float
    median_duration: float
    p95_duration: float
    cpu_seconds: float
    peak_memory: int | None
    """None: nobody measured it."""
    cost_usd: float


def measured(record: TaskMetricRecord) -> Measured:
    return Measured(
        record.is_success, record.duration_seconds, record.cpu_seconds or 0.0, record.max_rss, record.cost_usd
    )


def summary(group: str, records: Sequence[Measured]) -> Summary:
    """`records` must not be empty."""
    durations = sorted(record.duration for record in records)
    return Summary(
        group=group,
        count=len(records),
        success_rate=sum(record.success for record in records) / len(records),
        median_duration=statistics.median(durations),
        p95_duration=nearest_rank(durations, 0.95),
        cpu_seconds=sum(record.cpu for record in records),
        peak_memory=max((record.memory for record in records if record.memory is not None), default=None),
        cost_usd=sum(record.cost for record in records),
    )


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of the values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def groups_of(task: Task | None, by: str) -> Iterable[str]:
    """The groups that a record of the task belongs to: one, or one for each label.  `by`: queue, project or label."""
    if task is None:
        return ("",)
    match by:
        case "queue":
            return (task.queue,)
        case "project":
            return (task.project or "",)
        case "label":
            return tuple(f"{name}={value}" for name, value in task.labels.items()) or ("",)
    return (agent_of(task),)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
