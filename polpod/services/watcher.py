"""Watches the runners: when one ends, somebody is told to look at its run.  No polling, no SIGCHLD (DESIGN §3).

A runner of which no pidfd could be had (it is alive by its lock, but its identity cannot be proven from here, as in another
time namespace) is watched by its lock instead.
"""

from __future__ import annotations

import os

import trio

from polpod.paths import StateDirectory
from polpod.runner import directory
from polpod.services.inbox import Inbox
from polpod.services.witness import Witness

LOCK_PROBE_EVERY = 2.0


class Watcher:
    def __init__(self, paths: StateDirectory, nursery: trio.Nursery, inbox: Inbox, witness: Witness) -> None:
        self._paths, self._nursery, self._inbox, self._witness = paths, nursery, inbox, witness
        self._pidfds: dict[int, int] = {}

    def watch(self, run_id: int, pidfd: int | None) -> None:
        """Take charge of the runner's pidfd, or without one of its lock."""
        if pidfd is None:
            self._nursery.start_soon(self._probe, run_id)
        else:
            self._pidfds[run_id] = pidfd
            self._witness.expect(run_id)
            self._nursery.start_soon(self._wait, run_id, pidfd)

    def pidfd(self, run_id: int) -> int | None:
        """The pidfd of a runner that was not seen dead yet; valid until the next checkpoint."""
        return self._pidfds.get(run_id)

    async def _wait(self, run_id: int, pidfd: int) -> None:
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            del self._pidfds[run_id]
            os.close(pidfd)
        self._inbox.look(run_id, dead=True)

    async def _probe(self, run_id: int) -> None:
        lock = self._paths.run(run_id).lock
        while await trio.to_thread.run_sync(_may_be_held, lock):
            await trio.sleep(LOCK_PROBE_EVERY)
        self._inbox.look(run_id, dead=True)


def _may_be_held(lock: str) -> bool:
    try:
        return directory.held(lock)
    except OSError:  # it cannot be asked now
        return True
