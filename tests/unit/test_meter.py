"""What a daemon counts of itself: from events, with labels of few values, and from zero on."""

from __future__ import annotations

import pytest
from kit.samples import LATER, NOW, a_run, a_task

from polpod.errors import DiskFull
from polpod.model.events import Event
from polpod.model.runs import Reason, RunStatus
from polpod.rules.outcome import MEANING, launch, outcome
from polpod.rules.tasks import event
from polpod.services.meter import DEFECT, OTHERS, QUEUES, Histogram, Meter
from polpod.store.group import Group, Ticket


def test_a_histogram_cumulates() -> None:
    histogram = Histogram((1.0, 5.0))
    for value in (0.5, 1.0, 3.0, 7.0):
        histogram.observe(value)
    assert list(histogram.cumulated()) == [("1.0", 2), ("5.0", 3), ("+Inf", 4)]
    assert histogram.total == 11.5


def test_what_is_known_is_there_with_zero_before_it_counts() -> None:
    """An increase from nothing is seen by nobody: an alert would miss the first."""
    meter = Meter(["q"], ["mail"])
    assert meter.ended["q", "execution", "lost", "lost"] == 0
    assert len(meter.ended) == len(MEANING)
    assert dict(meter.undelivered) == {("mail",): 0}
    assert set(meter.recovered) == {("lost",), ("never_started",), ("shutdown",)}
    assert (dict(meter.late), dict(meter.quarantined), dict(meter.defects)) == ({(): 0}, {(): 0}, {(): 0})
    assert dict(meter.submitted) == {("q",): 0}


def test_a_run_is_counted_from_the_events_of_the_rules() -> None:
    meter = Meter()
    task = a_task(queue="q", max_retries=1)
    meter.absorb([event(task, "task:created", NOW, title="t", queue=task.queue, status=task.status)])
    launched = launch(task, a_run(), LATER)
    meter.absorb(launched.events)
    assert meter.started["q", "execution"] == 1
    assert meter.waits["q",].total == 60.0, "since it last changed"
    run = a_run(RunStatus.FAILED, Reason.EXITED, exit_code=1, duration=2.5)
    ended = outcome(launched.task, run, LATER, 0.5)
    assert ended is not None
    meter.absorb(ended.events)
    assert meter.ended["q", "execution", "failed", "exited"] == 1
    assert meter.durations["q",].total == 2.5
    assert meter.finished["q", "failed"] == 0, "it is tried again"
    again = launch(ended.task, a_run(id=6), LATER)
    spent = outcome(again.task, a_run(RunStatus.FAILED, Reason.EXITED, id=6, exit_code=1), LATER, 0.5)
    assert spent is not None
    meter.absorb([*again.events, *spent.events])
    assert dict(meter.finished) == {("q", "done"): 0, ("q", "failed"): 1, ("q", "cancelled"): 0}
    assert dict(meter.retried) == {("automatic",): 1, ("manual",): 0}
    lost = outcome(launched.task, a_run(RunStatus.LOST, Reason.LOST), LATER, 0.5)
    assert lost is not None
    meter.absorb(lost.events)
    assert (meter.recovered["lost",], list(meter.durations["q",].cumulated())[-1][1]) == (1, 1)
    assert meter.submitted["q",] == 1


def test_checks_are_runs_of_their_own() -> None:
    meter = Meter()
    about = {"run_id": 1, "trigger": "initial", "queue": "q"}
    meter.absorb([event(a_task(), "assessment:started", NOW, **about)])
    meter.absorb([event(a_task(), "assessment:complete", NOW, **about, status="completed", reason="exited")])
    assert (meter.started["q", "review"], meter.ended["q", "review", "completed", "exited"]) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "body", "counted"),
    [
        ("run:late", {}, "late"),
        ("notification:failed", {"channel": "mail"}, "undelivered"),
        ("task:quarantined", {}, "quarantined"),
        ("store:quarantined", {}, "quarantined"),
    ],
)
def test_a_trouble_is_counted(kind: str, body: dict[str, object], counted: str) -> None:
    meter = Meter()
    meter.absorb([Event(at=NOW, kind=kind, subject="x", body=body)])
    assert getattr(meter, counted).total() == 1


def test_labels_are_few_whatever_clients_do() -> None:
    meter = Meter(["default"])
    for n in range(10 * QUEUES):
        meter.absorb([event(a_task(), "task:created", NOW, queue=f"q{n}", status="pending")])
    assert len(meter.submitted) == QUEUES + 1
    assert meter.submitted[OTHERS,] == 9 * QUEUES + 1
    assert len(meter.waits) == QUEUES + 1


def test_calls_that_wait_on_purpose_have_no_part_in_how_long_answers_take() -> None:
    meter = Meter()
    meter.called("task.wait", "ok", 30.0, waits=True)
    meter.called("task.get", DEFECT, 0.25, waits=False)
    assert meter.answers.total == 0.25
    assert dict(meter.calls) == {("task.wait", "ok"): 1, ("task.get", DEFECT): 1}
    assert dict(meter.defects) == {(): 1}


def test_a_commit_is_measured_with_all_that_share_it() -> None:
    meter = Meter()
    refused: Ticket[None, object] = Ticket(lambda tx: None, durable=True)
    refused.fail(DiskFull("no"))
    meter.committed("tasks", Group([*[Ticket(lambda tx: None, durable=True)] * 3, refused], (), (0.25,)))
    assert (meter.bodies["tasks",], meter.commits["tasks",].total) == (3, 0.25)


def test_who_leaves_is_counted_no_more() -> None:
    meter = Meter()
    with meter.connected():
        assert meter.connections == 1
    assert meter.connections == 0
