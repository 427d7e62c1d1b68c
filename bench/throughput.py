"""End to end: 1,000 times `true`, from the first submit until the last result is recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from bench.daemon import daemon, submit_many, until
from bench.figures import Figure, least, median, repeat
from bench.peers import PEERS, installed

TASKS = 1000
REPEATS = 3
SHARE = 0.3
"""Of xargs' rate, at 8 at a time: the promise."""


def run() -> Iterator[Figure]:
    for jobs in (2, 8, 64):
        rates = {"polpod": median(f"polpod, {jobs} at a time", repeat(REPEATS, partial(polpod, jobs)), "tasks/s")}
        for tool, peer in PEERS.items():
            if installed(tool):
                samples = [TASKS / taken for taken in repeat(REPEATS, partial(peer, TASKS, jobs))]
                rates[tool] = median(f"{tool}, {jobs} at a time", samples, "tasks/s")
        yield from rates.values()
        if "xargs" in rates:
            ratio = rates["polpod"].value / rates["xargs"].value
            share = Figure(name=f"polpod / xargs, {jobs} at a time", value=ratio, unit="")
            yield least(share, SHARE, f"at least {SHARE} of xargs -P8 -n1 true") if jobs == 8 else share


def polpod(jobs: int) -> float:
    """Tasks a second of a fresh daemon."""
    with daemon(maxConcurrency=jobs) as one:
        client = one.client()
        started = time.perf_counter()
        submit_many(client, [{}] * TASKS, command=["true"], cwd="/")
        # The counts cost the daemon next to nothing, so that looking often hardly disturbs what is measured.
        until(lambda: client.call("daemon.status")["tasks"] == {"done": TASKS}, 300, "all are done")
        return TASKS / (time.perf_counter() - started)
