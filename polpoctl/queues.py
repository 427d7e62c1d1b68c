"""What pause, resume and queue share: queues as a table, and setting several at once."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen, notice
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Container
    from typing import Any

    from polpoctl.client import Connection


HEADS = ("QUEUE", "SLOTS", "BUSY", "READY", "STATE")


def options(parser: ArgumentParser) -> None:
    """Add what names queues."""
    parser.add_argument("queues", metavar="QUEUE", nargs="*", help="the queues (default: all)")
    parser.add_argument(
        "--queue", metavar="NAME", dest="more", action="append", default=[], help="the same, as a selector"
    )


def pause(args: Namespace, paused: bool) -> int:
    """Pause or resume the queues of `options`."""
    connection = connect(args)
    names = [*args.queues, *args.more] or [queue["name"] for queue in connection.call("queue.list")["queues"]]
    answers = list(connection.call_many(("queue.set", {"name": name, "paused": paused}) for name in names))
    print_queues(Screen(args), named(connection, names))
    refused = [(name, a) for name, a in zip(names, answers, strict=True) if isinstance(a, RemoteError)]
    for name, error in refused:
        notice(f"queue {name}: {error}")
    return exits.of_errors([error for _, error in refused], len(names))


def named(connection: Connection, names: Container[str]) -> list[dict[str, Any]]:
    """The queues of these names, as they are now."""
    return [queue for queue in connection.call("queue.list")["queues"] if queue["name"] in names]


def print_queues(screen: Screen, queues: list[dict[str, Any]]) -> None:
    """One row a queue; `-` where there is no limit of its own."""
    if screen.json:
        screen.value(queues)
        return
    screen.table(HEADS, [row(queue) for queue in queues], state=4, flexible=0)


def row(queue: dict[str, Any]) -> tuple[str, ...]:
    slots = "-" if queue["slots"] is None else str(queue["slots"])
    return (
        queue["name"],
        slots,
        str(queue["busy"]),
        str(queue["ready"]),
        "paused" if queue["paused"] else "open",
    )
