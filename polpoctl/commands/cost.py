"""`cost`: note what a call of a model cost, and see what was spent."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import count, price
from polpoctl.render import Screen
from polpoctl.times import since

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_HEADS = ("CALLS", "USD", "IN", "OUT")


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="report", choices=("add", "report"),
        help="add: note a call, for the task of the run that asks; report: what was spent (the default)",
    )  # fmt: skip
    parser.add_argument("--usd", metavar="N", type=price, help="for add: what it cost")
    parser.add_argument("--provider", metavar="P", help="for add: who was paid")
    parser.add_argument("--model", metavar="M", help="for add: which model")
    parser.add_argument("--in", metavar="N", dest="input", type=count, default=0, help="for add: tokens that went in")
    parser.add_argument(
        "--out", metavar="N", dest="output", type=count, default=0, help="for add: tokens that came out"
    )
    parser.add_argument("--task", metavar="ID", help="for add: of this task, outside of a run")
    parser.add_argument("--by", choices=("agent", "task", "day"), default="agent", help="for report (default: agent)")
    parser.add_argument("--since", metavar="D", type=since, help="for report: a time, or how long ago, such as 7d")


def run(args: Namespace) -> int:
    screen = Screen(args)
    if args.verb == "add":
        if None in (args.usd, args.provider, args.model):
            raise exits.usage("usage: polpoctl cost add --usd N --provider P --model M [--in N] [--out N]")
        said: dict[str, Any] = {
            "usd": args.usd, "provider": args.provider, "model": args.model, "input_tokens": args.input,
            "output_tokens": args.output,
        }  # fmt: skip
        answer = connect(args).call("cost.add", said | ({} if args.task is None else {"task_id": args.task}))
        if screen.json:
            screen.value(answer["cost"])
        return exits.OK
    asked = {"by": args.by} | ({} if args.since is None else {"since": args.since})
    costs = connect(args).call("cost.report", asked)["costs"]
    if screen.json:
        screen.value(costs)
    else:
        screen.table((args.by.upper(), *_HEADS), [_row(spent) for spent in costs], flexible=0)
    return exits.OK


def _row(spent: dict[str, Any]) -> tuple[str, ...]:
    tokens = str(spent["input_tokens"]), str(spent["output_tokens"])
    return spent["group"], str(spent["calls"]), f"{spent['usd']:.4f}", *tokens
