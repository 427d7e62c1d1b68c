"""The socket: finding it, calling, many calls at once, and calls that outlast a restart of polpod.

Rules:

1. An answer lost is not an answer: contact that ends before it came is ContactLost, and only calls that change nothing
   are made again by themselves (`Lasting`).
2. Every wait is bounded: PATIENCE for an answer, which is more than any long poll takes, and RECONNECT for a daemon.
3. `_socket` is what `socket` wraps: the wrapper costs a start 5 ms for `enum` and `selectors`.
"""

from __future__ import annotations

import _socket
import json
import os
import time

from polpoctl import exits
from polpoctl.exits import Failure
from polpoctl.render import notice
from polpod import paths
from polpod.wire import frames, jsonrpc
from polpod.wire.errors import METHOD_NOT_FOUND, UNAVAILABLE
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

PATIENCE = 60.0
"""Seconds to wait for an answer."""

RECONNECT = 60.0
"""Seconds to wait for a daemon that went away."""

FOR_EVER = float("inf")

AT_ONCE = 16
"""Calls of `call_many` that are under way together."""

_CHUNK = 2**18


class ContactLost(Failure):
    """polpod went away, or fell silent, before it answered."""

    def __init__(self, why: str) -> None:
        super().__init__(f"contact lost: {why}", exits.UNREACHABLE)


class Unreachable(Failure):
    """No polpod answers at `path`."""

    def __init__(self, path: str, why: str, tried: list[str]) -> None:
        lines = [f"no polpod answers at {path}: {why}"]
        if len(tried) > 1:
            lines.append(f"tried: {', '.join(tried)}")
        super().__init__("\n".join([*lines, f"to start one: {_start_command(path, tried)}"]), exits.UNREACHABLE)


def sockets(args: Namespace) -> list[str]:
    """The sockets to try, in order: DESIGN §10."""
    return paths.client_sockets(args.socket, args.root, os.environ, _working_directory())


def connect(args: Namespace, patience: float = PATIENCE) -> Connection:
    """A connection to the first socket that exists; `patience`: seconds to wait for an answer.  Raises Failure."""
    tried = sockets(args)
    return Connection(next((path for path in tried if os.path.exists(path)), tried[0]), tried, patience)


class Connection:
    """A connection to a polpod: calls, one after another or many under way."""

    def __init__(self, path: str, tried: list[str] | None = None, patience: float = PATIENCE) -> None:
        """Connect.  Raises Failure (Unreachable; not allowed; a path that is too long)."""
        self.path = path
        self.tried = tried or [path]
        if len(os.fsencode(path)) > paths.SUN_PATH_MAX:
            raise exits.usage(
                f"{path}: longer than the {paths.SUN_PATH_MAX} bytes of a Unix socket's path; use --socket"
            )
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except PermissionError:
            self._socket.close()
            raise Failure(f"you may not use the polpod at {path}{_who_may(path)}", exits.NOT_ALLOWED) from None
        except OSError as exc:
            self._socket.close()
            raise Unreachable(path, _said(exc), self.tried) from None
        self._socket.settimeout(patience)
        self._decoder = frames.Decoder()
        self._last_id = 0
        self._waiting: set[int] = set()
        self._answers: dict[int, Any] = {}
        self._identify()

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result of one call.  Raises RemoteError, ContactLost."""
        answer = self.answer(self.ask(method, params or {}))
        if isinstance(answer, RemoteError):
            raise answer
        return answer

    def call_many(self, calls: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Any]:
        """The result of each call, or its RemoteError, in order; some are under way while others are made."""
        under_way: list[int] = []
        for method, params in calls:
            if len(under_way) == AT_ONCE:
                yield self.answer(under_way.pop(0))
            under_way.append(self.ask(method, params))
        for asked in under_way:
            yield self.answer(asked)

    def ask(self, method: str, params: dict[str, Any]) -> int:
        """Send a call without waiting; `answer` takes the number that this returns.  Raises Failure."""
        self._last_id += 1
        message = jsonrpc.request(method, params, self._last_id)
        try:
            text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            frame = frames.encode(text.encode())
        except (frames.FrameTooLong, ValueError) as exc:  # a lone surrogate is a UnicodeEncodeError, so a ValueError
            raise Failure(f"{method} cannot be sent: {exc}", exits.FAILED) from None
        self._send(frame)
        self._waiting.add(self._last_id)
        return self._last_id

    def answer(self, asked: int) -> Any:
        """The result of that call, or its RemoteError (returned, not raised).  Raises ContactLost."""
        while asked not in self._answers:
            self._receive()
        return self._answers.pop(asked)

    def _identify(self) -> None:
        """Speak for the run that this process is of, where the socket is that run's.  Raises Failure."""
        run_id, token, own = map(os.environ.get, ("POLPO_RUN_ID", "POLPO_TOKEN", "POLPO_SOCKET"))
        if not (run_id and token and own and run_id.isdecimal() and _same(own, self.path)):
            return
        try:
            self.call("run.identify", {"run_id": int(run_id), "token": token})
        except RemoteError as error:
            if error.code != METHOD_NOT_FOUND:  # a daemon of before knows runs by their processes alone
                why = f"{error}\nto speak for yourself: unset POLPO_TOKEN"
                raise Failure(why, exits.of_error(error)) from None

    def _send(self, frame: bytes) -> None:
        view = memoryview(frame)
        try:
            while view:
                if self._waiting:
                    self._make_room()
                view = view[self._socket.send(view, _socket.MSG_NOSIGNAL) :]
        except OSError as exc:
            raise ContactLost(_said(exc)) from None

    def _make_room(self) -> None:
        """Read answers until something can be sent: else both sides may wait for the other to read."""
        import select  # only for calls under way together

        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN | select.POLLOUT)
        while True:
            happened = poll.poll(PATIENCE * 1000)
            if not happened:
                raise TimeoutError
            if happened[0][1] & ~select.POLLOUT:
                self._receive()
            if happened[0][1] & select.POLLOUT:
                return

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as exc:
            raise ContactLost(_said(exc)) from None
        if not data:
            raise ContactLost("polpod closed the connection")
        try:
            for frame in self._decoder.feed(data):
                asked, outcome = jsonrpc.response(json.loads(frame))
                if asked is None and isinstance(outcome, RemoteError):  # it could not even tell which call it is about
                    raise outcome
                if not isinstance(asked, int) or asked not in self._waiting:
                    raise jsonrpc.NotAResponse(str(outcome))
                self._waiting.discard(asked)
                self._answers[asked] = outcome
        except (frames.FrameTooLong, jsonrpc.NotAResponse, ValueError) as exc:
            raise Failure(f"{self.path} does not speak as a polpod does: {exc}", exits.UNREACHABLE) from None


class TimeRanOut(Exception):
    """The caller's own time ran out while polpod was away."""


class Lasting:
    """Calls that change nothing, made again when contact was lost, for `patience` seconds from the loss on."""

    def __init__(self, connection: Connection, patience: float = RECONNECT) -> None:
        self._connection = connection
        self._patience = patience
        self.say: Callable[[str], None] = notice
        """Tells the user that polpod is away."""

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, params: dict[str, Any], until: float = FOR_EVER) -> Any:
        """The result of the call, which is not made again after `until` on the monotonic clock.

        Raises RemoteError; ContactLost when polpod does not come back; TimeRanOut when it is not back by `until`.
        """
        patient_until = 0.0
        while True:
            try:
                result = self._connection.call(method, params)
            except (ContactLost, RemoteError) as exc:
                if isinstance(exc, RemoteError) and exc.word != UNAVAILABLE:
                    raise
                if not patient_until:
                    patient_until = time.monotonic() + self._patience
                    self.say(f"contact lost, waiting for polpod at {self._connection.path} …")
                self._connection.close()
                self._connection = _reconnect(self._connection.path, patient_until, until, exc)
            else:
                if patient_until:
                    self.say("contact again")
                return result


def _reconnect(path: str, patient_until: float, until: float, lost: Exception) -> Connection:
    pause = 0.05
    while (left := min(patient_until, until) - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 1.0)
        try:
            return Connection(path)
        except Failure as exc:
            lost = exc
    if until < patient_until:
        raise TimeRanOut
    raise ContactLost(f"polpod did not come back in time ({str(lost).splitlines()[0]})")


def _said(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer for {PATIENCE:g} s"
    return (exc.strerror or str(exc)).lower()


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _who_may(path: str) -> str:
    """Whom the socket is for, if that is a group and can be seen."""
    import grp  # only for this message

    try:
        status = os.stat(path)
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f": it is for members of group {group}, from their next login on" if status.st_mode & 0o020 else ""


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; the root has no `.polpo` that is nearer
        return "/"


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
