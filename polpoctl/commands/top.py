"""`top`: the work as it goes on, on a terminal and by keyboard."""

from __future__ import annotations

import os
import sys

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

MISSING = "top needs the package rich, which is not installed: pip install 'polpod[top]'"


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    if args.json:
        raise exits.usage("top is for people: polpoctl list --json, polpoctl events -f --json")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise exits.usage("top needs a terminal; polpoctl list does without")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise exits.usage("top needs a terminal that can do more than TERM=dumb says; polpoctl list does without")
    try:
        from polpoctl.top import loop
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise exits.Failure(MISSING, exits.FAILED) from None
    connection = connect(args)  # or else why not, as every command says it
    connection.close()
    loop.run(connection.again, colour=Screen(args).colour)
    return exits.OK
