"""Reload in place: the next generation of this process is executed in it, and goes on with its sockets (DESIGN §7, §12).

Rules:

1. Whether the code, the configuration and the databases that are there now would start is tried first, in a process of
   its own; if not, nothing happens, and whoever asked is told why.
2. The pid, the lock of the state directory and the listening socket stay.  A connection stays too, from between two
   messages on, with what its next reader has to read first: calls that are not answered yet, which only wait and look.
   So no client notices, and a change that was asked for is either answered before or not begun.  One of a WebSocket ends
   then, and its client comes again.
3. Who asks to stop from then on is obeyed by the next generation: signals wait for it.
4. What is not handed over here is closed by the kernel (close-on-exec).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import NamedTuple, NoReturn, Protocol

import trio

from polpod.errors import Conflict
from polpod.lock import Held
from polpod.services.shutdown import SIGNALS
from polpod.services.socket import ListeningSocket

VARIABLE = "POLPOD_HANDOVER"
"""In the environment of the next generation: the descriptor that has the rest."""

DRAIN = 5.0
"""Seconds in which calls that are being answered end; who is slower loses the connection."""

TRIAL = 60.0


class Given(NamedTuple):
    """A connection from the generation before us."""

    socket: socket.socket
    first: bytes
    """What is to be read before anything else."""
    run_id: int | None
    """The run whose rights it has."""


@dataclass(frozen=True, kw_only=True)
class Handover:
    """Descriptors for the next generation."""

    path: str
    """Of the listening socket."""
    inode: int
    """Of what we made at the path: by now it may be something else that is there."""
    listener: int
    systemds: bool
    lock: int
    directory: int
    """The state directory, locked like its lock file (lock.py)."""
    descriptors: tuple[int, int]
    """The limit of them that jobs have (services/instance.py)."""
    connections: list[tuple[int, str]]
    """With what is to be read first, in base 64."""
    runs: list[tuple[int, int]] = field(default_factory=list)
    """Of the connections that said whose token they have: with the run."""

    def execute(self, environment: Mapping[str, str]) -> NoReturn:
        """Become the next generation, with these variables of systemd's beside ours.  Raises OSError."""
        for descriptor in (self.listener, self.lock, self.directory, *(number for number, _ in self.connections)):
            os.set_inheritable(descriptor, True)
        rest = os.memfd_create("polpod-handover", 0)
        os.write(rest, json.dumps(asdict(self)).encode())
        os.execve(sys.executable, command(), {**os.environ, **environment, VARIABLE: str(rest)})

    def listening(self) -> ListeningSocket:
        return ListeningSocket(socket.socket(fileno=self.listener), self.path, self.inode, self.systemds)

    def held(self, path: str) -> Held:
        return Held(path, self.directory, self.lock)

    def clients(self) -> list[Given]:
        runs = dict(self.runs)
        return [Given(socket.socket(fileno=n), b64decode(first), runs.get(n)) for n, first in self.connections]


def take() -> Handover | None:
    """What the generation before us left; None: there was none."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    with open(int(number), "rb") as file:
        file.seek(0)
        said = json.load(file)
    # What a later version says beside this is nothing to us; what it does not say any more has to have a default here.
    handover = Handover(**{known.name: said[known.name] for known in fields(Handover) if known.name in said})
    for descriptor in (handover.listener, handover.lock, handover.directory, *(n for n, _ in handover.connections)):
        os.set_inheritable(descriptor, False)
    return handover


def command() -> list[str]:
    """How this process was started."""
    return [sys.executable, *sys.orig_argv[1:]]


async def attempt() -> None:
    """See whether a new process of what is there now would start.  Raises Conflict, with what it said."""
    with trio.move_on_after(TRIAL):
        try:
            tried = await trio.run_process(
                [*command(), "--check-config", "--check-schema"], capture_stdout=True, capture_stderr=True, check=False
            )
        except OSError as exc:  # of an upgrade that goes on, or a host without a free process
            raise Conflict(f"{sys.executable} cannot be executed, so polpod goes on as it is: {exc.strerror}") from exc
        if tried.returncode == 0:
            return
        said = tried.stderr.decode(errors="replace").strip() or f"exit status {tried.returncode}"
        raise Conflict(f"what is there now would not start, so polpod goes on as it is: {said}")
    raise Conflict(f"nobody knows within {TRIAL:g} s whether what is there now would start: polpod goes on as it is")


class Connection(Protocol):
    def hand_over(self) -> None: ...


class Reload:
    """What server and connections know of a reload; `given`: the clients of the generation before us."""

    def __init__(self, given: list[Given]) -> None:
        self.given = given
        self.asked = trio.Event()
        self.drained = trio.Event()
        self._left = trio.Event()
        """Set when nobody is answered any more."""
        self._accepting = trio.CancelScope()
        self._connections: set[Connection] = set()
        self._handed: list[tuple[int, str]] = []
        self._runs: list[tuple[int, int]] = []

    def ask(self) -> None:
        """From here on no call is begun."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.asked.set()
        self._accepting.cancel()
        for connection in self._connections:
            connection.hand_over()
        self._look()

    def accepting(self) -> trio.CancelScope:
        """What accepts clients does so within this scope."""
        self._accepting = trio.CancelScope()
        if self.asked.is_set():
            self._accepting.cancel()
        return self._accepting

    @contextmanager
    def knowing(self, connection: Connection) -> Iterator[None]:
        """The connection is told to hand over."""
        self._connections.add(connection)
        try:
            if self.asked.is_set():
                connection.hand_over()
            yield
        finally:
            self._connections.discard(connection)
            self._look()

    def _look(self) -> None:
        if self.asked.is_set() and not self._connections:
            self._left.set()

    def keep(self, client: trio.socket.SocketType, first: bytes, run_id: int | None) -> None:
        """Hand over a connection, what has to be read before what it says next, and the run whose rights it has."""
        descriptor = client.detach()
        self._handed.append((descriptor, b64encode(first).decode()))
        if run_id is not None:
            self._runs.append((descriptor, run_id))

    async def handover(self, listener: ListeningSocket, held: Held, descriptors: tuple[int, int]) -> Handover:
        """Wait until all connections are handed over."""
        with trio.move_on_after(DRAIN):
            await self.drained.wait()
            await self._left.wait()
        return Handover(
            path=listener.path,
            inode=listener.inode,
            listener=listener.socket.detach(),
            systemds=listener.systemds,
            lock=held.lock,
            directory=held.directory,
            descriptors=descriptors,
            connections=self._handed,
            runs=self._runs,
        )
