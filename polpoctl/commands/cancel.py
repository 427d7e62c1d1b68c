"""`cancel`: end what runs and keep what waits from starting; `--wait` returns when it has ended."""

from __future__ import annotations

from polpoctl import acting, selection
from polpoctl.awaiting import wait_for
from polpoctl.client import Lasting, connect

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    selection.options(parser)
    parser.add_argument("--wait", action="store_true", help="return when they have ended, not when that is recorded")


def run(args: Namespace) -> int:
    connection = connect(args)
    results, code = acting.perform(args, connection, "task.cancel")
    cancelled = [result["id"] for result in results if not result.get("error")]
    if args.wait and cancelled:
        wait_for(Lasting(connection).call, cancelled)
    return code
