"""`logs`: what a task wrote, as bytes; with `-f` until it ends."""

from __future__ import annotations

import sys

from polpoctl import exits
from polpoctl.client import Lasting, connect
from polpoctl.follow import Log, content
from polpoctl.parsers import count, positive
from polpoctl.render import Screen, notice
from polpoctl.steps import take

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the task")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the task ends")
    parser.add_argument("-n", "--lines", metavar="N", type=count, help="begin with the last N lines")
    parser.add_argument("--run", metavar="R", type=positive, help="the log of this run (default: the newest)")
    parser.add_argument("--checks", action="store_true", help="what the checks of its work said last")


def run(args: Namespace) -> int:
    screen = Screen(args)
    which: dict[str, Any] = {}
    if args.run is not None:
        which = {"run": args.run}
    elif args.checks:
        which = {"phase": "review"}
    elif not args.follow:  # the work is what a task is known for; who follows sees each run, of the checks too
        which = {"phase": "execution"}
    log = Log(args.id, which, tail=args.lines)
    steps = log.follow() if args.follow else log.present()
    for part in take(steps, Lasting(connect(args)).call, notice):
        if screen.json:
            screen.json_line(part)
        else:
            sys.stdout.buffer.write(content(part))
        sys.stdout.flush()
    return exits.OK
