"""Listens for browsers and programs from afar, and answers: one request a connection, or a WebSocket.

Rules:

1. Off unless polpo.json says where to listen.  Where that cannot be listened on, polpod works without, says so, and tries
   again: nobody's work waits for a page.
2. Nothing is read but GET and HEAD without a body; a head has its limits, and each step has its time.
3. All that changes anything is JSON-RPC (`/rpc`), by the same table as on the socket.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus

import h11
import orjson
import trio
from trio_websocket import ConnectionClosed, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from polpod.errors import StartError, StoreError, Unavailable
from polpod.model.web import Web
from polpod.services import condition
from polpod.services.desk import Desk
from polpod.services.exposition import exposition
from polpod.services.rpc.method import Call
from polpod.services.rpc.peers import of_key
from polpod.services.rpc.server import Shared, converse, most_connections
from polpod.services.socket import listen
from polpod.services.web import websocket
from polpod.services.web.access import PROTOCOL, Door, Refusal, own_hosts, protocols
from polpod.services.web.static import SAFE, Answer, page
from polpod.wire.frames import LIMIT

MOST = 512
"""Connections, each of which costs up to three descriptors."""

LONGEST_HEAD = 16384
HEAD_WITHIN, SENT_WITHIN = 10.0, 60.0
AGAIN_AFTER = 5.0
READ_SIZE = 65536

log = logging.getLogger(__name__)


async def serve(web: Web, desk: Desk) -> None:
    """Listen and answer until cancelled (rule 1)."""
    said = ""
    while True:
        try:
            tls = _tls(web, desk.instance.paths.root)
            listeners, port = await _listen(web)
        except (OSError, StartError, ValueError) as exc:  # the last: a host, or a path, that can be none
            if said != str(exc):
                said = str(exc)
                log.error("nobody listens on %s: %s", web.listen, said)
            await trio.sleep(AGAIN_AFTER)
        else:
            break
    door = Door(desk.keys, own_hosts(web, port))
    room, shared = trio.Semaphore(max(8, min(MOST, most_connections() // 4))), Shared()
    log.info("the web endpoint listens on %s", web.listen if port is None else f"port {port} of {web.address[0]}")

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await _Visit(desk, door, shared, web).receive(stream if tls is None else _encrypted(stream, tls))
        finally:
            room.release()

    await trio.serve_listeners(handle, [_WhereRoom(listener, room) for listener in listeners])


class _WhereRoom(trio.abc.Listener[trio.SocketStream]):
    """Accepts those for whom there is room, and takes it; the others wait outside, where they cost no descriptor."""

    def __init__(self, listener: trio.SocketListener, room: trio.Semaphore) -> None:
        self._listener, self._room = listener, room

    async def accept(self) -> trio.SocketStream:
        await self._room.acquire()
        try:
            return await self._listener.accept()
        except BaseException:
            self._room.release()
            raise

    async def aclose(self) -> None:
        await self._listener.aclose()


async def _listen(web: Web) -> tuple[list[trio.SocketListener], int | None]:
    """The listeners, and the port where there is one.  Raises OSError, StartError."""
    if isinstance(web.address, str):
        listening = listen(web.address)
        os.chmod(web.address, 0o660)  # a proxy of our group may use it
        return [trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket))], None
    host, port = web.address
    listeners = await trio.open_tcp_listeners(port, host=host)
    return listeners, listeners[0].socket.getsockname()[1]


def _tls(web: Web, root: str) -> ssl.SSLContext | None:
    """Raises StartError, which names the files; ValueError."""
    if web.certificate is None or web.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate, key = os.path.join(root, web.certificate), os.path.join(root, web.key)
    try:
        # Without a password OpenSSL would ask for that of a locked key at the terminal, and hold up everything meanwhile.
        context.load_cert_chain(certificate, key, password="")
    except OSError as exc:  # ssl.SSLError is one
        raise StartError(f"{certificate} with {key}: {exc.strerror}") from exc
    return context


def _encrypted(stream: trio.SocketStream, tls: ssl.SSLContext) -> trio.abc.Stream:
    return trio.SSLStream(stream, tls, server_side=True, https_compatible=True)


class _Visit:
    """One connection."""

    def __init__(self, desk: Desk, door: Door, shared: Shared, web: Web) -> None:
        self._desk, self._door, self._shared, self._web = desk, door, shared, web
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._read = b""
        self._address = "a proxy"
        self._no_body = False

    async def receive(self, stream: trio.abc.Stream) -> None:
        inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        try:
            if isinstance(inner, trio.SocketStream) and isinstance(peer := inner.socket.getpeername(), tuple):
                self._address = str(peer[0])
            async with stream:
                request = None
                with trio.move_on_after(HEAD_WITHIN):
                    request = await self._head(stream)
                if request is not None:
                    await self._respond(stream, request)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ConnectionClosed):
            pass  # the other side went away, or does not go on
        except* LocalProtocolError:
            pass  # it goes on with a WebSocket that we are closing
        except* Exception:
            log.exception("a web connection was ended by a defect")

    async def _head(self, stream: trio.abc.Stream) -> h11.Request | None:
        """The request; None: there is none, or it was refused already."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                await self._send(stream, _refused(Refusal(HTTPStatus(exc.error_status_hint), str(exc))))
                return None
            if isinstance(event, h11.Request):
                self._no_body = event.method == b"HEAD"
                return event
            if event is not h11.NEED_DATA:
                return None
            data = await stream.receive_some(READ_SIZE)
            self._read += data
            self._http.receive_data(bytes(data))

    async def _respond(self, stream: trio.abc.Stream, request: h11.Request) -> None:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in request.headers}
        path = request.target.decode("ascii").partition("?")[0]
        try:
            self._door.require_own(headers)
            if not path.startswith("/"):
                raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "this is no proxy")
            if request.method not in (b"GET", b"HEAD"):
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are all there is", {"Allow": "GET, HEAD"})
            if path == "/rpc":
                await self._upgrade(stream, headers)
                return
            answer = await self._PATHS[path](self, headers) if path in self._PATHS else page(path)
        except Refusal as refusal:
            answer = _refused(refusal)
        except (Unavailable, StoreError) as exc:
            answer = _refused(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(exc)))
        await self._send(stream, answer)

    async def _upgrade(self, stream: trio.abc.Stream, headers: Mapping[str, str]) -> None:
        """Raises Refusal."""
        if headers.get("upgrade", "").lower() != "websocket" or "sec-websocket-key" not in headers:
            raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "a WebSocket is spoken here", {"Upgrade": "websocket"})
        access = await self._door.require_key(headers, self._address)
        async with trio.open_nursery() as nursery:
            keeps = partial(self._shared.kept.set, nursery.cancel_scope)
            arriving = _Arriving(self._read, stream, keeps)
            reading: trio.Nursery = await nursery.start(_sheltered)
            try:
                with trio.fail_after(HEAD_WITHIN):
                    # No message waits beside the one that is carried on, so that `arriving` knows what is kept.
                    handshake = await wrap_server_stream(
                        reading, arriving, 0, max_message_size=LIMIT, receive_buffer_size=READ_SIZE
                    )
                    chosen = PROTOCOL if PROTOCOL in protocols(headers) else None
                    opened = await handshake.accept(subprotocol=chosen)
                call = Call(self._desk, of_key(access))
                calls = partial(_calls, call, self._shared)
                await websocket.join(opened, calls, partial(self._desk.keys.until_over, access), arriving.carried)
                nursery.cancel_scope.cancel()
            finally:
                keeps(0)
                reading.cancel_scope.cancel()

    async def _health(self, headers: Mapping[str, str]) -> Answer:
        found = await condition.health(self._desk.instance)
        return _json(found, HTTPStatus.OK if found["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _metrics(self, headers: Mapping[str, str]) -> Answer:
        if not self._web.open_metrics:
            await self._door.require_key(headers, self._address)
        kind, text = await exposition(self._desk.instance)
        return Answer(text, kind)

    async def _session(self, headers: Mapping[str, str]) -> Answer:
        access = await self._door.require_key(headers, self._address)
        return _json({"user": access.user, "role": access.role})

    _PATHS: Mapping[str, Callable[[_Visit, Mapping[str, str]], Awaitable[Answer]]] = {
        "/health": _health,
        "/metrics": _metrics,
        "/session": _session,
    }

    async def _send(self, stream: trio.abc.Stream, answer: Answer) -> None:
        headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), "Connection": "close"}
        if isinstance(stream, trio.SSLStream):
            headers["Strict-Transport-Security"] = "max-age=31536000"
        whole = {"Cache-Control": "no-store"} | headers | SAFE | answer.headers
        events = (
            h11.Response(status_code=answer.status, headers=list(whole.items())),
            h11.Data(data=b"" if self._no_body else answer.body),
            h11.EndOfMessage(),
        )
        with trio.move_on_after(SENT_WITHIN):  # as one: of what is cancelled between the two, nobody has a head alone
            await stream.send_all(b"".join(self._http.send(event) or b"" for event in events))


async def _sheltered(task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED) -> None:
    """A nursery that goes on when all around it is cancelled, until it is itself: who closes waits for an answer there."""
    await trio.lowlevel.checkpoint_if_cancelled()  # where it is already, nobody would come to cancel this one
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await trio.sleep_forever()


async def _calls(call: Call, shared: Shared, line: trio.socket.SocketType) -> None:
    with line:
        await converse(line, call, shared, call.desk.reload.knowing)


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(orjson.dumps(value) + b"\n", "application/json", status)


def _refused(refusal: Refusal) -> Answer:
    return Answer(f"{refusal}\n".encode(), status=refusal.status, headers=refusal.headers)


class _Arriving(trio.abc.Stream):
    """A stream of which the beginning was read already; `keeps` is told of the bytes of messages that are kept of it."""

    def __init__(self, read: bytes, stream: trio.abc.Stream, keeps: Callable[[int], None]) -> None:
        self._before, self._stream, self._keeps = read, stream, keeps
        self._begun = self._whole = 0

    def carried(self, size: int) -> None:
        """A message of this size is whole, and carried on now; 0: it was, and is kept no more."""
        if size:
            self._begun = 0
        self._whole = size
        self._keeps(self._begun + size)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._before:
            before, self._before = self._before, b""
            return before
        data = await self._stream.receive_some(max_bytes)
        self._begun += len(data)
        self._keeps(self._begun + self._whole)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
