"""How soon a job starts after it was submitted, and how soon its end is known.

The job is `sh`, which says through one fifo that it runs and ends when another tells it to; both moments are taken by
the benchmark's own clock.  Everything is idle beside it.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.daemon import Daemon, daemon
from bench.figures import Figure, latency, most
from bench.peers import installed, spooler

SOCKET_ROUNDS = 200
COMMAND_ROUNDS = 60
START_LIMIT_MS = 15
BOUND = 30.0


class Gate:
    """Two fifos: a job says that it runs, and is told to end."""

    def __init__(self, folder: Path) -> None:
        self.running, self.go = folder / "running", folder / "go"
        os.mkfifo(self.running)
        os.mkfifo(self.go)
        self.says = os.open(self.running, os.O_RDWR)
        self._tells = os.open(self.go, os.O_RDWR)

    def job(self) -> list[str]:
        return ["sh", "-c", 'echo >"$1"; read _ <"$2"', "sh", str(self.running), str(self.go)]

    def started(self) -> float:
        """Wait until the job runs; when that was."""
        readable(self.says)
        now = time.perf_counter()
        os.read(self.says, 1)
        return now

    def end(self) -> float:
        """Tell the job to end; when that was."""
        now = time.perf_counter()
        os.write(self._tells, b"\n")
        return now


def readable(what: int) -> None:
    if not select.select([what], [], [], BOUND)[0]:
        raise TimeoutError(f"nothing came within {BOUND} s")


def run() -> Iterator[Figure]:
    with daemon(maxConcurrency=8) as polpod:
        gate = Gate(polpod.root)
        starts, ends = rounds(SOCKET_ROUNDS, lambda: by_socket(polpod, gate))
        yield most(
            latency("submit → start, socket client", starts), START_LIMIT_MS, f"median under {START_LIMIT_MS} ms"
        )
        yield latency("exit → recorded, as task.wait answers", ends)
        starts, ends = rounds(COMMAND_ROUNDS, lambda: by_command(polpod, gate))
        yield latency("submit → start, from before polpoctl submit is launched", starts)
        yield latency("exit → polpoctl wait has ended", ends)
    if installed("tsp"):
        with spooler(1) as environment:
            gate = Gate(Path(environment["TMPDIR"]))
            starts, ends = rounds(COMMAND_ROUNDS, lambda: by_spooler(environment, gate))
            yield latency("submit → start, from before tsp is launched", starts)
            yield latency("exit → tsp -w has ended", ends)


def rounds(count: int, one: Callable[[], tuple[float, float]]) -> tuple[list[float], list[float]]:
    pairs = [one() for _ in range(count)]
    return [start for start, _ in pairs], [end for _, end in pairs]


def by_socket(polpod: Daemon, gate: Gate) -> tuple[float, float]:
    submitter, waiter = polpod.client(), polpod.client()
    began = time.perf_counter()
    submitter.send("task.submit", command=gate.job(), cwd="/")
    started = gate.started()
    waiter.send("task.wait", ids=[submitter.receive()["id"]], timeout=30)
    submitter.call("daemon.health")  # the daemon has read the wait by now, which came before
    ended = gate.end()
    readable(waiter.fileno())
    recorded = time.perf_counter()
    if not waiter.receive()["finished"]:
        raise RuntimeError("task.wait answered before the task was finished")
    submitter.close()
    waiter.close()
    return started - began, recorded - ended


def by_command(polpod: Daemon, gate: Gate) -> tuple[float, float]:
    return by_process(
        polpod.command("submit", "--cwd", "/", "--", *gate.job()),
        lambda id: polpod.command("wait", id),
        polpod.environment,
        gate,
    )


def by_spooler(environment: dict[str, str], gate: Gate) -> tuple[float, float]:
    return by_process(["tsp", "-n", *gate.job()], lambda id: ["tsp", "-w", id], environment, gate)


def by_process(
    submit: list[str], wait: Callable[[str], list[str]], environment: dict[str, str], gate: Gate
) -> tuple[float, float]:
    began = time.perf_counter()
    with subprocess.Popen(submit, env=environment, stdout=subprocess.PIPE, text=True) as submitter:
        started = gate.started()
        name = submitter.communicate()[0].strip()
    with subprocess.Popen(wait(name), env=environment, stdout=subprocess.DEVNULL) as waiter:
        time.sleep(0.2)  # it cannot be seen from outside that a command waits
        ended = gate.end()
        waiter.wait(BOUND)
        recorded = time.perf_counter()
    return started - began, recorded - ended
