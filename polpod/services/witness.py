"""The second witness: a pidfd of each running job's main process, which the kernel tells the exit status of.

It is asked only where a runner was killed after its job had ended by itself, and before it had recorded that.

Rules:

1. The process is proven to be the job's, by pid and start ticks, when its pidfd is opened (polpod/runner/identity.py).
2. It is asked before anything is sent to what the runner left, so that our own signals are never taken for the job's end.
3. It is optional: one descriptor a run at most, and none where the table of descriptors is needed for more (F86), or
   where the kernel does not tell (before Linux 6.15).  Without it the outcome is unknown, as ever.

Nobody tells the daemon that a run was claimed, so the rows of new runs are looked at every LOOK_EVERY, all in one read.
A job that ends sooner has no second witness.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import struct
import time

import trio

from polpod.model.runs import Run, RunStatus
from polpod.rules.witness import Ending, ending_of
from polpod.runner import identity
from polpod.services.bell import Bell
from polpod.services.instance import Instance

LOOK_EVERY = 1.0
"""Seconds from the launch of a run, or its adoption, to the first look for its job."""

REAPED_WITHIN = 2.0
"""Seconds that we wait for the job to be reaped, without which the kernel tells nothing.

Its runner did that, or whoever inherits orphans: init, a service manager.  Where nobody does, as in a container whose
first process never waits, there is no testimony.
"""

_PIDFD_GET_INFO = 0xC040FF0B
"""linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info) with the 64 bytes of its first version."""
_PIDFD_INFO_EXIT = 1 << 3
_MASK = struct.Struct("=Q")
_EXIT_CODE = struct.Struct("=i")
_EXIT_CODE_AT = 60
_SIZE = 64


class Witness:
    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._awaited: set[int] = set()
        """Runs that are not known to be claimed."""
        self._pidfds: dict[int, int] = {}
        self._bell = Bell()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Half of the table, less a pidfd for each runner; the other half is for clients, databases and what comes.
        self._most = limit // 2 - instance.config.settings.max_concurrency if _available() else 0

    def expect(self, run_id: int) -> None:
        """A runner is at work on this run."""
        if len(self._awaited) + len(self._pidfds) < self._most:
            self._awaited.add(run_id)
            self._bell.ring()

    def dismiss(self, run_id: int) -> None:
        """The run is over; the descriptor goes."""
        self._awaited.discard(run_id)
        if (pidfd := self._pidfds.pop(run_id, None)) is not None:
            os.close(pidfd)

    async def serve(self) -> None:
        while True:
            await self._bell.wait()
            while self._awaited:
                await trio.sleep(LOOK_EVERY)
                await self._look()

    async def testimony(self, run_id: int) -> Ending | None:
        """How the job of a dead runner's run had ended; None if it lives, or nobody can tell.  At most REAPED_WITHIN."""
        pidfd = self._pidfds.pop(run_id, None)
        if pidfd is None:
            return None
        try:
            wait_status = await trio.to_thread.run_sync(_wait_status, pidfd)
        finally:
            os.close(pidfd)
        return None if wait_status is None else ending_of(wait_status)

    async def _look(self) -> None:
        awaited = list(self._awaited)
        runs = await self._instance.runs.read(lambda tx: tx.many(awaited))
        claimed = [run for run in runs if run.status is RunStatus.RUNNING]
        for run_id, pidfd in (await trio.to_thread.run_sync(_open, claimed)).items():
            if run_id in self._awaited and pidfd is not None:
                self._pidfds[run_id] = pidfd
            elif pidfd is not None:  # it ended while we looked
                os.close(pidfd)
            self._awaited.discard(run_id)


def _open(runs: list[Run]) -> dict[int, int | None]:
    return {run.id: _job_pidfd(run) for run in runs}


def _job_pidfd(run: Run) -> int | None:
    if run.job_pid is None or run.job_start_ticks is None:
        return None
    return identity.proven(run.job_pid, run.job_start_ticks, boot=run.boot_id, pid_ns=run.pid_ns)


def _wait_status(pidfd: int) -> int | None:
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    if not ended.poll(0):
        return None
    until = time.monotonic() + REAPED_WITHIN
    while (wait_status := _told(pidfd)) is None and time.monotonic() < until:
        time.sleep(0.01)
    return wait_status


def _told(pidfd: int) -> int | None:
    """The wait(2) status of the process; None while it is not reaped, or where the kernel does not tell."""
    answer = bytearray(_SIZE)
    _MASK.pack_into(answer, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, answer)
    except ProcessLookupError:  # Linux 6.13 and 6.14 forget a process with its end
        return None
    if not _MASK.unpack_from(answer)[0] & _PIDFD_INFO_EXIT:
        return None
    wait_status: int = _EXIT_CODE.unpack_from(answer, _EXIT_CODE_AT)[0]
    return wait_status


def _available() -> bool:
    """Whether this kernel answers at all, as it does from Linux 6.13 on."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        _told(pidfd)
    except OSError as exc:
        if exc.errno in (errno.ENOTTY, errno.EINVAL):
            return False
        raise
    finally:
        os.close(pidfd)
    return True
