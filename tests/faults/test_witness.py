"""A runner that was killed between its job's end and its record: the kernel still knows how the job ended (F19, F26)."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from kit.host import Host
from kit.processes import state
from kit.waiting import until


def pidfds(host: Host) -> list[int]:
    """The pids of which the daemon holds a pidfd."""
    assert host.daemon is not None
    found = []
    for name in os.listdir(f"/proc/{host.daemon.pid}/fdinfo"):
        try:
            lines = Path(f"/proc/{host.daemon.pid}/fdinfo/{name}").read_text().splitlines()
        except FileNotFoundError:
            continue
        found += [int(line.split()[1]) for line in lines if line.startswith("Pid:")]
    return found


def witnessed(host: Host, run: dict[str, Any]) -> dict[str, Any]:
    """The run, once the daemon has the second witness of its job."""
    until(lambda: run["job_pid"] in pidfds(host), "the daemon holds a pidfd of the job")
    return run


def waiting(host: Host, then: str) -> tuple[str, Path]:
    """A task whose job does `then` once the file is there."""
    go = host.root / "go"
    return host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; {then}"), go


def over(host: Host, task_id: str) -> dict[str, Any]:
    """The task's first run, once it is over."""
    return until(lambda: run if (run := host.runs(task_id)[0])["status"] != "running" else None, "the run is over")


@pytest.mark.parametrize(
    ("then", "status", "reason", "exit_code", "number", "task_status"),
    [
        ("exit 0", "completed", "exited", 0, None, "done"),
        ("exit 7", "failed", "exited", 7, None, "failed"),
        ("kill -TERM $$", "failed", "signalled", None, signal.SIGTERM, "failed"),
    ],
)
def test_a_job_that_ended_before_its_runner_was_killed_keeps_its_outcome(
    host: Host, then: str, status: str, reason: str, exit_code: int | None, number: int | None, task_status: str
) -> None:
    host.start(POLPOD_CRASH_AT="runner.job_ended")
    task_id, go = waiting(host, then)
    witnessed(host, host.running(task_id))
    go.touch()
    assert host.finished(task_id)["status"] == task_status
    (run,) = host.runs(task_id)
    assert (run["status"], run["reason"], run["exit_code"], run["signal"]) == (status, reason, exit_code, number)
    assert "did not live to record it" in run["error"]


@pytest.mark.parametrize("containment", ["auto", "session"])
def test_a_job_that_nobody_has_reaped_yet_is_waited_for(host: Host, containment: str) -> None:
    host.configure(containment=containment)
    host.start()
    task_id, go = waiting(host, "exit 7")
    run = witnessed(host, host.running(task_id))
    os.kill(run["pid"], signal.SIGSTOP)
    go.touch()
    until(lambda: state(run["job_pid"]) == "Z", "the job has ended, and its runner does not know")
    os.kill(run["pid"], signal.SIGKILL)
    assert over(host, task_id)["exit_code"] == 7
    assert host.finished(task_id)["status"] == "failed"


def test_a_daemon_that_adopts_a_run_has_the_witness_too(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="runner.job_ended")
    task_id, go = waiting(host, "exit 7")
    host.running(task_id)
    host.kill()
    host.start()
    witnessed(host, host.running(task_id))
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 7


@pytest.mark.parametrize("containment", ["auto", "session"])
def test_what_our_own_kill_made_of_the_job_is_not_its_outcome(host: Host, containment: str) -> None:
    host.configure(containment=containment)
    host.start()
    task_id = host.submit(shell="trap 'exit 0' TERM; while :; do sleep 0.02; done")
    run = witnessed(host, host.running(task_id))
    os.kill(run["pid"], signal.SIGKILL)
    ended = over(host, task_id)
    assert (ended["status"], ended["exit_code"], ended["signal"]) == ("lost", None, None)


def test_a_job_that_was_killed_together_with_its_runner_is_lost(host: Host) -> None:
    host.start()
    task_id = host.submit("sleep", "1000")
    run = witnessed(host, host.running(task_id))
    os.kill(run["pid"], signal.SIGSTOP)
    os.kill(run["job_pid"], signal.SIGKILL)
    os.kill(run["pid"], signal.SIGKILL)
    assert over(host, task_id)["status"] == "lost"


def test_a_job_that_was_never_let_go_is_lost(host: Host) -> None:
    """Its process ends by itself when its runner dies, with an exit code that is ours."""
    host.start(POLPOD_CRASH_AT="runner.claimed", POLPOD_CRASH_SIGNAL="SIGSTOP")
    task_id = host.submit("sh", "-c", "exit 3")
    run = witnessed(host, host.claimed(task_id))
    os.kill(run["pid"], signal.SIGKILL)
    assert over(host, task_id)["status"] == "lost"


def test_a_cancelled_job_is_cancelled_whatever_it_ended_with(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="runner.job_ended")
    task_id = host.submit(shell="trap 'exit 0' TERM; while :; do sleep 0.02; done")
    witnessed(host, host.running(task_id))
    host.call("task.cancel", select={"ids": [task_id]})
    assert host.finished(task_id)["status"] == "cancelled"
    assert host.runs(task_id)[0]["status"] == "killed"


@pytest.mark.parametrize(("leftovers", "survives"), [("kill", False), ("keep", True)])
def test_what_the_job_left_is_ended_or_kept_as_configured(host: Host, leftovers: str, survives: bool) -> None:
    host.configure(leftovers=leftovers)
    host.start(POLPOD_CRASH_AT="runner.job_ended")
    child = host.root / "child"
    task_id, go = waiting(host, f"sleep 1000 & echo $! > {child}.new; mv {child}.new {child}; exit 7")
    witnessed(host, host.running(task_id))
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 7
    pid = int(child.read_text())
    assert (state(pid) not in ("", "Z")) is survives
    if survives:
        os.kill(pid, signal.SIGKILL)


def test_a_run_costs_two_descriptors_and_none_when_it_is_over(host: Host) -> None:
    host.configure(maxConcurrency=8)
    host.start()
    tasks = [host.submit("sleep", "1000") for _ in range(8)]
    runs = [witnessed(host, host.running(task_id)) for task_id in tasks]
    theirs = [run[name] for run in runs for name in ("pid", "job_pid")]
    assert sorted(pid for pid in pidfds(host) if pid in theirs) == sorted(theirs)
    host.call("task.cancel", select={"ids": tasks})
    for task_id in tasks:
        host.finished(task_id)
    until(lambda: not set(theirs) & set(pidfds(host)), "their pidfds are closed")
    until(lambda: -1 not in pidfds(host), "nor any of a process that is gone")


def test_where_descriptors_are_few_runners_come_before_witnesses(host: Host) -> None:
    host.configure(maxConcurrency=28)
    host.start(under=["prlimit", "--nofile=64"])
    tasks = [host.submit("sleep", "1000") for _ in range(8)]
    runs = [host.running(task_id) for task_id in tasks]
    jobs = {run["job_pid"] for run in runs}
    until(lambda: len(jobs & set(pidfds(host))) == 4, "there are as many witnesses as there is room for")
    assert {run["pid"] for run in runs} <= set(pidfds(host))
