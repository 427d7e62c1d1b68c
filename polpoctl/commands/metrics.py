"""`metrics`: what polpod counts of itself, as a monitoring system reads it (OpenMetrics text)."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen, escape

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    answer = connect(args).call("daemon.metrics")
    screen = Screen(args)
    if screen.json:
        screen.value(answer)
        return exits.OK
    for line in answer["text"].splitlines():
        screen.line(escape(line) if screen.terminal else line)
    return exits.OK
