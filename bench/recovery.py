"""How soon a daemon that was killed has all its runs again."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.daemon import daemon, submit_many, until
from bench.figures import Figure
from bench.memory import running

RUNS = 1000


def run() -> Iterator[Figure]:
    with daemon(maxConcurrency=RUNS) as polpod:
        client = polpod.client()
        began = time.perf_counter()
        submit_many(client, [{}] * RUNS, command=["sleep", "600"], cwd="/")
        before = {run["id"]: run["pid"] for run in running(client, RUNS)}
        yield Figure(name=f"{RUNS:,} tasks submitted → all running", value=time.perf_counter() - began, unit="s")
        polpod.kill()
        began = time.perf_counter()
        polpod.start()
        client = polpod.client()
        client.call("daemon.status")
        yield Figure(name=f"start → answers, {RUNS:,} live runs", value=time.perf_counter() - began, unit="s")
        until(lambda: client.call("daemon.status")["state"] == "running", 60, "recovery is over", pause=0.002)
        yield Figure(name="start → recovered", value=time.perf_counter() - began, unit="s")
        after = {run["id"]: run["pid"] for run in running(client, RUNS)}
        if before != after:
            raise RuntimeError("the runs after recovery are not those before it")
        began = time.perf_counter()
        client.call("daemon.shutdown")
        until(polpod.ended, 90, "the daemon has stopped")
        yield Figure(name=f"stop, ending {RUNS:,} runs in order", value=time.perf_counter() - began, unit="s")
