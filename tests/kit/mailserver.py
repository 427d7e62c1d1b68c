"""An SMTP server on loopback: it keeps what it was handed, and refuses or hangs as it is told to."""

from __future__ import annotations

import base64
import email.policy
import socketserver
import ssl
import threading
from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any, cast

from kit.webhook import CERTIFICATE


class MailServer:
    """`tls`: none, starttls or tls; `login`: the user and password that it asks for; `hangs`: it never greets anybody."""

    def __init__(self, tls: str = "none", login: tuple[str, str] | None = None, *, hangs: bool = False) -> None:
        self.tls, self.login, self.hangs = tls, login, hangs
        self.answer = b"250 taken"
        """To a message."""
        self.mails: list[EmailMessage] = []
        """Those that it took."""
        self.recipients: list[str] = []
        self.clear: list[bytes] = []
        """Lines that came without TLS."""
        self.closed = threading.Event()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._session())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.port = int(self._server.server_address[1])

    def fields(self, **more: Any) -> dict[str, Any]:
        """What polpo.json says of it."""
        said = {"host": "localhost", "port": self.port, "tls": self.tls, "from": "polpod@host.example"}
        if self.login is not None:
            said |= {"user": self.login[0], "password": self.login[1]}
        return said | {"to": ["me@host.example"]} | more

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _session(self) -> type[socketserver.BaseRequestHandler]:
        server = self

        class Session(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # a client that goes away
                    conversation = _Conversation(server, self.request)
                    try:
                        conversation.hold()
                    finally:
                        conversation.close()

        return Session

    def __enter__(self) -> MailServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Conversation:
    def __init__(self, server: MailServer, sock: Any) -> None:
        self._server, self._sock = server, sock
        self._secure = self._known = False
        self._file = sock.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def hold(self) -> None:
        if self._server.hangs:
            self._server.closed.wait(60)
            return
        if self._server.tls == "tls":
            self._wrap()
        self._say(b"220 mail.example")
        while line := self._line():
            verb, _, rest = line.partition(b" ")
            if not self._answered(verb.upper(), rest):
                return

    def _answered(self, verb: bytes, rest: bytes) -> bool:
        match verb:
            case b"EHLO":
                offers = [b"mail.example", b"SIZE 1000000"]
                offers += [b"STARTTLS"] if self._server.tls == "starttls" and not self._secure else []
                offers += [b"AUTH PLAIN"] if self._server.login is not None else []
                for offer in offers[:-1]:
                    self._say(b"250-" + offer)
                self._say(b"250 " + offers[-1])
            case b"STARTTLS":
                self._say(b"220 go on")
                self._wrap()
            case b"AUTH":
                said = base64.b64decode(rest.split()[1]).decode().split("\0")[1:]
                self._known = tuple(said) == self._server.login
                self._say(b"235 welcome" if self._known else f"535 go away with your {said[-1]}".encode())
            case b"MAIL":
                self._say(b"250 ok" if self._known or self._server.login is None else b"530 who are you?")
            case b"RCPT":
                refused = b"<nobody@" in rest
                self._server.recipients += [] if refused else [rest.decode()]
                self._say(b"550 unknown" if refused else b"250 ok")
            case b"DATA":
                self._take()
            case b"QUIT":
                self._say(b"221 bye")
                return False
            case _:
                self._say(b"250 ok")
        return True

    def _take(self) -> None:
        self._say(b"354 go on")
        lines = []
        while (line := self._file.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".").replace(b"\r\n", b"\n"))
        if self._server.answer.startswith(b"2"):
            parser: BytesParser[EmailMessage] = BytesParser(policy=email.policy.default)
            self._server.mails.append(cast(EmailMessage, parser.parsebytes(b"".join(lines))))
        self._say(self._server.answer)

    def _line(self) -> bytes:
        line = bytes(self._file.readline()).strip()
        if not self._secure:
            self._server.clear.append(line)
        return line

    def _say(self, line: bytes) -> None:
        self._sock.sendall(line + b"\r\n")

    def _wrap(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self._file.close()
        self._sock = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock.do_handshake()
        self._file = self._sock.makefile("rb")
        self._secure = True
