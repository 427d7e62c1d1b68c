"""The way to a polpod: messages there and back, and how it is said that nobody is at its other end.

Rules:

1. A transport carries whole messages and knows nothing of what they say.  Another way, a WebSocket say, is another class
   with the methods of `UnixTransport`, which `opened` takes for places of its form.
2. Every wait is bounded by the transport's patience.
3. `_socket` is what `socket` wraps: the wrapper costs a start 5 ms for `enum` and `selectors`.
"""

from __future__ import annotations

import _socket
import os
import time

from polpoctl import exits
from polpoctl.exits import Failure
from polpod import paths
from polpod.wire import frames

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from typing import Protocol

    class Transport(Protocol):
        """What a connection needs of its way."""

        def send(self, message: bytes, *, crossing: bool) -> None:
            """Send a message.  `crossing`: messages may be under way from the other side, which waits until they are read.

            Raises OSError; EOFError; FrameTooLong, and then nothing was sent.
            """

        def receive(self) -> bytes:
            """The next message.  Raises OSError (TimeoutError when none came in time); EOFError; FrameTooLong."""

        def ended(self) -> bool:
            """Whether the other side is known to have gone, so that nothing that is sent can reach it."""

        def hang_up(self) -> None:
            """From another thread: whoever waits for a message is told that it ended."""

        def close(self) -> None: ...


_CHUNK = 2**18

_FULL = 0.05
"""Seconds between attempts, where too many wait to be accepted already."""


class ContactLost(Failure):
    """polpod went away, or fell silent, before it answered."""

    def __init__(self, why: str) -> None:
        super().__init__(f"contact lost: {why}", exits.UNREACHABLE)


class TurnedAway(Failure):
    """Polpod is there and lets nobody in with this key: to come again is of no use."""


class Unreachable(Failure):
    """No polpod answers at `path`."""

    def __init__(self, path: str, why: str, tried: list[str]) -> None:
        lines = [f"no polpod answers at {path}: {why}"]
        if len(tried) > 1:
            lines.append(f"tried: {', '.join(tried)}")
        if not path.startswith(URLS):  # what is afar is started there
            lines.append(f"to start one: {_start_command(path, tried)}")
        super().__init__("\n".join(lines), exits.UNREACHABLE)


URLS = ("ws://", "wss://", "http://", "https://")


class UnixTransport:
    """Messages over a Unix socket, a line each."""

    def __init__(self, path: str, tried: list[str], patience: float) -> None:
        """Connect; `patience` in seconds.  Raises Failure."""
        refuse_long(path)
        self._patience = patience
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._socket.settimeout(patience)
        try:
            self._connect(path)
        except OSError as exc:
            self._socket.close()
            raise unreachable(path, exc, tried, patience) from None
        self._decoder = frames.Decoder()
        self._arrived: list[bytes] = []

    def send(self, message: bytes, *, crossing: bool) -> None:
        view = memoryview(frames.encode(message))
        while view:
            if crossing:
                self._make_room()
            view = view[self._socket.send(view, _socket.MSG_NOSIGNAL) :]

    def receive(self) -> bytes:
        while not self._arrived:
            self._read()
        return self._arrived.pop(0)

    def ended(self) -> bool:
        return ended(self._socket.fileno())

    def hang_up(self) -> None:
        hang_up(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _connect(self, path: str) -> None:
        # One that blocks would wait for as long as polpod is stopped, and a timeout is for other families.
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._socket.connect(path)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TimeoutError from None
                time.sleep(_FULL)

    def _make_room(self) -> None:
        """Read until something can be sent: else both sides may wait for the other to read."""
        import select  # only for calls under way together

        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN | select.POLLOUT)
        while True:
            happened = poll.poll(self._patience * 1000)
            if not happened:
                raise TimeoutError
            if happened[0][1] & ~select.POLLOUT:
                self._read()
            if happened[0][1] & select.POLLOUT:
                return

    def _read(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise EOFError
        self._arrived += self._decoder.feed(data)


def ended(fileno: int) -> bool:
    """Whether one of the ends of this socket is known to be closed."""
    import select  # only where a connection is used again

    if fileno == -1:
        return True
    poll = select.poll()
    poll.register(fileno, select.POLLRDHUP)
    return bool(poll.poll(0))


def hang_up(socket: _socket.socket) -> None:
    """Wake whoever waits for it."""
    try:
        socket.shutdown(_socket.SHUT_RDWR)
    except OSError:  # it is closed already
        pass


def refuse_long(path: str) -> None:
    """Raises Failure for a path that no Unix socket can have."""
    if len(os.fsencode(path)) > paths.SUN_PATH_MAX:
        raise exits.usage(f"{path}: longer than the {paths.SUN_PATH_MAX} bytes of a Unix socket's path; use --socket")


def unreachable(path: str, error: OSError, tried: list[str], patience: float = 0.0) -> Failure:
    """What it means that the socket could not be connected to."""
    if isinstance(error, PermissionError):
        return Failure(f"you may not use the polpod at {path}{_who_may(path)}", exits.NOT_ALLOWED)
    return Unreachable(path, said(error, patience), tried)


def said(error: OSError | EOFError, patience: float = 0.0) -> str:
    """What ended the contact, in words."""
    if isinstance(error, EOFError):
        return "polpod closed the connection"
    if isinstance(error, TimeoutError):
        return f"no answer for {patience:g} s"
    return (error.strerror or str(error)).lower()


def _who_may(path: str) -> str:
    """Whom the socket is for, if that is a group and can be seen."""
    import grp  # only for this message

    try:
        status = os.stat(path)
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f": it is for members of group {group}, from their next login on" if status.st_mode & 0o020 else ""


def _start_command(path: str, tried: list[str]) -> str:
    """What starts a polpod at that socket, ready to be pasted."""
    from shlex import join  # only for this message

    if path == os.path.join("/run/polpo", paths.SOCKET_NAME) and os.path.exists(path):
        return "systemctl start polpod"
    if len(tried) > 1:
        return "polpoctl start"
    root, socket = os.path.split(os.path.dirname(path))
    if (socket, os.path.basename(path)) == (paths.STATE, paths.SOCKET_NAME):
        return join(["polpoctl", "start", "--root", root])
    return join(["polpoctl", "start", "--socket", path])
