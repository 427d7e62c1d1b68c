"""How a job is ended, and what it leaves behind: TERM, grace, KILL, proof (DESIGN §6, kill ladder).

Rules:

1. The reason stands in the kill row before any signal; a TERM that no row explains is `signalled`.
2. Both functions return only when nothing of the job is left, unless it was asked to leave it.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from polpod.runner import contract
from polpod.runner.job import Job
from polpod.runner.tree import Tree
from polpod.runner.watch import Watch


def climb(job: Job, watch: Watch, tree: Tree, grace: float) -> None:
    """End a job whose main process was not reaped yet: TERM to its group, `grace` seconds, KILL to all that is left."""
    until = time.monotonic() + grace
    for number in (signal.SIGTERM, signal.SIGCONT):
        _signal(job, number)
    while watch.job_lives and time.monotonic() < until:
        watch.wait(until)
    if not watch.job_lives:
        end_leftovers(tree, min(until, time.monotonic() + contract.LEFTOVER_GRACE))
    tree.kill()


def end_leftovers(tree: Tree, until: float) -> int:
    """End what a main process left behind: TERM, then KILL at `until` or at a SIGTERM; returns how many there were."""
    if tree.gone():
        return 0
    count = tree.terminate()
    tree.wait_gone(until)
    tree.kill()
    return count


def _signal(job: Job, number: int) -> None:
    # By number, the one exception to pidfds: it is our unreaped child, so its pid, and its group's, are still its own.
    try:
        os.killpg(job.pid, number)
    except ProcessLookupError:  # it went over to a group of its children's
        with suppress(PermissionError):
            os.kill(job.pid, number)
    except PermissionError:
        pass  # it became another user, as sudo does: it ends by itself, or not at all
