"""What lives beside the rows: run directories and cgroups that no row knows, and logs that are deleted but still open."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress

from polpod import remedies
from polpod.doctor.checkup import Diagnosis, Patient, ok, warning
from polpod.errors import DiskFull, StoreError, Unavailable
from polpod.paths import StateDirectory, numbers_of_runs
from polpod.runner import containment, directory
from polpod.store.sqlite import open_reader


def unknown_runs(patient: Patient) -> Iterator[Diagnosis]:
    """F54: a database that was restored does not know what started since."""
    paths = patient.paths
    # Listed before the rows are read: a row is there before its directory is.
    directories = numbers_of_runs(paths.run_directories)
    cgroups = {n: base.path for base in containment.bases(paths.path) for n in numbers_of_runs(base.path)}
    known = _known(paths)
    if known is None:
        return
    for run_id in sorted(directories - known):
        place = paths.run(run_id)
        if directory.held(place.lock):
            yield warning(
                "unknown runs",
                f"{place.path}: its runner lives{_signed(place.lock)}, and runs.db has no such run; polpod leaves it alone",
                f"end it, or wait until it is over: tail -f {paths.log(run_id)}",
            )
        else:
            yield warning(
                "unknown runs", f"{place.path}: what is left of a run that runs.db does not know", f"rm -r {place.path}"
            )
    for run_id in sorted(cgroups.keys() - known - directories):
        yield warning("unknown runs", f"{cgroups[run_id]}/run-{run_id}: the cgroup of a run that runs.db does not know")
    if not (directories | cgroups.keys()) - known:
        yield ok("unknown runs", "none")


def deleted_logs(patient: Patient) -> Iterator[Diagnosis]:
    """F63: they take space that no `du` shows."""
    found: dict[tuple[int, int], tuple[str, int, set[int]]] = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it ended, or is another user's
            for fd in os.listdir(f"/proc/{pid}/fd"):
                link = f"/proc/{pid}/fd/{fd}"
                target = os.readlink(link)
                if target.endswith(" (deleted)") and target.startswith(f"{os.path.realpath(patient.paths.logs)}/"):
                    status = os.stat(link)
                    name = target.removesuffix(" (deleted)")
                    entry = found.setdefault((status.st_dev, status.st_ino), (name, status.st_blocks * 512, set()))
                    entry[2].add(int(pid))
    for name, size, pids in found.values():
        run = re.fullmatch(r"(\d+)\.log", os.path.basename(name))
        what_next = f"end run {run[1]}, or wait for it" if run else "restart what writes to it"
        yield warning(
            "deleted logs",
            f"{name} is deleted, and {_list(pids)} keeps {size >> 10} KiB of it on the disk",
            f"{what_next}: {remedies.command(patient.paths.root, 'runs')}",
        )
    if not found:
        yield ok("deleted logs", "none")


def _list(pids: set[int]) -> str:
    return f"pid {', '.join(map(str, sorted(pids)))}"


def _known(paths: StateDirectory) -> set[int] | None:
    """The runs that have a row; None: nobody can say, which is told elsewhere."""
    try:
        with closing(open_reader(paths.runs_db)) as db:
            return {run_id for (run_id,) in db.execute("SELECT id FROM runs")}
    except (StoreError, DiskFull, Unavailable, sqlite3.Error):
        return None


def _signed(lock: str) -> str:
    try:
        facts = directory.read_lock(lock)
    except (OSError, ValueError):
        return ""
    return f" (pid {facts.get('pid')}, task {facts.get('task_id')})"
