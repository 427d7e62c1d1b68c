"""What is said over a connection, without I/O: calls out, answers in, and which belongs to which.

Rules:

1. Messages in, messages out; whoever has the transport carries them.  So one conversation serves a client that blocks and
   one that is awaited.
2. Calls that change nothing may be made again when contact was lost, and are, for `patience` seconds (`Absence`).
"""

from __future__ import annotations

import json
import os
import time

from polpoctl import exits
from polpoctl.exits import Failure
from polpoctl.transport import URLS, ContactLost
from polpod import paths
from polpod.wire import jsonrpc
from polpod.wire.errors import METHOD_NOT_FOUND, UNAVAILABLE
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PATIENCE = 60.0
"""Seconds to wait for an answer, which is more than any long poll takes."""

RECONNECT = 60.0
"""Seconds to wait for a daemon that went away."""

FOR_EVER = float("inf")


class Conversation:
    """The calls that are under way, and the answers that nobody took yet; `peer` is named in complaints."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._last_id = 0
        self.waiting: set[int] = set()
        self.answers: dict[int, Any] = {}
        """Results; in the place of one, its RemoteError."""
        self._forgotten: set[int] = set()

    def ask(self, method: str, params: dict[str, Any]) -> tuple[int, bytes]:
        """A new call's number, and its message.  Raises Failure for what JSON, or UTF-8, cannot say."""
        self._last_id += 1
        message = jsonrpc.request(method, params, self._last_id)
        try:
            text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return self._last_id, text.encode()
        except (TypeError, ValueError) as exc:  # a lone surrogate is a UnicodeEncodeError, so a ValueError
            raise cannot_be_sent(method, exc) from None

    def hear(self, message: bytes) -> None:
        """Take a message of the other side.  Raises Failure; RemoteError for one that is about no call.

        Notifications are not for who asks by cursor, and are let go.
        """
        try:
            said = json.loads(message)
            if isinstance(said, dict) and "method" in said and "id" not in said:
                return
            asked, outcome = jsonrpc.response(said)
            if asked is None and isinstance(outcome, RemoteError):  # it could not even tell which call it is about
                raise outcome
            if not isinstance(asked, int) or asked not in self.waiting:
                raise jsonrpc.NotAResponse(str(outcome))
        except (jsonrpc.NotAResponse, ValueError) as exc:
            raise self.nonsense(exc) from None
        self.waiting.discard(asked)
        if asked in self._forgotten:
            self._forgotten.discard(asked)
        else:
            self.answers[asked] = outcome

    def forget(self, asked: int) -> None:
        """Nobody waits for the answer to this call any more."""
        if asked in self.waiting:
            self._forgotten.add(asked)
        self.answers.pop(asked, None)

    def nonsense(self, error: Exception) -> Failure:
        """That the other side is no polpod."""
        return Failure(f"{self._peer} does not speak as a polpod does: {error}", exits.UNREACHABLE)


def cannot_be_sent(method: str, error: Exception) -> Failure:
    return Failure(f"{method} cannot be sent: {error}", exits.FAILED)


def identity(path: str) -> dict[str, Any] | None:
    """The params of `run.identify`, if this process is part of a run and the socket is that run's."""
    run_id, token, own = map(os.environ.get, ("POLPO_RUN_ID", "POLPO_TOKEN", "POLPO_SOCKET"))
    if not (run_id and token and own and run_id.isdecimal() and _same(own, path)):
        return None
    return {"run_id": int(run_id), "token": token}


def not_identified(error: RemoteError) -> Failure | None:
    """What it means that a run was not known by its token; None: a daemon of before, which knows runs by their processes."""
    if error.code == METHOD_NOT_FOUND:
        return None
    return Failure(f"{error}\nto speak for yourself: unset POLPO_TOKEN", exits.of_error(error))


class TimeRanOut(TimeoutError):
    """The caller's own time ran out while polpod was away."""

    def __init__(self) -> None:
        super().__init__("time ran out while polpod was away")


class Absence:
    """That contact was lost during a call that may be made again: for how long, and how often, it is tried."""

    def __init__(self, patience: float, until: float = FOR_EVER) -> None:
        """`patience`: seconds from now on; `until` on the monotonic clock: the caller's own bound."""
        self._patient_until = time.monotonic() + patience
        self._until = until

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each attempt to connect, until time is up."""
        pause = 0.05
        while (left := min(self._patient_until, self._until) - time.monotonic()) > 0:
            yield min(pause, left)
            pause = min(pause * 1.5, 1.0)

    def over(self, lost: Exception) -> Exception:
        """What to raise when it is, given what came of the last attempt."""
        if self._until < self._patient_until:
            return TimeRanOut()
        return ContactLost(f"polpod did not come back in time ({str(lost).splitlines()[0]})")


def passing(error: ContactLost | RemoteError) -> bool:
    """Whether the same call may be answered otherwise by a polpod that is back."""
    return not isinstance(error, RemoteError) or error.type == UNAVAILABLE


def remade(params: dict[str, Any], until: float) -> dict[str, Any]:
    """The params of a call that is made again: a long poll that has `timeout` does not begin that anew."""
    if until == FOR_EVER or "timeout" not in params:
        return params
    return params | {"timeout": max(0.0, min(params["timeout"], until - time.monotonic()))}


def working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; the root has no `.polpo` that is nearer
        return "/"


def sockets(socket: str | None, root: str | None) -> list[str]:
    """The sockets to try, in order: DESIGN §10."""
    return paths.client_sockets(socket, root, os.environ, working_directory())


def meant(
    socket: str | None, root: str | None, url: str | None, key_file: str | None
) -> tuple[str, list[str], str | None]:
    """Where the polpod is that is meant, what was looked for, and the file of the key that it takes.  Raises Failure."""
    url = url or (None if socket or root else os.environ.get("POLPO_URL"))
    if url is None:
        tried = sockets(socket, root)
        return first(tried), tried, None
    scheme, colon, place = url.partition(":")
    url = scheme.lower() + colon + place
    if not url.startswith(URLS):
        raise exits.usage(f"{url}: not a URL of a polpod: wss://HOST:PORT")
    return url, [url], key_file or os.environ.get("POLPO_KEY_FILE")


def first(tried: list[str]) -> str:
    """The one of them to connect to: that exists, or the first."""
    return next((path for path in tried if os.path.exists(path)), tried[0])


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
