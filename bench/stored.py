"""Whether the everyday calls grow with what is stored: half of it finished, half of it waiting.

`polpoctl list` without a limit prints every task that waits, so it has to grow, and no bound is set on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.client import Client
from bench.daemon import daemon, seconds, submit_many
from bench.figures import Figure, latency, most

SIZES = (0, 1_000, 10_000, 100_000)
PRINTS_ALL = "polpoctl list"
FULL_PAGE = 1_000
"""What the largest size is compared with: an empty list has nothing to show, here a page is full."""
ROUNDS = 30
BUDGET = 10.0
"""Seconds after which no further round of one call is begun."""
GROWTH = 1.5
"""How far apart two medians may lie on a noisy machine and still count as the same."""
TASK = {"command": ["true"], "cwd": "/", "hold": True}
CALLS: dict[str, dict[str, object]] = {"task.list": {}, "daemon.status": {}, "task.submit": TASK}
COMMANDS = {
    "polpoctl status": ("status",),
    "polpoctl submit": ("submit", "--hold", "--", "true"),
    "polpoctl list --limit 100": ("list", "--limit", "100"),
    PRINTS_ALL: ("list",),
}


def run() -> Iterator[Figure]:
    full: dict[str, float] = {}
    with daemon() as polpod:
        client = polpod.client()
        stored = 0
        for size in SIZES:
            fill(client, size - stored)
            stored = size
            samples = {name: rounds(partial(timed, client, name, params)) for name, params in CALLS.items()}
            samples |= {
                name: rounds(partial(seconds, polpod.command(*words), polpod.environment))
                for name, words in COMMANDS.items()
            }
            for name, taken in samples.items():
                if size == FULL_PAGE:
                    full[name] = statistics.median(taken)
                figure = latency(f"{name}, {size:,} stored", taken)
                if size == SIZES[-1] and name != PRINTS_ALL:
                    figure = most(figure, 1000 * GROWTH * full[name], f"within {GROWTH}× of {FULL_PAGE:,} stored")
                yield figure


def fill(client: Client, tasks: int) -> None:
    """Store so many more tasks, every second one finished by cancelling it."""
    for done in range(0, tasks, 1000):
        ids = submit_many(client, [{}] * min(1000, tasks - done), **TASK)
        client.call("task.cancel", select={"ids": ids[::2]})


def rounds(one: Callable[[], float]) -> list[float]:
    """Up to ROUNDS samples, within BUDGET."""
    samples = [one()]
    while len(samples) < ROUNDS and sum(samples) < BUDGET:
        samples.append(one())
    return samples


def timed(client: Client, method: str, params: dict[str, object]) -> float:
    started = time.perf_counter()
    client.call(method, **params)
    return time.perf_counter() - started
