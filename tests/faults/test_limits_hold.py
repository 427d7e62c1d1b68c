"""Limits that a task asks for, where the kernel enforces them: cgroup2 with its controllers, and a cgroup for us.

Where those are not, each test is skipped with the daemon's own words.  To have them, as root on a systemd whose
controllers are those of cgroup2:

    systemd-run --scope -p Delegate=yes sh -c 'mine=/sys/fs/cgroup$(sed s/0::// /proc/self/cgroup);
        mkdir $mine/polpod; echo $$ > $mine/polpod/cgroup.procs; exec pytest tests/faults/test_limits_hold.py'
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.host import Host
from kit.jobs import waits_for

MIB = 2**20
pytestmark = pytest.mark.root


def start(host: Host, *fields: str) -> None:
    """Start a daemon; skips the test where that cannot set these limits."""
    host.configure(maxConcurrency=2)
    host.start()
    limits = host.call("daemon.status")["limits"]
    for field in fields:
        if lack := limits[field]:
            pytest.skip(f"{field} {lack['why']}")


def log(host: Host, task_id: str) -> str:
    return Path(host.runs(task_id)[-1]["log_path"]).read_text()


def set_for(host: Host, run: dict[str, Any], file: str) -> str:
    """What the kernel has in this file of the run's cgroup."""
    return Path(run["cgroup"], file).read_text().strip()


def test_a_job_above_its_memory_ends_with_the_peak_and_takes_no_other_along(host: Host) -> None:
    start(host, "memory_max")
    go, fill = host.root / "go", host.root / "fill"
    other = host.submit(shell=waits_for(go, "exit 3"))
    # The main process only waits; it is its child that takes the memory.
    hog = host.submit(shell=f"{waits_for(fill, ':')}; head -c 200M /dev/zero | tail; sleep 1000", memory_max=64 * MIB)
    before, run = host.running(other), host.running(hog)
    assert (set_for(host, run, "memory.max"), set_for(host, run, "memory.oom.group")) == (str(64 * MIB), "1")
    assert not Path(run["cgroup"], "memory.swap.max").exists() or set_for(host, run, "memory.swap.max") == "0"
    fill.touch()
    task = host.finished(hog)
    result = task["result"]
    assert (task["status"], result["reason"], result["signal"]) == ("failed", "oom", signal.SIGKILL)
    (run,) = host.runs(hog)
    assert 60 * MIB < run["max_rss"] <= 64 * MIB
    peak = f"{run['max_rss'] / MIB:.1f} MiB"
    assert result["error"] == f"the kernel ended it for want of memory at a peak of {peak}; the limit is 64.0 MiB"
    assert host.call("task.why", id=hog)["sentences"] == [f"Task {hog} failed: {result['error']}."]
    assert host.running(other)["pid"] == before["pid"]
    go.touch()
    assert host.finished(other)["result"]["exit_code"] == 3


def test_a_job_gets_no_more_than_its_share_of_the_cpus(host: Host) -> None:
    start(host, "cpus")
    burn = "import time\nwhile time.process_time() < 0.6: pass"
    task_id = host.submit(sys.executable, "-I", "-S", "-c", burn, cpus=0.2)
    assert host.finished(task_id)["status"] == "done"
    (run,) = host.runs(task_id)
    assert run["cpu_seconds"] >= 0.6
    assert run["cpu_seconds"] / run["duration"] < 0.3


def test_a_job_cannot_have_more_processes_than_it_may(host: Host) -> None:
    start(host, "tasks_max")
    storm = "import os, time\nfor n in range(9):\n try: os.fork() or time.sleep(1000)\n except OSError as e: print(n, e.errno)"
    task_id = host.submit(sys.executable, "-I", "-S", "-c", storm, tasks_max=4)
    assert host.finished(task_id)["status"] == "done"
    assert log(host, task_id).splitlines() == [f"{n} 11" for n in range(3, 9)]


def test_niceness_counts_between_runs_too(host: Host) -> None:
    start(host, "cpus")
    go = host.root / "go"
    task_id = host.submit(shell=f"nice; {waits_for(go)}", nice=7)
    run = host.running(task_id)
    assert set_for(host, run, "cpu.weight.nice") == "7"
    go.touch()
    assert host.finished(task_id)["status"] == "done"
    assert log(host, task_id) == "7\n"


def test_every_limit_at_once_and_an_edit_for_the_next_run(host: Host) -> None:
    start(host, "memory_max", "cpus", "tasks_max")
    limits: dict[str, Any] = {"memory_max": 100 * MIB, "cpus": 1.5, "tasks_max": 50, "nice": 3}
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 1"), **limits)
    run = host.running(task_id)
    files = ("memory.max", "cpu.max", "pids.max", "cpu.weight.nice")
    assert [set_for(host, run, f) for f in files] == [str(100 * MIB), "150000 100000", "50", "3"]
    go.touch()
    assert host.finished(task_id)["status"] == "failed"
    host.call("task.update", id=task_id, memory_max=None, cpus=0.25)
    go.unlink()
    host.call("task.retry", select={"ids": [task_id]})
    run = host.running(task_id)
    assert [set_for(host, run, f) for f in files] == ["max", "25000 100000", "50", "3"]
    go.touch()
    assert host.finished(task_id)["status"] == "failed"
