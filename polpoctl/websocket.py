"""The way to a polpod from afar: a message is a text message of a WebSocket (docs/web.md), by wsproto.

Rule: loaded only where a URL names the polpod, for what it imports costs more than an everyday command.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
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


class WebSocketTransport:
    """Messages over a WebSocket, with the key in a file."""

    def __init__(self, url: str, key_file: str | None, patience: float) -> None:
        """Connect; `patience` in seconds.  Raises Failure."""
        key = _key(key_file)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
            if not host or not _visible(parts.path or "/"):
                raise ValueError
            host.encode("idna")
        except ValueError:  # an UnicodeError is one
            raise exits.usage(f"{url}: not a URL of a polpod: wss://HOST:PORT") from None
        try:
            self._socket = socket.create_connection((host, port), timeout=patience)
            if parts.scheme in ("wss", "https"):
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host)
        except OSError as exc:
            raise Unreachable(url, (exc.strerror or str(exc)).lower(), [url]) from None
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._arrived: list[bytes] = []
        self._parts: list[str] = []
        self._over = False
        authorization = (b"authorization", b"Bearer " + key.encode())
        path = parts.path if parts.path.strip("/") else "/rpc"
        status = None
        try:
            self._write(Request(host=parts.netloc.rpartition("@")[2], target=path, extra_headers=[authorization]))
            while status is None:
                status = self._read()
        except (EOFError, OSError, ProtocolError) as exc:
            self.close()
            raise Unreachable(url, f"no polpod: {exc}".rstrip(": "), [url]) from None
        if status != 101:
            self.close()
            if status in _REFUSED:
                raise TurnedAway(f"{url}: {_REFUSED[status]}", exits.NOT_ALLOWED)
            raise Failure(f"{url}: no polpod: HTTP status {status}", exits.UNREACHABLE)

    def send(self, message: bytes, *, crossing: bool) -> None:
        if len(message) > frames.LIMIT:
            raise frames.FrameTooLong(frames.LIMIT)
        if self._over:
            raise BrokenPipeError("polpod closed the connection")
        self._write(TextMessage(data=message.decode()))

    def receive(self) -> bytes:
        while not self._arrived:
            if self._over:
                raise EOFError
            self._read()
        return self._arrived.pop(0)

    def ended(self) -> bool:
        patience = self._socket.gettimeout()
        self._socket.settimeout(0.0)
        try:
            while not self._over:
                self._read()
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except (OSError, EOFError, ProtocolError):
            self._over = True
        finally:
            if self._socket.fileno() != -1:
                self._socket.settimeout(patience)
        return self._over

    def hang_up(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is closed already
            pass

    def close(self) -> None:
        self._socket.close()

    def _write(self, event: Request | TextMessage) -> None:
        self._socket.sendall(self._ws.send(event))

    def _read(self) -> int | None:
        """Take what comes next; the status of the handshake, once it is known."""
        data = self._socket.recv(_CHUNK)
        if not data:
            raise EOFError
        self._ws.receive_data(data)
        for event in self._ws.events():
            match event:
                case TextMessage():
                    self._parts.append(event.data)
                    if event.message_finished:
                        self._arrived.append("".join(self._parts).encode())
                        self._parts.clear()
                case Ping():
                    self._socket.sendall(self._ws.send(event.response()))
                case CloseConnection():
                    self._over = True
                case AcceptConnection():
                    return 101
                case RejectConnection():
                    return event.status_code
        return None


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
