"""`events`: what happened, in the order in which it was recorded; with `-f` also what will."""

from __future__ import annotations

import json
import sys

from polpoctl import exits
from polpoctl.client import Lasting, connect
from polpoctl.follow import events
from polpoctl.parsers import count
from polpoctl.render import Screen, escape, fit, notice
from polpoctl.steps import take
from polpoctl.times import local

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on as long as nobody stops it")
    parser.add_argument("--after", metavar="SEQ", type=count, help="those after this number (default: the last 100)")


def run(args: Namespace) -> int:
    screen = Screen(args)
    for event in take(events(args.after, follow=args.follow), Lasting(connect(args)).call, notice):
        _print(screen, event)
        if args.follow:
            sys.stdout.flush()
    return exits.OK


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
