"""`list`: what is not finished and what finished lately, or what the selectors say; read page by page."""

from __future__ import annotations

import time

from polpoctl import exits, selection
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen, notice
from polpoctl.times import ago, seconds_of, short

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from polpoctl.client import Connection

PAGE = 1000
"""Tasks asked for at once; the most that polpod gives."""

SCREENFUL = 200
"""Tasks shown on a terminal unless --limit says otherwise: nobody reads a table of thousands."""


def options(parser: ArgumentParser) -> None:
    selection.options(parser)
    parser.add_argument("--all", action="store_true", help="also what finished long ago")
    parser.add_argument(
        "--limit", metavar="N", type=positive, help=f"at most N tasks; on a terminal {SCREENFUL} by default"
    )


def run(args: Namespace) -> int:
    screen = Screen(args)
    if args.limit is None and screen.terminal and not screen.json:
        args.limit = SCREENFUL
    tasks = list(_pages(connect(args), args))
    more = args.limit is not None and len(tasks) > args.limit
    tasks = tasks[: args.limit]
    if screen.json:
        screen.value(tasks)
        return exits.OK
    now = time.time()
    row = _row if screen.terminal else _plain_row
    heads = ("ID", "STATE", "QUEUE", "SUBMITTED", "TOOK", "TITLE")
    screen.table(heads, [row(task, now) for task in tasks], state=1)
    if more:
        notice(f"there are more than these {args.limit}; --limit N shows more")
    return exits.OK


def _pages(connection: Connection, args: Namespace) -> Iterator[dict[str, Any]]:
    """The tasks, one more than the limit where there are more."""
    wanted = None if args.limit is None else args.limit + 1
    asked: dict[str, Any] = {"all": args.all, "select": selection.selector(args)}
    while wanted is None or wanted > 0:
        page = connection.call("task.list", asked | {"limit": PAGE if wanted is None else min(PAGE, wanted)})
        yield from page["tasks"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]
        if wanted is not None:
            wanted -= len(page["tasks"])


def _row(task: dict[str, Any], now: float) -> tuple[str, ...]:
    took = _took(task, now)
    return task["id"], task["state"], task["queue"], ago(task["created_at"], now), short(took), task["title"]


def _plain_row(task: dict[str, Any], now: float) -> tuple[str, ...]:
    took = _took(task, now)
    seconds = "" if took is None else f"{took:.3f}"
    return task["id"], task["state"], task["queue"], task["created_at"], seconds, task["title"]


def _took(task: dict[str, Any], now: float) -> float | None:
    """Seconds of the run that decided, or of the one that goes on."""
    if task["result"] is not None and task["status"] != "in_progress":
        duration: float | None = task["result"]["duration"]
        return duration
    if task["status"] == "in_progress" and task["started_at"] is not None:
        return max(0.0, now - seconds_of(task["started_at"]))
    return None
