"""`submit`: hand in a task, or with `--batch` many; only ids on stdout."""

from __future__ import annotations

from polpoctl import exits, submission
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--batch", metavar="FILE", help="one task a line, as JSON; - is stdin; options are for all of them"
    )
    submission.options(parser)


def run(args: Namespace) -> int:
    if args.batch is None and not args.command and args.agent is None:
        raise exits.usage("nothing to run: polpoctl submit [options] -- COMMAND")
    if args.batch is not None and (args.command or args.idempotency_key):
        raise exits.usage("--batch takes commands and idempotency keys from its lines")
    params = submission.params(args)
    if args.batch is not None:
        from polpoctl import batch  # a start without it is quicker

        return batch.submit(args, params)
    submitted = connect(args).call("task.submit", params)
    screen = Screen(args)
    if screen.json:
        screen.value(submitted)
    else:
        screen.line(submitted["id"])
    return exits.OK
