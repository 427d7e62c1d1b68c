"""`queue`: the queues, or one of them; with `--slots` how many of its tasks run at once."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.queues import named, print_queues
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="QUEUE", nargs="?", help="this queue alone")
    parser.add_argument("--slots", metavar="N", type=int, help="how many of its tasks may run at once")


def run(args: Namespace) -> int:
    connection = connect(args)
    if args.slots is not None:
        if args.name is None:
            raise exits.usage("--slots: of which queue?")
        connection.call("queue.set", {"name": args.name, "slots": args.slots})
    queues = connection.call("queue.list")["queues"] if args.name is None else named(connection, [args.name])
    if args.name is not None and not queues:
        raise exits.Failure(f"there is no queue {args.name}", exits.NOT_FOUND)
    print_queues(Screen(args), queues)
    return exits.OK
