"""What the state directory says of runs without its databases: run directories, their locks, and logs (F53, F54)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from polpod.paths import StateDirectory, numbers_of_runs
from polpod.runner import contract, directory
from polpod.store.sqlite import open_reader, translated


def directories(paths: StateDirectory) -> list[int]:
    """The runs that have a run directory."""
    return sorted(numbers_of_runs(paths.run_directories))


def known_runs(path: str) -> set[int]:
    """The runs that have a row in this runs.db.  Raises StoreError."""
    with closing(open_reader(path)) as db, translated(path):
        return {run_id for (run_id,) in db.execute("SELECT id FROM runs")}


def living(paths: StateDirectory, run_id: int, nonce: str) -> dict[str, Any] | None:
    """What the lock of the run's runner says of it, if a living process holds it; None: it does not live here.

    A run of that number which this directory had before is another one, by its nonce.
    """
    lock = paths.run(run_id).lock
    signed = _signature(lock) if directory.held(lock) else None
    return signed if signed is not None and signed.get("nonce", nonce) == nonce else None


def rows(paths: StateDirectory) -> Iterator[dict[str, Any]]:
    """The columns of each run whose runner lives, or left an outcome that no row took, as far as they can be known."""
    for run_id in directories(paths):
        run = paths.run(run_id)
        signed = _signature(run.lock)
        record = _record(run.exit)
        if signed is None or signed.get("run_id") != run_id or not (record or directory.held(run.lock)):
            continue
        yield {
            **{name: signed.get(name) for name in contract.IDENTITY},
            **{name: signed[name] for name in ("task_id", "attempt", "log_path", "containment", "cgroup", "boot_id")},
            "nonce": signed["nonce"],
            "id": run_id,
            "status": "running",
            "queue": "default",
            "token_hash": "",
            "claim_until_mono": 0,
            "created_at": signed["started_at"],
        }


def _signature(lock: str) -> dict[str, Any] | None:
    try:
        return directory.read_lock(lock)
    except (FileNotFoundError, ValueError):  # not there, or not signed yet
        return None


def _record(path: str) -> dict[str, Any] | None:
    try:
        return directory.read_exit(path)
    except (FileNotFoundError, ValueError):
        return None
