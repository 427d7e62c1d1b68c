"""`stop`: ask polpod to stop, and return when its process is gone."""

from __future__ import annotations

import os
import select
import time

from polpoctl import exits
from polpoctl.client import Connection, connect
from polpoctl.exits import Failure
from polpoctl.render import Screen, notice

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

BOUND = 120.0
"""Seconds: polpod gives its runs 30 s by itself (DESIGN §7), and may be told to give them more."""


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    connection = connect(args)
    # Its process is held on to before it is asked, so that no other can be taken for it.
    process = _process(connection.call("daemon.status")["pid"])
    pid = connection.call("daemon.shutdown")["pid"]
    connection.close()
    gone = _process_gone(process) if process is not None else _socket_gone(connection.path)
    if not gone:
        notice(f"polpod (pid {pid}) is still stopping after {BOUND:g} s")
        return exits.FAILED
    screen = Screen(args)
    if screen.json:
        screen.value({"pid": pid})
    else:
        screen.line(f"polpod stopped, pid {pid}")
    return exits.OK


def _process(pid: int) -> int | None:
    """A pidfd; None if the process cannot be seen from here, as in another container."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _process_gone(process: int) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(BOUND * 1000))


def _socket_gone(path: str) -> bool:
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        try:
            Connection(path).close()
        except Failure:
            return True
        time.sleep(0.1)
    return False
