"""`approval`: what waits for a person, and what that person says."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.budget import HELP, budget
from polpoctl.client import connect
from polpoctl.render import Screen
from polpoctl.times import ago

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from polpoctl.client import Connection

PAGE = 1000
HEADS = ("ID", "ABOUT", "KIND", "STATUS", "ASKED", "DEADLINE", "WHAT")


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="list", choices=("list", "show", "approve", "reject"),
        help="list: what waits (the default); show: one of them; approve: let it go on; reject: do not, or, with "
        "--feedback, have judged work done over",
    )  # fmt: skip
    parser.add_argument("id", metavar="ID", nargs="?", help="which: its id, or that of the task that waits")
    parser.add_argument("--all", action="store_true", help="for list: also what was decided")
    parser.add_argument("--feedback", metavar="TEXT", help="what who does the work shall know")
    parser.add_argument("--final", action="store_true", help="for reject: it is not done over, whatever the feedback")
    parser.add_argument(
        "--budget", metavar="BUDGET", type=budget,
        help=f"for approve: what it may spend in all: {HELP} (default: what was spent, doubled)",
    )  # fmt: skip


def run(args: Namespace) -> int:
    if (args.id is None) is not (args.verb == "list"):
        raise exits.usage("usage: polpoctl approval list, or polpoctl approval show|approve|reject ID")
    if (args.final and args.verb != "reject") or (args.budget is not None and args.verb != "approve"):
        raise exits.usage("--final is for reject, --budget for approve")
    if args.feedback is not None and args.verb not in ("approve", "reject"):
        raise exits.usage("--feedback is for approve and reject")
    connection, screen = connect(args), Screen(args)
    if args.verb == "list":
        _list(screen, list(_all(connection, every=args.all)))
        return exits.OK
    params = {"id": args.id}
    if args.feedback is not None:
        params["feedback"] = args.feedback
    if args.verb == "approve" and args.budget is not None:
        params["budget"] = args.budget
    if args.verb == "reject":
        params["final"] = args.final
    method = "get" if args.verb == "show" else args.verb
    _show(screen, connection.call(f"approval.{method}", params)["approval"])
    return exits.OK


def _all(connection: Connection, *, every: bool) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"limit": PAGE} | ({"status": None} if every else {})
    while True:
        page = connection.call("approval.list", asked)
        yield from page["approvals"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]


def _list(screen: Screen, found: list[dict[str, Any]]) -> None:
    if screen.json:
        screen.value(found)
        return
    now = time.time()
    rows = [_row(request, now, screen.terminal) for request in found]
    screen.table(HEADS, rows, state=3, flexible=6)


def _row(request: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    asked = ago(request["requested_at"], now) if terminal else request["requested_at"]
    what = request["message"] or request["gate_name"]
    return (
        *(request["id"], _about(request), request["kind"] or "", request["status"], asked),
        *(request["deadline"] or "", " ".join(what.split())),
    )


def _about(request: dict[str, Any]) -> str:
    for noun in ("task", "mission"):
        if request[f"{noun}_id"] is not None:
            return f"{noun} {request[f'{noun}_id']}"
    return f"project {request['project']}" if request["project"] is not None else ""


def _show(screen: Screen, request: dict[str, Any]) -> None:
    if screen.json:
        screen.value(request)
        return
    fields = [
        ("id", request["id"]),
        ("about", _about(request)),
        ("kind", request["kind"]),
        ("status", request["status"]),
    ]
    names = (
        "message", "gate_name", "requested_at", "deadline", "on_timeout", "timed_out_at", "resolved_at", "resolved_by",
        "feedback", "note",
    )  # fmt: skip
    fields += [(name.replace("_", " "), request[name]) for name in names if request[name]]
    screen.fields([(name, value) for name, value in fields if value])
