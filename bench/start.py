"""What a polpoctl command costs beside a bare interpreter's start, taken in turns."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.daemon import daemon, seconds
from bench.figures import Figure, latency, most
from bench.peers import installed, spooler

ROUNDS = 40
LIMIT = 3


def run() -> Iterator[Figure]:
    with daemon() as polpod:
        commands = {
            "python3 -c pass": [sys.executable, "-c", "pass"],
            "polpoctl status": polpod.command("status"),
            "polpoctl list": polpod.command("list"),
            "polpoctl submit": polpod.command("submit", "--hold", "--", "true"),
        }
        samples: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                samples[name].append(seconds(command, polpod.environment))
    figures = {name: latency(name, taken) for name, taken in samples.items()}
    yield from figures.values()
    bare = figures.pop("python3 -c pass")
    for name, figure in figures.items():
        ratio = Figure(name=f"{name} / python3 -c pass", value=figure.value / bare.value, unit="×")
        yield most(ratio, LIMIT, f"within {LIMIT}× a bare interpreter")
    if installed("tsp"):
        with spooler(1) as environment:
            yield latency("tsp (list)", [seconds(["tsp"], environment) for _ in range(ROUNDS)])
