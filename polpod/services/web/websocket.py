"""JSON-RPC over WebSocket: each message is a line of a connection such as the socket has (services/rpc/connection.py).

Rule: the two are joined by a pair of sockets, so that everything that bounds what a client of the socket may cost (bytes
kept, calls, answers that nobody reads) bounds these, too, and there is but one way in.  Only a message that is not whole
yet is kept before that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from polpod.wire.frames import Decoder

ALIVE_EVERY = 20.0
"""Seconds between pings, so that proxies keep what is quiet, and peers that are gone are found."""

ALIVE_WITHIN = 40.0

CLOSE_WITHIN = 1.0

READ_SIZE = 65536

GOING_AWAY, REVOKED = 1012, 4403
"""Why we close: polpod stops or reloads, and the client may come again; its key is worth nothing any more."""

Serve = Callable[[trio.socket.SocketType], Awaitable[None]]
Carry = Callable[[WebSocketConnection, trio.socket.SocketType], Awaitable[None]]


async def join(
    websocket: WebSocketConnection,
    serve: Serve,
    until_over: Callable[[], Awaitable[None]],
    carried: Callable[[int], None],
) -> None:
    """Carry messages both ways until either side ends, or `until_over` returns; `serve` answers on its end of the pair.

    `carried` is told how many bytes the message has that is being carried to it.
    """
    ours, theirs = trio.socket.socketpair()
    code = GOING_AWAY

    async def revoke(scope: trio.CancelScope) -> None:
        nonlocal code
        await until_over()
        code = REVOKED
        scope.cancel()

    try:
        with ours:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, theirs)  # which closes it
                carriers: tuple[Carry, ...] = (partial(_inward, carried=carried), _outward, _keep_alive)
                for carry in carriers:
                    nursery.start_soon(_until_closed, carry, websocket, ours, nursery.cancel_scope)
                nursery.start_soon(revoke, nursery.cancel_scope)
    finally:
        with trio.move_on_after(CLOSE_WITHIN, shield=True):
            await websocket.aclose(code)


async def _until_closed(
    carry: Carry, websocket: WebSocketConnection, line: trio.socket.SocketType, scope: trio.CancelScope
) -> None:
    try:
        await carry(websocket, line)
    except (ConnectionClosed, OSError, trio.TooSlowError):
        pass
    scope.cancel()


async def _inward(websocket: WebSocketConnection, line: trio.socket.SocketType, carried: Callable[[int], None]) -> None:
    while True:
        message = await websocket.get_message()
        data = message.encode() if isinstance(message, str) else message
        rest = memoryview(data.replace(b"\n", b" ") + b"\n")  # in JSON it is but space
        carried(len(rest))
        while rest:
            rest = rest[await line.send(rest) :]
        carried(0)


async def _outward(websocket: WebSocketConnection, line: trio.socket.SocketType) -> None:
    decoder = Decoder()
    while data := await line.recv(READ_SIZE):
        for frame in decoder.feed(data):
            await websocket.send_message(frame.decode())


async def _keep_alive(websocket: WebSocketConnection, line: trio.socket.SocketType) -> None:
    while True:
        await trio.sleep(ALIVE_EVERY)
        with trio.fail_after(ALIVE_WITHIN):
            await websocket.ping()
