"""`stats`: how many runs there were, how they ended, and what they took."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen
from polpoctl.sizes import short as short_size
from polpoctl.times import short, since

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_HEADS = ("RUNS", "DONE", "MEDIAN", "P95", "CPU", "MEMORY", "USD")


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--by", choices=("queue", "agent", "project", "label"), default="queue", help="a line for each (default: queue)"
    )
    parser.add_argument(
        "--since", metavar="D", type=since, help="of runs that ended since a time, or in the last D, such as 7d"
    )


def run(args: Namespace) -> int:
    asked = {"by": args.by} | ({} if args.since is None else {"since": args.since})
    stats = connect(args).call("stats.runs", asked)
    screen = Screen(args)
    if screen.json:
        screen.value(stats)
        return exits.OK
    groups = [*stats["groups"], *([stats["total"] | {"group": "all"}] if len(stats["groups"]) > 1 else [])]
    row = _row if screen.terminal else _plain_row
    screen.table((args.by.upper(), *_HEADS), [row(group) for group in groups], flexible=0)
    return exits.OK


def _row(group: dict[str, Any]) -> tuple[str, ...]:
    times = short(group["median_duration"]), short(group["p95_duration"]), short(group["cpu_seconds"])
    done = f"{group['success_rate']:.0%}"
    usd = f"{group['cost_usd']:.2f}"
    memory = "" if group["peak_memory"] is None else short_size(group["peak_memory"])
    return group["group"] or "-", str(group["count"]), done, *times, memory, usd


def _plain_row(group: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{group[name]:.3f}" for name in ("median_duration", "p95_duration", "cpu_seconds"))
    rate, usd = f"{group['success_rate']:.4f}", f"{group['cost_usd']:.4f}"
    memory = "" if group["peak_memory"] is None else str(group["peak_memory"])
    return group["group"], str(group["count"]), rate, *times, memory, usd
