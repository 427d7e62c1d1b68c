"""The way to a polpod from afar: a message is a text message of a WebSocket (docs/web.md), by wsproto.

Rule: loaded only where a URL names the polpod, for what it imports costs more than an everyday command.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
import time
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import ProtocolError

from polpoctl import exits
from polpoctl.exits import Failure
from polpoctl.transport import TurnedAway, Unreachable
from polpod.wire import frames

_CHUNK = 2**16

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_REFUSED = {
    401: "the key is not accepted",
    403: "it is not for such a client",
    421: "it is not known by that name: settings.web.hosts says by which it is",
    429: "too many wrong keys: wait a minute",
}


class WebSocket:
    """One, without I/O: bytes that came in give messages, and bytes to send back."""

    def __init__(self, url: str, key_file: str | None) -> None:
        """Raises Failure: that is no URL, or there is no key."""
        self._url, self._key = url, _key(key_file)
        try:
            parts = urlsplit(url)
            host, self.port = parts.hostname, parts.port or _PORTS[parts.scheme]
            if not host or not _visible(parts.path or "/"):
                raise ValueError
            host.encode("idna")
        except ValueError:  # an UnicodeError is one
            raise exits.usage(f"{url}: not a URL of a polpod: wss://HOST:PORT") from None
        self.host = host
        self.encrypted = parts.scheme in ("wss", "https")
        self._authority = parts.netloc.rpartition("@")[2]
        self._path = parts.path if parts.path.strip("/") else "/rpc"
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._parts: list[str] = []
        self._replies = b""
        self.opened = self.over = False

    def greeting(self) -> bytes:
        """What to send first."""
        authorization = (b"authorization", b"Bearer " + self._key.encode())
        return self._ws.send(Request(host=self._authority, target=self._path, extra_headers=[authorization]))

    def encode(self, message: bytes) -> bytes:
        """Raises FrameTooLong."""
        if len(message) > frames.LIMIT:
            raise frames.FrameTooLong(frames.LIMIT)
        return self._ws.send(TextMessage(data=message.decode()))

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that have come in whole.  Raises Failure: the other side is no polpod, or lets nobody in."""
        messages: list[bytes] = []
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                match event:
                    case TextMessage():
                        self._parts.append(event.data)
                        if event.message_finished:
                            messages.append("".join(self._parts).encode())
                            self._parts.clear()
                    case Ping():
                        self._replies += self._ws.send(event.response())
                    case CloseConnection():
                        self.over = True
                    case AcceptConnection():
                        self.opened = True
                    case RejectConnection():
                        raise self._refused(event.status_code)
        except ProtocolError as exc:
            raise Unreachable(self._url, f"no polpod: {exc}", [self._url]) from None
        return messages

    def replies(self) -> bytes:
        """What is to be sent for what came in, once."""
        replies, self._replies = self._replies, b""
        return replies

    def unreachable(self, error: OSError | EOFError) -> Unreachable:
        why = error.strerror or str(error) if isinstance(error, OSError) else "no polpod"
        return Unreachable(self._url, why.lower(), [self._url])

    def _refused(self, status: int) -> Failure:
        if status in _REFUSED:
            return TurnedAway(f"{self._url}: {_REFUSED[status]}", exits.NOT_ALLOWED)
        return Failure(f"{self._url}: no polpod: HTTP status {status}", exits.UNREACHABLE)


class WebSocketTransport:
    """Messages over a WebSocket, with the key in a file."""

    def __init__(self, url: str, key_file: str | None, patience: float) -> None:
        """Connect; `patience` in seconds.  Raises Failure."""
        self._ws = WebSocket(url, key_file)
        self._patience = patience
        self._arrived: list[bytes] = []
        host = self._ws.host
        try:
            self._socket = socket.create_connection((host, self._ws.port), timeout=patience)
            if self._ws.encrypted:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host)
        except OSError as exc:
            raise self._ws.unreachable(exc) from None
        try:
            self._socket.sendall(self._ws.greeting())
            while not self._ws.opened:
                self._read()
        except (EOFError, OSError) as exc:
            self.close()
            raise self._ws.unreachable(exc) from None
        except Failure:
            self.close()
            raise

    def send(self, message: bytes, *, crossing: bool) -> None:
        if self._ws.over:
            raise EOFError
        self._socket.sendall(self._ws.encode(message))

    def receive(self) -> bytes:
        until = time.monotonic() + self._patience
        while not self._arrived:
            if self._ws.over:
                raise EOFError
            if time.monotonic() >= until:  # pings may come for ever
                raise TimeoutError
            self._read()
        return self._arrived.pop(0)

    def ended(self) -> bool:
        patience = self._socket.gettimeout()
        self._socket.settimeout(0.0)
        try:
            while not self._ws.over:
                self._read()
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except (OSError, EOFError, Failure):
            self._ws.over = True
        finally:
            if self._socket.fileno() != -1:
                self._socket.settimeout(patience)
        return self._ws.over

    def hang_up(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is closed already
            pass

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise EOFError
        self._arrived += self._ws.feed(data)
        if replies := self._ws.replies():
            self._socket.sendall(replies)


def _key(path: str | None) -> str:
    """Raises Failure: there is none, or others can read it."""
    if path is None:
        raise exits.usage("a key is needed: --key-file FILE, or $POLPO_KEY_FILE")
    try:
        with open(path, encoding="ascii") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise exits.usage(f"{path}: others may read that key: chmod 600 {path}")
            key = file.read().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise exits.usage(f"{path}: {exc.strerror if isinstance(exc, OSError) else 'not a key'}") from None
    if not _visible(key):  # what is refused further on is shown, and a key must not be
        raise exits.usage(f"{path}: not a key")
    return key


def _visible(word: str) -> bool:
    """Whether it is one word that a head of HTTP can have."""
    return bool(word) and all("!" <= character <= "~" for character in word)
