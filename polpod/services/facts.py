"""Facts about a run's processes, read from the host.  Blocking, a few system calls; called in a worker thread."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from polpod.model.runs import Run
from polpod.rules.judge import Facts, Life
from polpod.runner import contract, directory, identity
from polpod.services.instance import Instance

_NOT_THERE = (FileNotFoundError, NotADirectoryError)


def facts_of(instance: Instance, run: Run) -> Facts:
    """What can be known of the run's runner: its lock first, which needs no /proc, then its identity (DESIGN §6).

    Raises OSError when a witness is there, or may be, and cannot be asked now: that is no testimony at all (F12).
    """
    if run.boot_id != instance.boot_id:
        return Facts(Life.GONE_WITH_BOOT, _recorded(instance, run))
    return Facts(_life(instance, run), _recorded(instance, run), time.monotonic() < claim_deadline(run))


def claim_deadline(run: Run) -> float:
    """CLOCK_MONOTONIC seconds in the run's boot at which a row that nobody claimed is given up (DESIGN §6.2)."""
    return run.claim_until_mono / 1e9 + contract.CLAIM_MARGIN


def runner_pidfd(run: Run) -> int | None:
    """A pidfd of the run's runner, or None where it is dead or cannot be told from a stranger.

    Marks alone, however well they fit, are only what some row says: a runner has the lock of its run (F32).
    """
    if run.pid is None or run.start_ticks is None:
        return None
    pidfd = identity.proven(run.pid, run.start_ticks, pid_ns=run.pid_ns, pidfd_inode=run.pidfd_inode)
    if pidfd is None or directory.has_lock(run.pid, run.id):
        return pidfd
    os.close(pidfd)
    return None


def _life(instance: Instance, run: Run) -> Life:
    lock = instance.paths.run(run.id).lock
    with suppress(*_NOT_THERE):
        os.stat(lock)
        return Life.ALIVE if directory.held(lock) else Life.DEAD
    # No lock to ask: somebody cleaned up behind our back, or the runner did not come that far.
    if run.pid is None:
        return Life.UNKNOWN
    if run.pid_ns != identity.pid_namespace():
        return Life.UNKNOWN
    pidfd = runner_pidfd(run)
    if pidfd is None:
        return Life.DEAD
    os.close(pidfd)
    return Life.ALIVE


def _recorded(instance: Instance, run: Run) -> bool:
    try:
        record = directory.read_exit(instance.paths.run(run.id).exit)
    except (*_NOT_THERE, ValueError):
        return False
    return (record["id"], record["nonce"]) == (run.id, run.nonce)
