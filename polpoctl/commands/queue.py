"""`queue`: the queues, or one of them; with `--slots` how many of its tasks run at once."""

from __future__ import annotations

from argparse import SUPPRESS

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import count, or_none
from polpoctl.queues import named, print_queues
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

UNLIMITED = "unlimited"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="QUEUE", nargs="?", help="this queue alone")
    parser.add_argument(
        "--slots", metavar="N", type=or_none(count, UNLIMITED), default=SUPPRESS,
        help=f"how many of its tasks may run at once; {UNLIMITED}: no limit but that of all tasks",
    )  # fmt: skip


def run(args: Namespace) -> int:
    changes = "slots" in args
    if changes and args.name is None:
        raise exits.usage("--slots: of which queue?")
    connection = connect(args)
    if changes:
        connection.call("queue.set", {"name": args.name, "slots": args.slots})
    queues = connection.call("queue.list")["queues"] if args.name is None else named(connection, [args.name])
    if args.name is not None and not queues:
        raise exits.Failure(f"there is no queue {args.name}", exits.NOT_FOUND)
    print_queues(Screen(args), queues)
    return exits.OK
