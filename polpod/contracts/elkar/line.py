"""A line: the way from one event loop to a polpod, over one connection.

Rules:

1. One call at a time.  Where contact is lost in the middle of it, or polpod says that it is about to stop, the line waits
   until polpod is there again, at most RECONNECT seconds, and makes the call again.  A polpod that was never reached is an
   error at once.
2. A call that changes something says which one of which client it is (`once`), so that polpod carries it out once,
   however often it is made.  Each line is a client of its own, since calls of two lines have no order.
3. An answer that nobody waited for must not be taken for the next one: whatever ends a call early ends its connection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import anyio
from anyio.abc import SocketStream

from polpod import paths
from polpod.contracts.elkar.refusals import Unreachable, refused
from polpod.wire import frames, jsonrpc
from polpod.wire.errors import TOO_LARGE, UNAVAILABLE
from polpod.wire.jsonrpc import RemoteError

PATIENCE = 60.0
"""Seconds to wait for an answer."""

RECONNECT = 60.0
"""Seconds to wait for a polpod that went away."""

_LOST = (OSError, anyio.BrokenResourceError, anyio.EndOfStream)


class Line:
    """`sockets`: where polpod may be, in the order in which to look; `reconnect`: seconds.  In one event loop."""

    def __init__(self, sockets: Sequence[str], reconnect: float = RECONNECT) -> None:
        self._sockets = sockets
        self._reconnect = reconnect
        self._client = uuid4().hex
        self._changes = 0
        self._lock = anyio.Lock()
        self._stream: SocketStream | None = None
        self._decoder = frames.Decoder()
        self._reached = False

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a call that changes nothing.  Raises Refused, Unreachable."""
        async with self._lock:
            return await self._insist(method, params)

    async def change(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a call that changes something, once.  Raises Refused, Unreachable."""
        async with self._lock:
            self._changes += 1
            return await self._insist(method, params | {"once": {"client": self._client, "number": self._changes}})

    async def aclose(self) -> None:
        async with self._lock:
            await self._hang_up()

    async def _insist(self, method: str, params: dict[str, Any]) -> Any:
        try:
            request = json.dumps(jsonrpc.request(method, params, 1), ensure_ascii=False, allow_nan=False)
            frame = frames.encode(request.encode())
        except frames.FrameTooLong as exc:
            raise refused(str(exc), TOO_LARGE) from exc
        until: float | None = None
        pause = 0.02
        while True:
            try:
                return await self._exchange(frame)
            except RemoteError as exc:
                if exc.type != UNAVAILABLE:
                    raise refused(str(exc), exc.type) from exc
                lost: Exception = exc
            except Unreachable:
                raise
            except _LOST as exc:
                if not self._reached:
                    raise Unreachable(f"no polpod answers at {' or '.join(self._sockets)}: {exc}") from exc
                lost = exc
            until = until or anyio.current_time() + self._reconnect
            if anyio.current_time() + pause > until:
                raise Unreachable(f"polpod did not come back in {self._reconnect:g} s: {lost!r}") from lost
            await anyio.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    async def _exchange(self, frame: bytes) -> Any:
        answered = False
        try:
            with anyio.fail_after(PATIENCE):
                stream = self._stream or await self._connect()
                await stream.send(frame)
                answer = await self._receive(stream)
            answered = True
        finally:
            if not answered:
                await self._hang_up()
        if isinstance(answer, RemoteError):
            raise answer
        return answer

    async def _connect(self) -> SocketStream:
        path = next(filter(os.path.exists, self._sockets), self._sockets[0])
        if len(os.fsencode(path)) > paths.SUN_PATH_MAX:
            raise Unreachable(f"{path}: longer than the {paths.SUN_PATH_MAX} bytes of a Unix socket's path")
        self._stream = await anyio.connect_unix(path)
        self._decoder = frames.Decoder()
        self._reached = True
        return self._stream

    async def _receive(self, stream: SocketStream) -> Any:
        """The result, or a RemoteError (returned, not raised)."""
        while True:
            data = await stream.receive()
            try:
                for frame in self._decoder.feed(data):
                    return jsonrpc.response(json.loads(frame))[1]
            except (frames.FrameTooLong, jsonrpc.NotAResponse, ValueError) as exc:
                raise Unreachable(f"what answers at the socket is no polpod: {exc}") from exc

    async def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await anyio.aclose_forcefully(stream)
