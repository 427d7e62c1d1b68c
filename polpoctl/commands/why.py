"""`why`: why a task waits or failed, in sentences, and the commands that would change it."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen, escape

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the task")


def run(args: Namespace) -> int:
    because = connect(args).call("task.why", {"id": args.id})
    screen = Screen(args)
    if screen.json:
        screen.value(because)
        return exits.OK
    for sentence in because["sentences"]:
        screen.line(escape(sentence))
    for command in because["next"]:
        screen.line(f"next: {escape(command)}")
    return exits.OK
