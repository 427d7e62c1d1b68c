"""`backup`: copies of both databases that belong together, of a polpod that runs or, without one, of its files."""

from __future__ import annotations

import os

from polpoctl import exits
from polpoctl.client import Unreachable, connect
from polpoctl.executable import maintain
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

PATIENCE = 3600.0
"""Seconds to wait for the answer, which comes when everything is copied."""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the directory to make; it must not be there")


def run(args: Namespace) -> int:
    target = os.path.abspath(args.directory)
    try:
        connection = connect(args, PATIENCE)
    except Unreachable:
        maintain(args, "backup", target)
    made = connection.call("store.backup", {"path": target})
    screen = Screen(args)
    if screen.json:
        screen.value(made)
    else:
        screen.fields([("backup", made["path"]), ("bytes", str(made["bytes"]))])
    return exits.OK
