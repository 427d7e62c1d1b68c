"""`answer`: say what a job asked for, so that its work goes on."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the task that asks, or the id of its question")
    parser.add_argument("text", metavar="TEXT", nargs="+", help="the answer")


def run(args: Namespace) -> int:
    answered = connect(args).call("approval.answer", {"id": args.id, "text": " ".join(args.text)})["approval"]
    screen = Screen(args)
    if screen.json:
        screen.value(answered)
    return exits.OK
