"""The daemon's end of the zygote: one request, one reply, and another zygote when one dies (DESIGN §3).

Rule: the zygote has no state, so nothing is lost with it; who waited for a reply is told that none will come, and one
that does not answer is replaced.
"""

from __future__ import annotations

import array
import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field

import trio

REPLY_TIMEOUT = 5.0
MESSAGE_SIZE = 4096

RESTART_EVERY = 1.0
"""Seconds from one start of a zygote to the next, at least: where none can live (an upgrade took its modules away, the host
has no process left) they would follow each other at full speed."""

log = logging.getLogger(__name__)


class NotForked(Exception):
    """No runner came of the request; the reason is the message."""


class ZygoteDied(NotForked):
    """It died before it answered, which says nothing about the host; another is on its way."""


@dataclass(frozen=True, slots=True)
class Forked:
    pid: int
    start_ticks: int
    pidfd: int
    """Owned by whoever receives it."""


@dataclass(slots=True, eq=False)
class _Request:
    answered: trio.Event = field(default_factory=trio.Event)
    reply: Forked | NotForked | None = None


class Zygote:
    def __init__(self) -> None:
        self._waiting: dict[int, _Request] = {}
        self._socket: trio.socket.SocketType | None = None
        self._process: trio.Process | None = None
        self._ready = trio.Event()
        self._sending = trio.Lock()

    async def serve(self) -> None:
        """Keep a zygote alive until cancelled; the one that is left ends when our end of its socket closes."""
        while True:
            started = trio.current_time()
            problem: NotForked = ZygoteDied("the zygote died")
            try:
                if (status := await self._live()) > 0:
                    problem = NotForked(f"the zygote ended by itself, with exit status {status}")
            except OSError as exc:
                problem = NotForked(f"no zygote can be started: {exc.strerror}")
            log.warning("%s", problem)
            self._abandon(problem)
            await trio.sleep_until(started + RESTART_EVERY)

    async def _live(self) -> int:
        """The life of one zygote; how it ended, as in `Popen.returncode`.  Raises OSError where none can be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with trio.socket.from_stdlib_socket(ours) as self._socket:
            with theirs:
                # In a session of its own: a Ctrl-C at the terminal is for the daemon, which decides about its runners.
                self._process = await trio.lowlevel.open_process(
                    [sys.executable, "-I", "-m", "polpod.runner.zygote", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                    env=_environment(),
                )
            self._ready.set()
            try:
                await self._receive(self._socket)
            finally:
                self._ready = trio.Event()
        self._process.kill()
        return await self._process.wait()

    async def fork(self, run_id: int, directory: str, go: int) -> Forked:
        """Ask for a runner of this run directory that waits for a byte on the pipe `go`, which is closed here.

        Raises NotForked when there is none, or when nobody can say within REPLY_TIMEOUT.
        """
        request = self._waiting[run_id] = _Request()
        try:
            with trio.move_on_after(REPLY_TIMEOUT):
                await self._ask(run_id, directory, go)
                await request.answered.wait()
        finally:
            os.close(go)
            del self._waiting[run_id]
        if request.reply is None:
            if self._process is not None:
                self._process.kill()
            raise NotForked(f"the zygote did not answer within {REPLY_TIMEOUT:g} s")
        if isinstance(request.reply, NotForked):
            raise request.reply
        return request.reply

    async def _ask(self, run_id: int, directory: str, go: int) -> None:
        message = json.dumps({"run_id": run_id, "directory": directory}).encode()
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [go]).tobytes())]
        await self._ready.wait()
        assert self._socket is not None
        async with self._sending:
            try:
                await self._socket.sendmsg([message], passed)
            except OSError as exc:
                raise ZygoteDied(f"the zygote does not listen: {exc.strerror}") from exc

    async def _receive(self, ours: trio.socket.SocketType) -> None:
        room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
        while True:
            try:
                data, passed, _, _ = await ours.recvmsg(MESSAGE_SIZE, room)
            except ConnectionResetError:
                return
            if not data:
                return
            self._answer(json.loads(data), _descriptors(passed))

    def _answer(self, reply: dict[str, object], descriptors: list[int]) -> None:
        request = self._waiting.get(int(str(reply["run_id"])))
        if request is None:  # it came too late: the row was given up, so the runner will find nothing to claim
            for fd in descriptors:
                os.close(fd)
            return
        if descriptors:
            request.reply = Forked(int(str(reply["pid"])), int(str(reply["start_ticks"])), descriptors[0])
        else:
            request.reply = NotForked(str(reply.get("error", "no descriptor is free for its runner's pidfd")))
        request.answered.set()

    def _abandon(self, because: NotForked) -> None:
        for request in self._waiting.values():
            request.reply = request.reply or because
            request.answered.set()


def _descriptors(passed: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array.array("i")
    for level, kind, data in passed:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def _environment() -> dict[str, str]:
    """Ours, without what systemd meant for this process alone."""
    return {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")}
