"""The daemon's end of the zygote: one request, one reply, and another zygote when one dies (DESIGN §3).

Rules:

1. The zygote has no state, so nothing is lost with it; who waited for a reply is told that none will come, and one that
   does not answer is replaced.
2. It is our child, or where systemd listens on a socket for us, a unit of its own that systemd starts as we connect: then
   runs do not share the fate of our unit (DESIGN §12).
"""

from __future__ import annotations

import array
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

START_TIMEOUT = 30.0
READY_TIMEOUT = 5.0
"""Seconds for which a request waits for a zygote in the place of one that died."""

REPLY_TIMEOUT = 15.0
"""Half of CLAIM_TIMEOUT: a runner that was forked as late as that has time left to claim its run."""

MESSAGE_SIZE = 4096
ROOM = socket.CMSG_SPACE(array.array("i", [0]).itemsize)

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
    def __init__(self, place: Callable[[int, int], None], socket_path: str | None = None) -> None:
        """`place` is told of each zygote, before any run begins in it, its pid and the lowest niceness that its jobs may have.

        `socket_path`: where systemd starts zygotes; None: they are our children.
        """
        self._place = place
        self._socket_path = socket_path
        self._waiting: dict[int, _Request] = {}
        self._socket: trio.socket.SocketType | None = None
        self._ready = trio.Event()
        self._decided = trio.Event()
        self._sending = trio.Lock()

    async def serve(self) -> None:
        """Keep a zygote alive until cancelled; the one that is left ends when our end of its socket closes."""
        said = ""
        while True:
            started = trio.current_time()
            try:
                problem = await self._live()
            except OSError as exc:
                problem = NotForked(f"no zygote can be started: {self._socket_path or sys.executable}: {exc.strerror}")
            if not isinstance(problem, ZygoteDied):
                self._decided.set()
            if str(problem) != said or isinstance(problem, ZygoteDied):  # not each second, for as long as it lasts
                log.warning("%s", problem)
                said = str(problem)
            self._abandon(problem)
            await trio.sleep_until(started + RESTART_EVERY)

    async def ready(self) -> None:
        """Wait until there is a zygote and its place is known, or none could be had when it was last tried."""
        await self._decided.wait()

    async def _live(self) -> NotForked:
        """The life of one zygote; what it means to those who wait for it.  Raises OSError where none can be had."""
        ours, process = await (_spawn() if self._socket_path is None else _connect(self._socket_path))
        greeted, status = False, 0
        try:
            with ours as self._socket:
                with trio.move_on_after(START_TIMEOUT):
                    greeted = await self._greeted(ours)
                if greeted:
                    await self._receive(ours)
                    self._ready, self._decided = trio.Event(), trio.Event()
        finally:
            if process is not None:
                process.kill()
                with trio.CancelScope(shield=True):  # after a reload, nobody would know of it that it is ours to reap
                    status = await process.wait()
        if greeted and status <= 0:
            return ZygoteDied("the zygote died")
        how = f"ended by itself, with exit status {status}" if status > 0 else "did not come up"
        if process is None:
            how += ": journalctl -u 'polpo-zygote@*'"
        return NotForked(f"the zygote {how}")

    async def _greeted(self, ours: trio.socket.SocketType) -> bool:
        """Wait for the zygote's first words; False: none came."""
        hello, _ = await _message(ours)
        if hello:
            words = json.loads(hello)
            self._place(words["pid"], words["nice_from"])
            self._ready.set()
            self._decided.set()
        return bool(hello)

    async def fork(self, run_id: int, directory: str, go: int) -> Forked:
        """Ask for a runner of this run directory that waits for a byte on the pipe `go`, which is closed here.

        Raises NotForked when there is none within READY_TIMEOUT, or when it does not say so within REPLY_TIMEOUT.
        """
        request, asked = _Request(), False
        self._waiting[run_id] = request
        try:
            with trio.move_on_after(READY_TIMEOUT):
                await self._ready.wait()
                asked = True
            if asked:
                with trio.move_on_after(REPLY_TIMEOUT):
                    await self._ask(run_id, directory, go)
                    await request.answered.wait()
        finally:
            os.close(go)
            del self._waiting[run_id]
        if request.reply is None:
            if asked and self._socket is not None:
                with suppress(OSError):  # it is closed already
                    self._socket.shutdown(socket.SHUT_RDWR)
            raise NotForked("the zygote did not answer in time" if asked else "no zygote came up in time")
        if isinstance(request.reply, NotForked):
            raise request.reply
        return request.reply

    def give_up(self) -> None:
        """Nobody needs a runner any more: who waits for the zygote's word is told so at once."""
        self._abandon(ZygoteDied("polpod stops"))

    async def _ask(self, run_id: int, directory: str, go: int) -> None:
        message = json.dumps({"run_id": run_id, "directory": directory}).encode()
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [go]).tobytes())]
        assert self._socket is not None
        async with self._sending:
            try:
                await self._socket.sendmsg([message], passed)
            except OSError as exc:
                raise ZygoteDied(f"the zygote does not listen: {exc.strerror}") from exc

    async def _receive(self, ours: trio.socket.SocketType) -> None:
        while True:
            data, descriptors = await _message(ours)
            if not data:
                return
            self._answer(json.loads(data), descriptors)

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


async def _spawn() -> tuple[trio.socket.SocketType, trio.Process | None]:
    """A zygote that is our child.  Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with theirs:
        # In a session of its own: a Ctrl-C at the terminal is for the daemon, which decides about its runners.
        process = await trio.lowlevel.open_process(
            [sys.executable, "-I", "-m", "polpod.runner.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    return trio.socket.from_stdlib_socket(ours), process


async def _connect(path: str) -> tuple[trio.socket.SocketType, trio.Process | None]:
    """A zygote that systemd starts.  Raises OSError."""
    ours = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        await ours.connect(path)
    except BaseException:
        ours.close()
        raise
    return ours, None


async def _message(ours: trio.socket.SocketType) -> tuple[bytes, list[int]]:
    """The next message with its descriptors; an empty one at the end."""
    try:
        data, passed, _, _ = await ours.recvmsg(MESSAGE_SIZE, ROOM)
    except ConnectionResetError:
        return b"", []
    return data, _descriptors(passed)


def _descriptors(passed: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array.array("i")
    for level, kind, data in passed:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)
