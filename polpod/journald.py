"""The daemon's own log: lines with the time for people, or entries for systemd's journal.

Rules:

1. The journal listens where $JOURNAL_STREAM names what stderr is (systemd.exec(5)): it may have been redirected since.
2. An entry is one datagram of the journal's native protocol: a traceback stays one entry, with its priority, its place in
   the code, and POLPO_RUN_ID or POLPO_TASK_ID where the record has `extra={"run_id": …}` or `task_id`.
3. A journal that does not take it at once costs an entry, never time: a log does not hold up the event loop.
4. What it cannot take at all (it is not there, or the entry is too long) goes to stderr, with the priority before each
   line (sd-daemon(3)).  Where that is closed, too, it is lost: no entry ends the daemon.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

SOCKET = "/run/systemd/journal/socket"

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Of syslog(3)."""

FIELDS = {"run_id": "POLPO_RUN_ID", "task_id": "POLPO_TASK_ID"}


class Journal(logging.Handler):
    def __init__(self, stderr: TextIO, path: str = SOCKET) -> None:
        super().__init__()
        self._stderr, self._path = stderr, path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        priority = PRIORITIES[record.levelno]
        fields = {
            "MESSAGE": message,
            "PRIORITY": priority,
            "SYSLOG_IDENTIFIER": "polpod",
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        } | {field: getattr(record, name) for name, field in FIELDS.items() if hasattr(record, name)}
        try:
            self._socket.sendto(b"".join(_field(name, str(value)) for name, value in fields.items()), self._path)
        except BlockingIOError:  # rule 3
            return
        except OSError:
            with suppress(OSError):  # nobody listens there either
                self._stderr.write(prefixed(message, priority))
                self._stderr.flush()

    def close(self) -> None:
        self._socket.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)


def prefixed(text: str, priority: int) -> str:
    """Its lines as the journal reads them from stderr."""
    return "".join(f"<{priority}>{line}\n" for line in text.splitlines())


def listens(environment: Mapping[str, str], stderr: TextIO) -> bool:
    """Rule 1."""
    is_now = os.fstat(stderr.fileno())
    return environment.get("JOURNAL_STREAM") == f"{is_now.st_dev}:{is_now.st_ino}"


def begin(level: str, journal: str = SOCKET) -> None:
    """Log from here on, from `level` on.  In the journal, a defect that ends the process is an entry, too."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    form = PLAIN
    if listens(os.environ, sys.stderr):
        handler, form = Journal(sys.stderr, journal), "%(message)s"
        sys.excepthook = lambda *exc: logging.critical("ended by a defect", exc_info=exc)
    handler.setFormatter(logging.Formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def complain(text: str) -> None:
    """The reason why polpod ends, for who started it."""
    text = f"polpod: {text}"
    print(prefixed(text, PRIORITIES[logging.ERROR])[:-1] if listens(os.environ, sys.stderr) else text, file=sys.stderr)
