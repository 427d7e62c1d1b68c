"""What a monitoring system scrapes: the daemon's numbers as OpenMetrics text, by the prometheus-client library.

Rules:

1. METRICS is the one list of what there is: the text, docs/metrics.md and the tests of alerts and dashboard go by it.
2. A scrape reads what is kept in memory, a part of an index, and a bounded number of processes; the rest of it is done
   in a thread, one at a time: its cost does not grow with the tasks that are stored, and it holds up nobody.
3. What cannot be asked now (a store that is away, a disk that hangs) is left out: no number is better than a wrong one.
4. The library has a registry for all of a process; it is left alone, since these numbers are an instance's.
"""

from __future__ import annotations

import platform
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import trio

from polpod import __version__
from polpod.errors import Unavailable
from polpod.model.runs import LIVE, Run
from polpod.model.tasks import TaskStatus
from polpod.services import condition, footprint
from polpod.services.condition import Disk
from polpod.services.instance import Instance
from polpod.services.meter import Histogram, Labels, Meter
from polpod.services.queues import overview
from polpod.store.runs import RunTx

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    name: str
    kind: Kind
    labels: Labels
    meaning: str


METRICS = (
    Metric("polpod_build_info", "gauge", ("version", "python", "sqlite", "storage", "containment"), "Always 1."),
    Metric("polpod_start_time_seconds", "gauge", (), "When this daemon, or its generation, started, since the epoch."),
    Metric("polpod_health", "gauge", ("check",), "Whether that is well (1) or not (0): the checks of daemon.health."),
    Metric("polpod_tasks", "gauge", ("queue", "status"), "Tasks that are stored."),
    Metric("polpod_tasks_submitted_total", "counter", ("queue",), "Tasks that were handed in."),
    Metric("polpod_tasks_finished_total", "counter", ("queue", "status"), "How often a task came to its end."),
    Metric(
        "polpod_tasks_retried_total", "counter", ("trigger",),
        "Retries: automatic, or manual, which a person asked for.",
    ),
    Metric(
        "polpod_tasks_recovered_total", "counter", ("reason",),
        "Tasks that went back to wait since their run decided nothing: it was lost, never started, or ended by a shutdown.",
    ),
    Metric("polpod_slots", "gauge", (), "How many tasks may run at once, in all queues together (maxConcurrency)."),
    Metric("polpod_queue_slots", "gauge", ("queue",), "How many of its tasks may run at once; absent: no limit of its own."),
    Metric("polpod_queue_slots_busy", "gauge", ("queue",), "Slots that are taken."),
    Metric("polpod_queue_ready", "gauge", ("queue",), "Tasks that wait for nothing but a slot."),
    Metric("polpod_queue_paused", "gauge", ("queue",), "1: nothing more starts from it."),
    Metric("polpod_runs_started_total", "counter", ("queue", "phase"), "Runs that were started; checks are phase review."),
    Metric("polpod_runs_ended_total", "counter", ("queue", "phase", "status", "reason"), "Runs whose result was applied."),
    Metric("polpod_runs_late_total", "counter", (), "Runs that ended when their task had gone on without them."),
    Metric("polpod_runs_live", "gauge", ("status",), "Runs that are starting or running."),
    Metric("polpod_runs_stuck", "gauge", (), "Runs that cannot be ended, even by SIGKILL."),
    Metric("polpod_run_wait_seconds", "histogram", ("queue",), "From the moment that a task was ready to its start."),
    Metric("polpod_run_duration_seconds", "histogram", ("queue",), "How long executions took that ended."),
    Metric("polpod_runs_measured", "gauge", (), f"Live runs whose memory was looked at, at most {footprint.MOST}."),
    Metric("polpod_runners_memory_bytes", "gauge", (), "Memory of their runners together (PSS)."),
    Metric("polpod_jobs_memory_bytes", "gauge", (), "Memory of their jobs together, page cache included."),
    Metric("polpod_commit_duration_seconds", "histogram", ("store",), "How long a commit took, which many writers share."),
    Metric("polpod_commit_bodies_total", "counter", ("store",), "Writes that were answered by these commits."),
    Metric("polpod_records_quarantined_total", "counter", (), "Records that were set aside since they cannot be read."),
    Metric("polpod_journal_seq", "gauge", (), "The number of the last event."),
    Metric("polpod_notification_lag_events", "gauge", ("channel",), "Events that the channel has not looked at yet."),
    Metric("polpod_notifications_failed_total", "counter", ("channel",), "Events that it was told of in vain for too long."),
    Metric("polpod_rpc_calls_total", "counter", ("method", "outcome"), "Calls that were answered: ok, or the error's word."),
    Metric("polpod_rpc_defects_total", "counter", (), "Calls that failed by a mistake of polpod's; its log says more."),
    Metric("polpod_rpc_duration_seconds", "histogram", (), "How long they took, but for those that wait on purpose."),
    Metric("polpod_connections", "gauge", (), "Clients that are connected."),
    Metric(
        "polpod_event_loop_turn_seconds", "histogram", (),
        "How long a turn of the event loop took: what is ready meanwhile waits for its end.",
    ),
    Metric("polpod_disk_free_bytes", "gauge", (), "What is free for us where the state directory lies."),
    Metric("polpod_disk_reserve_bytes", "gauge", (), "With less than that free, nothing starts or is accepted."),
    Metric("polpod_wal_bytes", "gauge", ("store",), "Write-ahead log of a database, SQLite's alone."),
)  # fmt: skip

Values = dict[str, Mapping[Labels, float | Histogram]]
"""By name and labels."""


class Reading(NamedTuple):
    """What a scrape has to ask for; None: nobody answered."""

    queues: list[dict[str, Any]] | None
    live: list[Run]
    disk: Disk | None
    checks: Mapping[str, bool]


async def exposition(instance: Instance) -> tuple[str, bytes]:
    """The content type and the text of one scrape."""
    async with instance.meter.scraping:
        reading = await _read(instance)
        values = _counted(instance.meter) | _gauged(instance, reading)
        return await trio.to_thread.run_sync(_rendered, values, reading.live)


async def _read(instance: Instance) -> Reading:
    found = await condition.disk(instance)
    checks = await condition.checks(instance, found)
    queues = None
    if checks["store"]:  # else it was waited for long enough: whoever scrapes has some seconds for all of it
        with suppress(Unavailable):
            queues = await instance.tasks.read(partial(overview, instance))
    return Reading(queues, await instance.runs.read(RunTx.live), found, checks)


def _counted(meter: Meter) -> Values:
    """Copies of the counters, since the loop goes on with them while they are rendered."""
    return {
        "polpod_tasks_submitted_total": dict(meter.submitted),
        "polpod_tasks_finished_total": dict(meter.finished),
        "polpod_tasks_retried_total": dict(meter.retried),
        "polpod_tasks_recovered_total": dict(meter.recovered),
        "polpod_runs_started_total": dict(meter.started),
        "polpod_runs_ended_total": dict(meter.ended),
        "polpod_runs_late_total": dict(meter.late),
        "polpod_run_wait_seconds": deepcopy(meter.waits),
        "polpod_run_duration_seconds": deepcopy(meter.durations),
        "polpod_commit_duration_seconds": deepcopy(meter.commits),
        "polpod_commit_bodies_total": dict(meter.bodies),
        "polpod_records_quarantined_total": dict(meter.quarantined),
        "polpod_notifications_failed_total": dict(meter.undelivered),
        "polpod_rpc_calls_total": dict(meter.calls),
        "polpod_rpc_defects_total": dict(meter.defects),
        "polpod_rpc_duration_seconds": {(): deepcopy(meter.answers)},
        "polpod_event_loop_turn_seconds": {(): deepcopy(meter.loop.turns)},
    }


def _gauged(instance: Instance, reading: Reading) -> Values:
    settings, journal, meter = instance.config.settings, instance.journal, instance.meter
    build = (
        __version__, platform.python_version(), sqlite3.sqlite_version, settings.storage,
        "session" if instance.base is None else "cgroup",
    )  # fmt: skip
    values: Values = {
        "polpod_build_info": {build: 1},
        "polpod_start_time_seconds": {(): instance.started_at.timestamp()},
        "polpod_health": {(check,): well for check, well in reading.checks.items()},
        "polpod_tasks": _tasks(instance),
        "polpod_slots": {(): settings.max_concurrency},
        "polpod_runs_live": {(s,): sum(run.status == s for run in reading.live) for s in sorted(LIVE)},
        "polpod_runs_stuck": {(): len(instance.stuck)},
        "polpod_journal_seq": {(): journal.seq},
        "polpod_notification_lag_events": {(channel,): journal.seq - seq for channel, seq in instance.told.items()},
        "polpod_connections": {(): meter.connections},
        "polpod_disk_reserve_bytes": {(): settings.reserve},
    }
    if reading.queues is not None:
        values |= _queues(meter, reading.queues)
    if reading.disk is not None:
        values["polpod_disk_free_bytes"] = {(): reading.disk.free}
        values["polpod_wal_bytes"] = {(store,): size for store, size in reading.disk.wals.items()}
    return values


def _tasks(instance: Instance) -> dict[Labels, float | Histogram]:
    counts: Counter[Labels] = Counter()
    for (queue, status), number in instance.journal.by_queue.items():
        queue = instance.meter.queue(queue)
        if (queue, status) not in counts:
            counts.update(dict.fromkeys(((queue, str(every)) for every in TaskStatus), 0))
        counts[queue, status] += number
    return dict(counts)


def _queues(meter: Meter, queues: Iterable[dict[str, Any]]) -> Values:
    found: dict[str, Counter[Labels]] = {f"polpod_queue_{what}": Counter() for what in _OF_QUEUE}
    for queue in queues:
        name = meter.queue(queue["name"])
        for what, field in _OF_QUEUE.items():
            if queue[field] is not None:
                found[f"polpod_queue_{what}"][name,] += int(queue[field])
    return {name: dict(values) for name, values in found.items()}


_OF_QUEUE = {"slots": "slots", "slots_busy": "busy", "ready": "ready", "paused": "paused"}


def _rendered(values: Values, live: list[Run]) -> tuple[str, bytes]:
    """In a thread: it loads the library, and looks at processes."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

    found = footprint.measure(live)
    values["polpod_runs_measured"] = {(): found.runs}
    values["polpod_runners_memory_bytes"] = {(): found.runners}
    values["polpod_jobs_memory_bytes"] = {(): found.jobs}
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Families(values))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_LATEST, text


class _Families:
    """A collector, as the library calls whoever has numbers for it."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for metric in METRICS:
            if metric.name not in self._values:
                continue
            values = sorted(self._values[metric.name].items())
            if metric.kind == "histogram":
                drawn = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
                for labels, value in values:
                    assert isinstance(value, Histogram)
                    drawn.add_metric(labels, list(value.cumulated()), value.total)
                yield drawn
            else:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.meaning, labels=metric.labels)
                for labels, value in values:
                    assert not isinstance(value, Histogram)
                    family.add_metric(labels, value)
                yield family
