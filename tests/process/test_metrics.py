"""What a daemon says of itself to who watches it: metrics, health, estimates; one daemon for most of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.jobs import POLPOCTL, waits_for
from kit.waiting import until
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from polpod.services.exposition import METRICS

OF_THE_PROCESS = {
    "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_cpu_seconds_total", "process_open_fds",
    "process_max_fds", "process_start_time_seconds",
}  # fmt: skip
QUEUES = {"default": {}, "q": {"slots": 3}, "still": {"paused": True}}
CHANNELS = [
    {"name": "quiet", "command": ["true"], "kinds": ["task:removed"]},
    {"name": "deaf", "command": ["false"], "kinds": ["task:created"]},
]


class Scrape:
    """One answer, parsed by the library's own parser, which is strict."""

    def __init__(self, text: str) -> None:
        assert text.endswith("# EOF\n")
        self.text = text
        self.values: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def value(self, name: str, **labels: str) -> float:
        (found,) = [value for having, value in self.values[name] if having == labels]
        return found


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(queues=QUEUES, notifications=CHANNELS) as host:
        host.start()
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        yield host
        assert "Traceback" not in host.log(), host.log()


def scrape(host: Host) -> Scrape:
    return Scrape(host.call("daemon.metrics")["text"])


def polpoctl(host: Host, *words: str) -> str:
    command = [*POLPOCTL.split(), words[0], "--socket", host.socket, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def after_work(host: Host) -> Scrape:
    """After one of each: done, failed once more, waiting, running; and calls that were refused."""
    done, failed = host.submit("true"), host.submit(shell="exit 3", queue="q", max_retries=1, retry_delay=0.01)
    host.submit("true", queue="still")
    running = host.submit(shell=waits_for(host.root / "go"), title="waits")
    host.finished(done)
    host.finished(failed)
    host.running(running)
    for method, params in (("no.such", {}), ("task.get", {"id": "none"}), ("task.get", {"nonsense": 1})):
        with suppress(Refused):
            host.call(method, **params)

    def well() -> Scrape | None:
        found = Scrape(polpoctl(host, "metrics"))
        return found if {value for _, value in found.values["polpod_health"]} == {1} else None

    found = until(well, "it is well")
    (host.root / "go").touch()
    host.finished(running)
    return found


def test_the_numbers_are_what_happened(after_work: Scrape) -> None:
    value = after_work.value
    assert value("polpod_tasks", queue="default", status="done") == 1
    assert value("polpod_tasks", queue="default", status="in_progress") == 1
    assert value("polpod_tasks", queue="q", status="failed") == 1
    assert value("polpod_tasks", queue="still", status="pending") == 1
    assert value("polpod_tasks_submitted_total", queue="default") == 2
    assert value("polpod_tasks_finished_total", queue="q", status="failed") == 1
    assert value("polpod_tasks_retried_total", trigger="automatic") == 1
    assert value("polpod_runs_started_total", queue="q", phase="execution") == 2
    ended = {"phase": "execution", "reason": "exited"}
    assert value("polpod_runs_ended_total", queue="q", status="failed", **ended) == 2
    assert value("polpod_runs_ended_total", queue="default", status="completed", **ended) == 1
    assert value("polpod_run_wait_seconds_count", queue="q") == 2
    assert value("polpod_run_duration_seconds_bucket", queue="q", le="+Inf") == 2
    assert value("polpod_runs_live", status="running") == 1
    assert (value("polpod_queue_slots", queue="q"), value("polpod_queue_slots_busy", queue="default")) == (3, 1)
    assert (value("polpod_queue_ready", queue="still"), value("polpod_queue_paused", queue="still")) == (1, 1)
    assert [labels for labels, _ in after_work.values["polpod_queue_slots"]] == [{"queue": "q"}]
    assert value("polpod_rpc_calls_total", method="task.get", outcome="not_found") == 1
    assert value("polpod_rpc_calls_total", method="task.get", outcome="invalid") == 1
    assert value("polpod_rpc_calls_total", method="unknown", outcome="unknown") == 1
    assert value("polpod_connections") == 1
    assert value("polpod_runs_measured") == 1
    assert value("polpod_runners_memory_bytes") > 2**16
    assert value("polpod_jobs_memory_bytes") > 2**16
    assert value("polpod_commit_duration_seconds_count", store="tasks") > 5
    assert value("polpod_commit_bodies_total", store="runs") > 5
    assert value("polpod_journal_seq") > 10
    assert value("polpod_event_loop_turn_seconds_count") > 10
    assert {value for _, value in after_work.values["polpod_health"]} == {1}
    assert value("polpod_disk_free_bytes") > 0


def test_everything_that_is_listed_is_there_with_its_labels_and_nothing_else(after_work: Scrape) -> None:
    known = {f"{m.name}{end}": m for m in METRICS for end in ("", "_bucket", "_count", "_sum")}
    assert after_work.values.keys() - OF_THE_PROCESS <= known.keys()
    there = {known[name].name for name in after_work.values if name in known}
    assert {m.name for m in METRICS} == there
    for name, samples in after_work.values.items():
        if name in known:
            wanted = {*known[name].labels, *(["le"] if name.endswith("_bucket") else [])}
            assert all(labels.keys() == wanted for labels, _ in samples), name


def test_tasks_of_a_paused_mission_wait_for_more_than_a_slot(host: Host, after_work: Scrape) -> None:
    """An alert would say that nothing starts though it could."""

    def ready() -> float:
        return scrape(host).value("polpod_queue_ready", queue="still")

    before = ready()
    document = json.dumps({"tasks": [{"title": "t", "command": ["true"], "queue": "still"}]})
    host.call("mission.create", name="m", document=document)
    host.call("mission.execute", id="m")
    assert ready() == before + 1
    host.call("mission.pause", id="m")
    assert ready() == before
    host.call("mission.abort", id="m")


def test_it_tells_how_far_channels_are_behind(host: Host, after_work: Scrape) -> None:
    assert after_work.value("polpod_notifications_failed_total", channel="deaf") == 0

    def behind(channel: str) -> float:
        return scrape(host).value("polpod_notification_lag_events", channel=channel)

    until(lambda: behind("quiet") == 0, "one that has nothing to tell is not behind")
    assert behind("deaf") > 10


def test_the_command_gives_the_text_or_all_of_the_answer(host: Host) -> None:
    answer = json.loads(polpoctl(host, "metrics", "--json"))
    assert answer["content_type"].startswith("application/openmetrics-text")
    assert Scrape(answer["text"]).value("polpod_slots") >= 2


def test_who_asks_is_counted_and_then_no_more(host: Host) -> None:
    before = scrape(host).value("polpod_connections")
    with host.client(), host.client():
        until(lambda: scrape(host).value("polpod_connections") == before + 2, "two more clients are there")
    until(lambda: scrape(host).value("polpod_connections") == before, "they are gone")


def test_health_tells_whether_to_send_work_here(host: Host) -> None:
    checks = dict.fromkeys(("store", "recovered", "accepting", "disk", "wal", "launcher", "stuck"), True)
    well = {"ok": True, "ready": True, "checks": checks}
    until(lambda: host.call("daemon.health") == well, "it is well")


def outlook(host: Host, task_id: str) -> dict[str, Any]:
    (found,) = host.call("task.estimate", ids=[task_id])["tasks"]
    return dict(found)


def test_how_long_work_takes_is_learned_from_the_same_work(host: Host) -> None:
    """By what is executed, under whatever title; else by agent, title and project, in whatever environment."""
    work = {"command": ["sleep", "0.3"], "env": {"A": "1"}}
    for number in range(3):
        assert host.finished(host.submit(title=f"n{number}", **work))["status"] == "done"
    same = host.submit(title="another", hold=True, **work)
    titled = host.submit(title="n1", hold=True, **(work | {"env": {"A": "2"}}))
    other = host.submit(title="n1", hold=True, **(work | {"env": {"A": "2"}}), project="p")
    usual = outlook(host, same)["usual"]
    assert usual["runs"] == 3
    assert 0.3 <= usual["duration"] < 30
    assert outlook(host, titled)["usual"]["runs"] == 1
    assert outlook(host, other)["usual"] is None
    assert host.finished(host.submit(shell="exit 1", title="fails"))["status"] == "failed"
    assert outlook(host, host.submit(shell="exit 1", title="fails", hold=True))["usual"] is None
    assert outlook(host, same) | {"usual": None} == {
        "id": same, "status": "pending", "percent": None, "text": None, "elapsed": None, "usual": None, "left": None,
    }  # fmt: skip


def test_a_job_says_how_far_it_is(host: Host) -> None:
    """As the page of jobs has it: in per cent, or as a part of 1."""
    gate = host.root / "reported"
    shell = f"{POLPOCTL} report progress 0.4 linking && {waits_for(gate)}"
    task_id = host.submit(shell=shell, title="reports")
    said = until(lambda: outlook(host, task_id)["percent"] and outlook(host, task_id), "it said so")
    assert (said["percent"], said["text"], said["usual"]) == (40.0, "linking", None)
    assert said["left"] == pytest.approx(1.5 * said["elapsed"])
    gate.touch()
    host.finished(task_id)
    assert (outlook(host, task_id)["percent"], outlook(host, task_id)["left"]) == (None, None)


def test_a_new_daemon_counts_from_zero_what_it_keeps_it_knows(host: Host) -> None:
    before = scrape(host)
    host.kill()
    host.start()
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    after = scrape(host)
    assert after.value("polpod_tasks_submitted_total", queue="default") == 0
    assert after.value("polpod_runs_started_total", queue="q", phase="execution") == 0
    assert after.values["polpod_tasks"] == before.values["polpod_tasks"]
    assert after.value("polpod_start_time_seconds") > before.value("polpod_start_time_seconds")
    assert after.value("polpod_journal_seq") > before.value("polpod_journal_seq")
