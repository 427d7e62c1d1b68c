"""Mail: one message handed to an SMTP server, in a thread that ends when nobody waits for it any more."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from io import BufferedReader

import trio

from polpod.model.notifying import Email
from polpod.rules.notifying import Notice
from polpod.services.delivery import NotDelivered

PORTS = {"starttls": 587, "tls": 465, "none": 25}

MOST_READ = 65536
"""Bytes of all that a server says in one session."""


async def send(
    email: Email, notice: Notice, password: str | None, seconds: float, limiter: trio.CapacityLimiter
) -> None:
    """Delivered if the server took it for all.  Raises NotDelivered, smtplib.SMTPException, OSError.

    `seconds`: how long the server may be silent; the caller bounds the whole.  `limiter`: how many threads there may be.
    """
    delivery = _Delivery(email, message(email, notice), password, seconds)
    try:
        await trio.to_thread.run_sync(delivery.run, abandon_on_cancel=True, limiter=limiter)
    finally:
        delivery.end()


def message(email: Email, notice: Notice) -> EmailMessage:
    """The mail; a delivery that is repeated has the same Message-ID."""
    event = notice.event
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = email.sender, ", ".join(email.to), _plain(notice.title)
    mail["Date"] = format_datetime(event.at)
    mail["Message-ID"] = f"<{notice.id}.{event.at.timestamp():.6f}@{host}>"
    mail["Auto-Submitted"] = "auto-generated"
    about = f"{event.kind} of {event.subject}, event {event.seq}, {notice.rule.severity}, by rule {notice.rule.id}"
    mail.set_content(f"{notice.text.rstrip()}\n\n-- \npolpod: {about}\n")
    return mail


class _Delivery:
    """One message on its way; `run` blocks, `end` may be called by another thread meanwhile."""

    def __init__(self, email: Email, mail: EmailMessage, password: str | None, seconds: float) -> None:
        self._email, self._mail, self._password, self._seconds = email, mail, password, seconds
        self._sock: socket.socket | None = None
        self._ended = False

    def run(self) -> None:
        session = _Session(self._email, self._seconds, self._opened)
        try:
            self._hand_over(session)
        finally:
            session.close()

    def _hand_over(self, session: smtplib.SMTP) -> None:
        email = self._email
        if email.tls == "starttls":
            session.starttls(context=_trust())
            self._opened(session.sock)
        if email.user is not None and self._password is not None:
            session.login(email.user, self._password)
        refused = session.send_message(self._mail)
        with suppress(smtplib.SMTPException, OSError):  # it was taken
            session.quit()
        if refused:
            raise NotDelivered(f"taken for others, but not for {', '.join(refused)}")

    def _opened(self, sock: socket.socket | None) -> None:
        self._sock = sock
        if self._ended:
            raise NotDelivered("nobody waits for it any more")

    def end(self) -> None:
        """Nobody waits for it: what it does on the network fails."""
        self._ended = True
        if self._sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class _Session(smtplib.SMTP):
    """Connected, over TLS where that comes first; `opened` is told of the socket before anything is waited for."""

    def __init__(self, email: Email, seconds: float, opened: Callable[[socket.socket], None]) -> None:
        self._tls, self._opened = email.tls == "tls", opened
        super().__init__(email.host, email.port or PORTS[email.tls], socket.gethostname(), seconds)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = socket.create_connection((host, port), timeout)
        try:
            if self._tls:
                sock = _trust().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            self._opened(sock)
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock


class _Bounded:
    """What a server says, up to MOST_READ bytes: its answers have no end but the one that it gives them."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self._left = file, MOST_READ
        self.close = file.close

    def readline(self, most: int) -> bytes:
        """Raises NotDelivered."""
        line = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise NotDelivered(f"the server says more than {MOST_READ} bytes")
        return line


def _plain(text: str) -> str:
    """On one line, as a header has to be."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
