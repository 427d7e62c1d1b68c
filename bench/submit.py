"""Durable submits a second: an id is answered only when its task is on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from bench.client import calls_per_second
from bench.daemon import daemon, seconds
from bench.figures import Figure, median, repeat
from bench.peers import installed, spooler

TASK = {"command": ["true"], "cwd": "/", "hold": True}
"""Held, so that only storing is measured."""


def run() -> Iterator[Figure]:
    for clients in (1, 8, 64):
        with daemon() as polpod:
            calls = 1500 if clients == 1 else 4000
            rate = partial(calls_per_second, polpod.socket, "task.submit", TASK, clients, calls)
            yield median(f"task.submit, {clients} socket client{'s' * (clients > 1)}", repeat(3, rate), "tasks/s")
    with daemon() as polpod:
        client = polpod.client()

        def batch() -> float:
            started = time.perf_counter()
            for _ in range(10):
                client.call("task.submit_many", defaults=TASK, tasks=[{}] * 1000)
            return 10_000 / (time.perf_counter() - started)

        yield median("task.submit_many, 1,000 a call", repeat(3, batch), "tasks/s")
        command = polpod.command("submit", "--hold", "--", "true")
        yield median(
            "polpoctl submit, one after the other",
            repeat(20, lambda: 1 / seconds(command, polpod.environment)),
            "tasks/s",
        )
    if installed("tsp"):
        with spooler(1) as environment:
            yield median(
                "tsp, one after the other (kept in memory)",
                repeat(50, lambda: 1 / seconds(["tsp", "-n", "true"], environment)),
                "tasks/s",
            )
