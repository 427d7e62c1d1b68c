"""`events`: what happened, in the order in which it was recorded; with `-f` also what will."""

from __future__ import annotations

import json
import sys

from polpoctl import exits
from polpoctl.client import Lasting, connect
from polpoctl.follow import LONG_POLL
from polpoctl.parsers import count
from polpoctl.render import Screen, escape, fit, notice
from polpoctl.times import local

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

PAGE = 1000


def options(parser: ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on as long as nobody stops it")
    parser.add_argument("--after", metavar="SEQ", type=count, help="those after this number (default: the last 100)")


def run(args: Namespace) -> int:
    call = Lasting(connect(args)).call
    screen = Screen(args)
    asked: dict[str, Any] = {} if args.after is None else {"after": args.after, "limit": PAGE}
    while True:
        page = call("event.list", asked)
        if "after" in asked and page["first"] is not None and page["first"] > asked["after"] + 1:
            notice(f"events {asked['after'] + 1} to {page['first'] - 1} are not kept any more")
        for event in page["events"]:
            _print(screen, event)
        sys.stdout.flush()
        if not args.follow and (args.after is None or not page["events"]):
            return exits.OK
        asked = {"after": page["next"], "limit": PAGE} | ({"wait": LONG_POLL} if args.follow else {})


def _print(screen: Screen, event: dict[str, Any]) -> None:
    if screen.json:
        screen.json_line(event)
        return
    body = json.dumps(event["body"], ensure_ascii=False)
    at = local(event["at"]) if screen.terminal else event["at"]
    cells = [str(event["seq"]), at, event["kind"], event["subject"], body]
    if screen.width is None:
        screen.line("\t".join(map(escape, cells)))
    else:
        screen.line(fit("  ".join(map(escape, cells)), screen.width))
