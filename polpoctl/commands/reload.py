"""`reload`: have polpod go on as what is there now, code and configuration, and return when that answers."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import Lasting, connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    connection = connect(args)
    connection.call("daemon.reload")
    # What answers next is the next generation, on this connection; a WebSocket is made anew.
    status = Lasting(connection, say=lambda text: None).call("daemon.status", {})
    screen = Screen(args)
    if screen.json:
        screen.value({key: status[key] for key in ("pid", "version")})
    else:
        screen.line(f"polpod reloaded, pid {status['pid']}, version {status['version']}")
    return exits.OK
