"""Carries out one command with a time limit, in a process group of its own, and keeps the last of what it writes.

Rules:

1. Nothing that a command does keeps this waiting for longer than its limit and the grace: not a pipe that it
   leaves open to a process of its own, not a TERM that it ignores (F41, F42).
2. What it leaves behind in its group ends with it; what went away from there, the runner of the run ends.
3. A group is signalled only while its first process is not reaped yet, so that its number is still its own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, NamedTuple

CHUNK = 65536
PIPE = 16
"""Chunks that a pipe holds at most."""
LOOK_EVERY = 0.2
"""Seconds between looks at a group that was asked to end."""
PAUSE = 0.01


class Ended(NamedTuple):
    exit_code: int | None
    """Negative: by that signal; None: it did not end in time."""
    output: bytes
    """The last of it."""
    duration: float
    """Seconds."""


def carry_out(
    argv: Sequence[str],
    *,
    timeout: float,
    grace: float,
    keep: int,
    copy_to: int,
    stdin: bytes = b"",
    errors: bool = True,
) -> Ended:
    """Run the command to its end; all that it writes is copied to the descriptor `copy_to`, the last `keep` bytes are kept.

    `errors`: keep what it writes to stderr, too.  Raises OSError where it cannot be executed.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else copy_to,
        process_group=0,
        bufsize=0,
    )
    pidfd = os.pidfd_open(process.pid)
    streams = _Streams(process, pidfd, stdin, keep, copy_to)
    try:
        in_time = streams.until_end(began + timeout)
    finally:  # also when we are asked to end
        _signal(process, signal.SIGTERM)
        streams.over(grace)
        _signal(process, signal.SIGKILL)
        streams.close()
        process.wait()
        os.close(pidfd)
    return Ended(process.returncode if in_time else None, bytes(streams.kept), time.monotonic() - began)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of it is gone, or it became another user
        os.killpg(process.pid, number)


class _Streams:
    """What goes into a process and comes out of it."""

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int, stdin: bytes, keep: int, copy_to: int) -> None:
        assert process.stdout is not None
        self._pidfd, self._out, self._in = pidfd, process.stdout, process.stdin
        self._stdin, self._keep, self._copy_to = memoryview(stdin), keep, copy_to
        self.kept = bytearray()
        self._poll = select.poll()
        self._poll.register(pidfd, select.POLLIN)
        self._register(self._out, select.POLLIN)
        if self._in is not None:
            self._register(self._in, select.POLLOUT)

    def _register(self, stream: IO[bytes], events: int) -> None:
        os.set_blocking(stream.fileno(), False)
        self._poll.register(stream.fileno(), events)

    def until_end(self, until: float) -> bool:
        """Pass on what there is until the process ended; whether that was in time."""
        while (left := until - time.monotonic()) > 0:
            ready = dict(self._poll.poll(left * 1000 + 1))
            self._pass_on(ready)
            if self._pidfd in ready:
                for _ in range(PIPE):  # what it wrote before its end
                    if not self._read():
                        break
                return True
        return False

    def over(self, grace: float) -> None:
        """Wait for the end of the process and of all that has its output, at most for the grace."""
        until = time.monotonic() + grace
        while (left := until - time.monotonic()) > 0:
            ready = dict(self._poll.poll(min(left, LOOK_EVERY) * 1000 + 1))
            self._pass_on(ready)
            if self._pidfd in ready:
                if self._out.closed:
                    return
                time.sleep(PAUSE)  # it stays ready, and what still has the output is looked at now and then

    def close(self) -> None:
        self._out.close()
        if self._in is not None:
            self._in.close()

    def _pass_on(self, ready: dict[int, int]) -> None:
        if not self._out.closed and self._out.fileno() in ready:
            self._read()
        if self._in is not None and not self._in.closed and self._in.fileno() in ready:
            self._write(self._in)

    def _read(self) -> bool:
        if self._out.closed:
            return False
        try:
            data = os.read(self._out.fileno(), CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(self._out.fileno())
            self._out.close()
            return False
        self.kept += data
        del self.kept[: -self._keep]
        with suppress(OSError):  # a full disk is no reason to know nothing of the check
            os.write(self._copy_to, data)
        return True

    def _write(self, stream: IO[bytes]) -> None:
        try:
            self._stdin = self._stdin[os.write(stream.fileno(), self._stdin[:CHUNK]) :]
        except BrokenPipeError:
            self._stdin = self._stdin[:0]
        if not self._stdin:
            self._poll.unregister(stream.fileno())
            stream.close()
