"""`rpc`: call any method of the socket, and print its result as JSON."""

from __future__ import annotations

import json

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", help="such as task.get; rpc.discover tells all of them")
    parser.add_argument("params", metavar="JSON", nargs="?", default="{}", help="its parameters, as a JSON object")


def run(args: Namespace) -> int:
    try:
        params = json.loads(args.params)
    except ValueError as exc:
        raise exits.usage(f"the parameters are not JSON: {exc}") from None
    if not isinstance(params, dict):
        raise exits.usage("the parameters are given by name, as a JSON object")
    Screen(args).value(connect(args).call(args.method, params))
    return exits.OK
