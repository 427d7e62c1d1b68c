"""`audit`: who asked polpod for what, and whether that was allowed."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen
from polpoctl.times import ago

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

PAGE = 1000


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--denied", action="store_true", help="only what was not allowed")
    parser.add_argument("--method", metavar="NAME", help="only calls of this method, such as task.submit")
    parser.add_argument("--who", metavar="NAME", help="only calls by one caller, such as 'uid 1000'")
    parser.add_argument("-n", "--limit", metavar="N", type=positive, default=100, help="the last N (default: 100)")


def run(args: Namespace) -> int:
    said = {"verdict": "deny" if args.denied else None, "method": args.method, "who": args.who}
    asked: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    connection = connect(args)
    found: list[dict[str, Any]] = []
    while len(found) < args.limit:
        page = connection.call("audit.list", asked | {"limit": min(PAGE, args.limit - len(found))})
        found += page["entries"]
        if page["next"] is None:
            break
        asked["before"] = page["next"]
    screen = Screen(args)
    if screen.json:
        screen.value(found[::-1])
        return exits.OK
    now = time.time()
    heads = ("AT", "METHOD", "TASK", "VERDICT", "BY")
    screen.table(heads, [_row(entry, now, screen.terminal) for entry in reversed(found)])
    return exits.OK


def _row(entry: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    at = ago(entry["timestamp"], now) if terminal else entry["timestamp"]
    return at, entry["tool_name"], entry["task_id"] or "", entry["verdict"], entry["reason"]
