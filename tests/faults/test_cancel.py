"""Cancel, in every state that a task can be in: what was acknowledged never runs (again) by itself (F48, F69)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.clock import Clock
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import STUBBORN
from kit.processes import alive, holders, state, zygote
from kit.waiting import until


def cancel(host: Host, *ids: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = host.call("task.cancel", select={"ids": list(ids)})["results"]
    return results


WAITING: dict[str, dict[str, Any]] = {
    "held": {"hold": True},
    "delayed": {"not_before": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    "waiting": {"depends_on": ["1"]},
    "blocked": {"depends_on": ["2"]},
    "ready": {"queue": "paused"},
    "awaiting_approval": {"needs_approval": True},
}


@pytest.mark.parametrize("name", WAITING)
def test_a_task_that_waits_is_cancelled_at_once(host: Host, name: str) -> None:
    host.start()
    host.call("queue.set", name="paused", paused=True)
    assert [host.submit("true", hold=True), host.submit("false")] == ["1", "2"]
    host.finished("2")
    task_id = host.submit("true", **WAITING[name])
    assert host.task(task_id)["state"] == name
    assert cancel(host, task_id) == [{"id": task_id, "status": "cancelled"}]
    assert cancel(host, task_id) == [{"id": task_id, "status": "cancelled"}]
    host.call("queue.set", name="paused", paused=False)
    assert host.runs(task_id) == []
    settle(host)


@pytest.mark.parametrize("command", ["true", "false"])
def test_a_task_that_is_over_is_not_cancelled(host: Host, command: str) -> None:
    host.start()
    task_id = host.submit(command)
    status = host.finished(task_id)["status"]
    (result,) = cancel(host, task_id)
    assert result["error"]["data"]["type"] == "invalid_transition"
    assert host.task(task_id)["status"] == status


@fault(
    48,
    "a task that was cancelled is started again by whoever keeps things running",
    promise="A cancel that was answered is durable and final: neither a retry that was due, nor the loss of its run, nor a "
    "restart begins it again.",
    injected="cancelling a task that waits for its retry, and one that runs; SIGKILL to the daemon after each answer, to the "
    "runner as well, and a start after the retry is due",
    seen_failing="a cancel answered without moving the waiting task; kill row and note of a cancel ignored when a run is over",
)
def test_f48_a_cancelled_task_is_not_tried_again(host: Host) -> None:
    clock = Clock(host.root / "clock")
    host.start(under=clock.under)
    runs = host.submit("sleep", "1000", max_retries=5, retry_delay=0, kill_grace=30)
    run = host.running(runs)
    os.kill(run["pid"], signal.SIGSTOP)  # so that the cancel still goes on when the daemon dies
    waits = host.submit("false", max_retries=5, retry_delay=1000)
    until(lambda: host.task(waits)["retries"] == 1, "it waits for its first retry")
    assert cancel(host, waits) == [{"id": waits, "status": "cancelled"}]
    cancel(host, runs)
    host.kill()
    os.kill(run["pid"], signal.SIGKILL)
    clock.shift(3600)  # the retry would be due
    host.start(under=clock.under)
    assert host.finished(runs)["status"] == "cancelled"
    assert host.finished(host.submit("true"))["status"] == "done"  # what could be started before it was
    assert [host.task(task_id)["status"] for task_id in (waits, runs)] == ["cancelled"] * 2
    assert [len(host.runs(task_id)) for task_id in (waits, runs)] == [1, 1]
    assert not alive(run["job_pid"])
    settle(host)


def test_a_run_that_its_runner_did_not_claim_yet_executes_nothing(host: Host) -> None:
    """The zygote is stopped, so that the run stays between its row and its runner."""
    daemon = host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    pid = until(lambda: zygote(daemon.pid), "there is a zygote")
    os.kill(pid, signal.SIGSTOP)
    task_id = host.submit(shell=f"touch {host.root}/executed")
    until(lambda: host.runs(task_id), "it is starting")
    (result,) = cancel(host, task_id)
    assert result["run_id"] == 2
    task = host.finished(task_id)
    with suppress(ProcessLookupError):  # on a slow host it was replaced by then
        os.kill(pid, signal.SIGCONT)
    assert task["status"] == "cancelled"
    assert host.finished(host.submit("true"))["status"] == "done"
    assert [r["reason"] for r in host.runs(task_id)] == ["never_started"]
    assert not (host.root / "executed").exists()
    settle(host)


def test_a_runner_that_hangs_before_its_claim_goes_with_its_run(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="runner.go", POLPOD_CRASH_SIGNAL="SIGSTOP")
    task_id = host.submit("true")
    (runner,) = until(lambda: holders(host.paths.run(1).lock), "its runner is there")
    until(lambda: state(runner) == "T", "it hangs")
    cancel(host, task_id)
    assert host.finished(task_id)["status"] == "cancelled"
    until(lambda: not alive(runner), "the runner is gone")
    settle(host)


def test_tasks_cancelled_while_they_start_end_one_way_or_the_other(host: Host) -> None:
    """Many, each cancelled a little later in its start than the one before; nothing is left of any."""
    host.configure(maxConcurrency=4, killGrace=1000)
    host.start()
    ids = []
    with host.client() as client:
        for n in range(60):
            task_id = client.call("task.submit", command=["sleep", "1000"], cwd="/")["id"]
            for _ in range(n % 20):
                client.call("daemon.health")  # what takes a little time
            client.call("task.cancel", select={"ids": [task_id]})
            ids.append(task_id)
    assert {host.finished(task_id)["status"] for task_id in ids} == {"cancelled"}
    settle(host)


def test_a_batch_that_is_cancelled_while_it_is_prepared_leaves_nothing_behind(host: Host) -> None:
    """Directories and cgroups of so many runs are made for longer than their cancel takes."""
    host.configure(maxConcurrency=200)
    host.start()
    tasks = [{"command": ["sleep", "1000"], "cwd": "/", "queue": "q", "kill_grace": 1}] * 200
    host.call("queue.set", name="q", paused=True)
    host.call("task.submit_many", tasks=tasks)
    with host.client() as client:
        client.call("queue.set", name="q", paused=False)
        until(lambda: client.call("daemon.status")["tasks"].get("in_progress"), "the batch is on its way")
        client.call("task.cancel", select={"queue": "q"})
    until(lambda: host.call("daemon.status")["tasks"] == {"cancelled": 200}, "all are cancelled")
    prepared = Path(host.paths.run_directories)
    until(lambda: not list(prepared.glob("run-*")), "what was prepared too late is removed, not only by the next start")
    settle(host)


def test_a_run_that_fails_in_the_moment_of_its_cancel_is_not_tried_again(host: Host) -> None:
    """Its runner is stopped, so that the job's own end and the kill are there at the same time."""
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 3", max_retries=5, retry_delay=0)
    run = host.running(task_id)
    os.kill(run["pid"], signal.SIGSTOP)
    go.touch()
    until(lambda: state(run["job_pid"]) == "Z", "the job has ended")
    cancel(host, task_id)
    os.kill(run["pid"], signal.SIGCONT)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["exit_code"], task["retries"]) == ("failed", 3, 0)
    assert len(host.runs(task_id)) == 1
    settle(host)


def test_a_cancel_of_a_run_whose_end_is_not_collected_yet_is_not_lost(host: Host) -> None:
    """The daemon is stopped, so that the end of the run and the cancel reach it at the same time."""
    daemon = host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 3", max_retries=5, retry_delay=0)
    run = host.running(task_id)
    with host.client() as client:
        client.call("daemon.status")
        os.kill(daemon.pid, signal.SIGSTOP)
        go.touch()
        until(lambda: not alive(run["pid"]), "the run is over")
        client.send("task.cancel", select={"ids": [task_id]})
        os.kill(daemon.pid, signal.SIGCONT)
        client.receive()
        task = host.finished(task_id)
    assert task["status"] in ("failed", "cancelled")
    assert len(host.runs(task_id)) == 1
    settle(host)


def test_a_cancel_after_a_timeout_is_not_lost(host: Host) -> None:
    """Its runner is stopped, so that the run is not over before the cancel."""
    stopped = {"POLPOD_CRASH_SIGNAL": "SIGSTOP", "POLPOD_CRASH_ONCE": str(host.root / "stopped")}
    host.start(POLPOD_CRASH_AT="runner.claimed", **stopped)
    task_id = host.submit("sleep", "1000", max_duration=0.2, kill_grace=30, max_retries=5, retry_delay=0)
    run = host.claimed(task_id)
    until(lambda: host.runs(task_id)[0]["kill_reason"] == "timeout", "it took too long")
    until(lambda: state(run["pid"]) == "T", "its runner is stopped")
    cancel(host, task_id)
    os.kill(run["pid"], signal.SIGCONT)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["reason"]) == ("failed", "timeout")
    assert len(host.runs(task_id)) == 1
    settle(host)


def test_a_cancel_survives_the_loss_of_its_run_and_of_the_daemon(host: Host) -> None:
    host.start()
    task_id = host.submit(shell=STUBBORN, kill_grace=30)
    run = host.running(task_id)
    until(lambda: os.path.getsize(run["log_path"]) > 0, "it ignores SIGTERM")
    cancel(host, task_id)
    host.kill()
    os.kill(run["pid"], signal.SIGKILL)
    for group in host.cgroups():
        group.kill()
    host.start()
    assert host.finished(task_id)["status"] == "cancelled"
    assert read_runs(host.paths)[run["id"]]["kill_by"].startswith("uid ")
    settle(host)


@pytest.mark.parametrize("lost", [False, True])
def test_a_cancel_that_the_daemon_only_noted_is_carried_out_by_the_next(host: Host, lost: bool) -> None:
    """W37."""
    daemon = host.start(POLPOD_CRASH_AT="kill.noted")
    task_id = host.submit("sleep", "1000", kill_grace=1)
    run = host.running(task_id)
    with pytest.raises((EOFError, ConnectionError)):
        cancel(host, task_id)
    daemon.wait()
    if lost:
        os.kill(run["pid"], signal.SIGKILL)
        until(lambda: not alive(run["pid"]), "its runner is dead")
    host.start()
    assert host.finished(task_id)["status"] == "cancelled"
    assert [r["reason"] for r in host.runs(task_id)] == ["lost" if lost else "cancelled"]
    assert not alive(run["job_pid"])
    settle(host)


def test_a_cancelled_task_is_tried_again_only_when_somebody_asks(host: Host) -> None:
    host.start()
    task_id = host.submit("sleep", "1000", kill_grace=1)
    host.running(task_id)
    cancel(host, task_id)
    assert host.finished(task_id)["status"] == "cancelled"
    host.call("task.retry", select={"ids": [task_id]})
    assert host.running(task_id)["attempt"] == 2
    os.kill(host.running(task_id)["pid"], signal.SIGKILL)
    until(lambda: len(host.runs(task_id)) == 3, "it is lost, and done again as if nobody had cancelled it")
    cancel(host, task_id)
    assert host.finished(task_id)["status"] == "cancelled"
    settle(host)
