"""The same work by other tools, as far as they are installed: task-spooler, GNU parallel, xargs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager


def xargs(tasks: int, jobs: int) -> float:
    """Seconds for `tasks` runs of `true`, `jobs` at a time."""
    return _shell(f"seq {tasks} | xargs -P{jobs} -n1 true")


def parallel(tasks: int, jobs: int) -> float:
    return _shell(f"seq {tasks} | parallel --will-cite -j{jobs} true")


def tsp(tasks: int, jobs: int) -> float:
    with spooler(jobs) as environment:
        script = f"i=0; while [ $i -lt {tasks} ]; do tsp -n true >/dev/null; i=$((i+1)); done; tsp -w"
        return _shell(script, environment)


@contextmanager
def spooler(jobs: int) -> Iterator[dict[str, str]]:
    """A task-spooler server of its own; the environment that leads to it."""
    with tempfile.TemporaryDirectory(prefix="polpo-bench-") as folder:
        environment = os.environ | {"TS_SOCKET": f"{folder}/socket", "TMPDIR": folder}
        subprocess.run(["tsp", "-S", str(jobs)], env=environment, check=True, stdout=subprocess.DEVNULL)
        try:
            yield environment
        finally:
            subprocess.run(["tsp", "-K"], env=environment, check=True)


def installed(tool: str) -> bool:
    return shutil.which(tool) is not None


def absent() -> list[str]:
    """Peers that are not here, by the name of their Debian package."""
    packages = {"tsp": "task-spooler", "parallel": "parallel", "xargs": "findutils"}
    return [package for tool, package in packages.items() if not installed(tool)]


def _shell(script: str, environment: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    subprocess.run(["sh", "-c", script], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


PEERS = {"xargs": xargs, "parallel": parallel, "tsp": tsp}
"""Tool → seconds for (tasks, jobs at a time)."""
