"""What a run says about work, and what many say together."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import NOW, a_run, a_task

from polpod.model.organisation.money import CostRecord
from polpod.model.runs import Reason, RunStatus
from polpod.rules.metrics import Measured, groups_of, metric, metric_id, nearest_rank, summary

STARTED = "2026-03-01T11:00:00.000000Z"
ENDED = "2026-03-01T11:00:02.500000Z"


def ended(**values: Any) -> Any:
    fixed = {"started_at": STARTED, "ended_at": ENDED, "duration": 2.5, "cpu_seconds": 1.25, "max_rss": 4096}
    return a_run(RunStatus.COMPLETED, Reason.EXITED, **fixed | values)


def a_measure(duration: float = 1.0, *, success: bool = True, memory: int | None = None) -> Measured:
    return Measured(success, duration, 0.5, memory, 0.25)


def test_a_record_repeats_the_row() -> None:
    record = metric(a_task(assigned_to="ann"), ended(), (), 0, NOW)
    assert record.id == metric_id(5)
    assert (record.agent_id, record.task_id, record.is_success) == ("ann", "7", True)
    assert (record.duration_seconds, record.cpu_seconds, record.max_rss) == (2.5, 1.25, 4096)
    assert record.completed_at == datetime(2026, 3, 1, 11, 0, 2, 500000, UTC)
    assert record.started_at == datetime(2026, 3, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize("missing", ["started_at", "ended_at", "duration", "cpu_seconds", "max_rss"])
def test_what_the_row_does_not_say_is_not_made_up(missing: str) -> None:
    record = metric(a_task(), ended(**{missing: None}), (), 0, NOW)
    assert record.completed_at == (NOW if missing == "ended_at" else datetime.fromisoformat(ENDED))
    assert record.duration_seconds == (0 if missing == "duration" else 2.5)
    assert (record.cpu_seconds is None) is (missing == "cpu_seconds")
    assert (record.max_rss is None) is (missing == "max_rss")
    assert record.agent_id == "polpod"


@pytest.mark.parametrize("after", [timedelta(0), timedelta(seconds=1)])
def test_a_clock_that_was_set_back_makes_no_bad_record(after: timedelta) -> None:
    started = (datetime.fromisoformat(ENDED) + after).isoformat()
    assert metric(a_task(), ended(started_at=started), (), 0, NOW).started_at is None


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.KILLED, RunStatus.LOST])
def test_only_what_completed_is_a_success(status: RunStatus) -> None:
    assert metric(a_task(), a_run(status, Reason.EXITED), (), 0, NOW).is_success is False


def test_what_a_job_says_it_cost_never_breaks_the_record() -> None:
    """Each of its costs may be as large as a cost can be."""
    costs = [
        CostRecord(
            agent_id="a",
            task_id="7",
            provider="p",
            model="m",
            input_tokens=2**53,
            output_tokens=2**53,
            cost_usd=1.7e308,
            timestamp=NOW,
        )
    ] * 2
    record = metric(a_task(), ended(), costs, 0, NOW)
    assert (record.tokens_used, record.cost_usd) == (2**53, sys.float_info.max)


def test_costs_and_tokens_are_added_up() -> None:
    cost = CostRecord(
        agent_id="a", task_id="7", provider="p", model="m", input_tokens=2, output_tokens=3, cost_usd=0.5, timestamp=NOW
    )
    record = metric(a_task(), ended(), (cost, cost), 4, NOW)
    assert (record.cost_usd, record.tokens_used, record.turns_used) == (1.0, 10, 4)


def test_text_order_of_the_ids_is_the_order_of_the_runs() -> None:
    numbers = [1, 9, 10, 99, 100, 2**40]
    assert sorted(map(metric_id, numbers)) == [metric_id(number) for number in numbers]


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_nearest_rank_is_the_least_that_enough_do_not_exceed(values: list[float]) -> None:
    ordered = sorted(values)
    rank = nearest_rank(ordered, 0.95)
    assert rank in ordered
    assert sum(value <= rank for value in ordered) >= 0.95 * len(ordered)
    assert sum(value < rank for value in ordered) < 0.95 * len(ordered)


def test_a_summary_is_of_all_its_records() -> None:
    records = [a_measure(1.0, memory=5), a_measure(3.0, success=False), a_measure(2.0, memory=9)]
    made = summary("g", records)
    assert (made.group, made.count, made.median_duration, made.p95_duration) == ("g", 3, 2.0, 3.0)
    assert made.success_rate == pytest.approx(2 / 3)
    assert (made.cpu_seconds, made.cost_usd, made.peak_memory) == (1.5, 0.75, 9)
    assert summary("g", [a_measure()]).peak_memory is None


@pytest.mark.parametrize(
    ("by", "groups"),
    [("queue", ("q",)), ("project", ("p",)), ("agent", ("ann",)), ("label", ("a=1", "b=2"))],
)
def test_a_record_belongs_to_the_groups_of_its_task(by: str, groups: tuple[str, ...]) -> None:
    task = a_task(queue="q", project="p", assigned_to="ann", labels={"a": "1", "b": "2"})
    assert tuple(groups_of(task, by)) == groups
    assert tuple(groups_of(None, by)) == ("",)
