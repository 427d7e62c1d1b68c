"""`runs`: attempts at tasks, newest first."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen
from polpoctl.runtable import print_runs

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

PAGE = 1000


def options(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?", help="the runs of this task")
    parser.add_argument("--limit", metavar="N", type=positive, default=100, help="at most N (default: 100)")


def run(args: Namespace) -> int:
    connection = connect(args)
    asked: dict[str, Any] = {} if args.id is None else {"task_id": args.id}
    found: list[dict[str, Any]] = []
    while len(found) < args.limit:
        page = connection.call("run.list", asked | {"limit": min(PAGE, args.limit - len(found))})
        found += page["runs"]
        if page["next"] is None:
            break
        asked["before"] = page["next"]
    if args.id is not None and not found:
        connection.call("task.get", {"id": args.id})  # says so if there is no such task; the runs of one outlive it
    screen = Screen(args)
    if screen.json:
        screen.value(found)
    else:
        print_runs(screen, found)
    return exits.OK
