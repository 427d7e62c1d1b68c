"""Memory: of the daemon idle and with a long queue, and of a running task beyond its own job.

RSS counts shared pages in full, PSS by share; the zygote is a process of the daemon's and told apart.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from bench.client import Client
from bench.daemon import Daemon, daemon, submit_many, until
from bench.figures import Figure, most

IDLE_LIMIT = 50
TASK_LIMIT = 1.5
QUEUED = 10_000
RUNNING = 100
SETTLE = 2.0
"""Seconds of idleness before a reading."""


def run() -> Iterator[Figure]:
    with daemon(maxConcurrency=RUNNING) as polpod:
        client = polpod.client()
        time.sleep(SETTLE)
        yield from readings(polpod, "idle", promise=True)
        before = ours(polpod)
        submit_many(client, [{}] * RUNNING, command=["sleep", "600"], cwd="/")
        runs = running(client, RUNNING)
        time.sleep(SETTLE)
        runners = sum(rollup(run["pid"])["Pss"] for run in runs)
        daemon_growth = ours(polpod) - before
        each = Figure(
            name=f"running task beyond its job, PSS, of {RUNNING}", value=(runners + daemon_growth) / RUNNING, unit="MB"
        )
        yield most(each, TASK_LIMIT, f"under {TASK_LIMIT} MB")
        yield Figure(name="  of it its runner", value=runners / RUNNING, unit="MB")
    with daemon() as polpod:
        client = polpod.client()
        client.call("queue.set", name="default", paused=True)
        submit_many(client, [{}] * QUEUED, command=["true"], cwd="/")
        time.sleep(SETTLE)
        yield from readings(polpod, f"with {QUEUED:,} queued")


def readings(polpod: Daemon, when: str, promise: bool = False) -> Iterator[Figure]:
    for kind in ("Rss", "Pss"):
        figure = Figure(name=f"daemon {when}, {kind.upper()}", value=rollup(polpod.pid)[kind], unit="MB")
        yield most(figure, IDLE_LIMIT, f"under {IDLE_LIMIT} MB") if promise else figure
        helpers = sum(rollup(pid)[kind] for pid in children(polpod.pid))
        yield Figure(name=f"  its zygote {when}, {kind.upper()}", value=helpers, unit="MB")


def ours(polpod: Daemon) -> float:
    """PSS of the daemon and its children, in MB."""
    return sum(rollup(pid)["Pss"] for pid in (polpod.pid, *children(polpod.pid)))


def running(client: Client, count: int) -> list[dict[str, int]]:
    """The live runs, once so many are running."""
    until(lambda: client.call("daemon.status")["runs"].get("running") == count, 120, f"{count} runs are running")
    found: list[dict[str, int]] = client.call("run.list", status=["running"], limit=1000)["runs"]
    return found


def rollup(pid: int) -> dict[str, float]:
    """Rss and Pss of a process in MB (10⁶ bytes)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) * 1024 / 1e6 for name, kib in re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE)}


def children(pid: int) -> list[int]:
    """Child processes, whichever thread of the process started them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for some in lists for child in some.read_text().split()]
