"""`reload`: have polpod go on as what is there now, code and configuration, and return when that answers."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    connection = connect(args)
    connection.call("daemon.reload")
    status = connection.call("daemon.status")  # the connection is kept, and what answers next is the next generation
    screen = Screen(args)
    if screen.json:
        screen.value({key: status[key] for key in ("pid", "version")})
    else:
        screen.line(f"polpod reloaded, pid {status['pid']}, version {status['version']}")
    return exits.OK
