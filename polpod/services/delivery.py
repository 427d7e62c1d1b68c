"""One attempt to tell somebody outside of one event: an HTTP request, or a command.  The caller bounds its time.

Rules:

1. An attempt that is given up leaves nothing behind: the connection is closed, the command killed with its group.
2. A command sees the event and what no program can do without, never our environment; what it prints goes to its log.
3. A command that prints more than its log holds is ended.
4. A signature is the HMAC-SHA256, with the secret, of the timestamp in its header, a dot, and the body.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import signal
import ssl
import time
from functools import cache
from urllib.parse import urlsplit

import msgspec
import orjson
import trio

from polpod import __version__
from polpod.model.events import Event
from polpod.rules.notifying import Notice
from polpod.services.submission import clean_environment

MOST_READ = 16384
"""Bytes of an answer in which its first line must end."""

LOG_SIZE = 2**20
"""Bytes that a command may print; of a log after which it is begun anew, and the one before it is kept."""
LOOK_EVERY = 0.1
"""Seconds between looks at how much that is."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class NotDelivered(Exception):
    """Whoever is to be told did not say that he was; the message says why."""


async def post(url: str, notice: Notice, secret: str | None) -> None:
    """POST the notice as JSON; delivered if the answer is a 2xx.  Raises NotDelivered, OSError, trio.BrokenResourceError."""
    where = urlsplit(url)
    body = _json(notice)
    target = (where.path or "/") + (f"?{where.query}" if where.query else "")
    timestamp = str(int(time.time()))
    headers = {
        "Host": where.netloc,
        "User-Agent": f"polpod/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Polpo-Delivery": notice.id,
        "Polpo-Timestamp": timestamp,
    } | ({"Polpo-Signature": f"sha256={signature(secret, timestamp, body)}"} if secret is not None else {})
    head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    assert where.hostname is not None
    stream: trio.abc.Stream
    if where.scheme == "https":
        stream = await trio.open_ssl_over_tcp_stream(
            where.hostname, where.port or 443, https_compatible=True, ssl_context=_trust()
        )
    else:
        stream = await trio.open_tcp_stream(where.hostname, where.port or 80)
    try:
        await stream.send_all(head.encode() + body)
        line = await _first_line(stream)
    finally:
        await trio.aclose_forcefully(stream)
    status = _STATUS.match(line)
    if status is None or not status[1].startswith(b"2"):
        raise NotDelivered(f"answered {line.decode(errors='replace')[:200]!r}")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """In hexadecimal (rule 4)."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


async def execute(command: tuple[str, ...], notice: Notice, socket: str, cwd: str, output: int) -> None:
    """Run the command with the notice as JSON at its stdin; delivered if it exits with 0.  Raises NotDelivered, OSError.

    `output`: a descriptor for what it prints.
    """
    stdin = os.memfd_create("event", os.MFD_CLOEXEC)  # a pipe would have to be fed to one that does not read
    try:
        os.write(stdin, _json(notice) + b"\n")
        os.lseek(stdin, 0, os.SEEK_SET)
        process = await trio.lowlevel.open_process(
            command, stdin=stdin, stdout=output, stderr=output, env=_environment(notice.event, socket), cwd=cwd,
            start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(stdin)
    try:
        code = await _end(process, output)
    finally:
        if process.returncode is None:  # so its number is still its own, and that of its group
            os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
    if code != 0:
        raise NotDelivered(f"exited with {code}" if code > 0 else f"ended by signal {-code}")


async def _end(process: trio.Process, output: int) -> int:
    """Its exit code.  Raises NotDelivered: it printed too much."""
    most = os.fstat(output).st_size + LOG_SIZE
    while True:
        with trio.move_on_after(LOOK_EVERY):
            return await process.wait()
        if os.fstat(output).st_size > most:
            raise NotDelivered(f"printed more than {LOG_SIZE} bytes")


async def _first_line(stream: trio.abc.Stream) -> bytes:
    answer = b""
    while b"\n" not in answer:
        part = await stream.receive_some(MOST_READ)
        answer += part
        if not part or len(answer) > MOST_READ:
            raise NotDelivered(f"no answer in HTTP: {answer[:200]!r}")
    return answer.partition(b"\n")[0].rstrip(b"\r")


def _json(notice: Notice) -> bytes:
    """The event as `event.list` shows it, and what the rule makes of it."""
    rule = notice.rule
    said = {"rule": rule.id, "severity": rule.severity, "title": notice.title, "text": notice.text}
    return orjson.dumps(msgspec.to_builtins(notice.event) | said)


def _environment(event: Event, socket: str) -> dict[str, str]:
    fields = msgspec.to_builtins(event)
    return clean_environment() | {
        "POLPO_SOCKET": socket,
        "POLPO_EVENT_SEQ": str(event.seq),
        "POLPO_EVENT_AT": fields["at"],
        "POLPO_EVENT_KIND": event.kind,
        "POLPO_EVENT_SUBJECT": event.subject,
    }


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
