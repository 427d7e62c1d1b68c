"""`notification`: what was told to whom, and whether a channel works."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen, notice
from polpoctl.times import ago

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

PAGE = 1000
USAGE = "usage: polpoctl notification [list] or polpoctl notification test NAME"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", choices=("list", "test"), default="list", help="list, or test NAME")
    parser.add_argument("name", nargs="?", metavar="NAME", help="for test: the channel")
    parser.add_argument("--channel", metavar="NAME", help="for list: only what this channel was told")
    parser.add_argument("--rule", metavar="ID", help="for list: only by this rule")
    parser.add_argument("--status", choices=("sent", "failed"), help="for list: only what was sent, or could not be")
    parser.add_argument("-n", "--limit", metavar="N", type=positive, default=100, help="the last N (default: 100)")


def run(args: Namespace) -> int:
    if (args.verb == "test") is (args.name is None):
        raise exits.usage(USAGE)
    return _test(args) if args.verb == "test" else _list(args)


def _test(args: Namespace) -> int:
    told = connect(args).call("notification.test", {"name": args.name})
    screen = Screen(args)
    if screen.json:
        screen.value(told)
    elif told["delivered"]:
        print(f"{args.name}: delivered")
    else:
        notice(f"{args.name}: {told['problem']}")
    return exits.OK if told["delivered"] else exits.FAILED


def _list(args: Namespace) -> int:
    said = {"channel": args.channel, "rule": args.rule, "status": args.status}
    asked: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    connection = connect(args)
    found: list[dict[str, Any]] = []
    while len(found) < args.limit:
        page = connection.call("notification.list", asked | {"limit": min(PAGE, args.limit - len(found))})
        found += page["notifications"]
        if page["next"] is None:
            break
        asked["before"] = page["next"]
    screen = Screen(args)
    if screen.json:
        screen.value(found[::-1])
        return exits.OK
    now = time.time()
    heads = ("AT", "CHANNEL", "RULE", "STATUS", "WHAT")
    screen.table(heads, [_row(record, now, screen.terminal) for record in reversed(found)])
    return exits.OK


def _row(record: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    at = ago(record["timestamp"], now) if terminal else record["timestamp"]
    what = record["title"] if record["error"] is None else f"{record['title']}: {record['error']}"
    return at, record["channel"], record["rule_id"], record["status"], what
