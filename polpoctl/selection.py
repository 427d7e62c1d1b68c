"""Selectors: which tasks a command is about, the same for every command that takes several (DESIGN §10)."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.parsers import pair

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    """Add the selectors; what is given must all hold of a task."""
    parser.add_argument("ids", metavar="ID", nargs="*", help="ids, and ranges such as 5-9")
    parser.add_argument("--queue", metavar="NAME", help="tasks of this queue")
    parser.add_argument("--label", metavar="K=V", type=pair, action="append", default=[], help="tasks with this label")
    parser.add_argument("--status", metavar="WORD", action="append", help="tasks in this status; may be repeated")
    parser.add_argument("--project", metavar="NAME", help="tasks of this project")


def selector(args: Namespace) -> dict[str, Any]:
    """What the options say, as the wire's Selector; empty when they say nothing."""
    said = {
        "ids": args.ids,
        "queue": args.queue,
        "labels": dict(args.label),
        "status": args.status,
        "project": args.project,
    }
    return {name: value for name, value in said.items() if value}


def required(args: Namespace) -> dict[str, Any]:
    """As `selector`.  Raises Failure when the options say nothing: no command changes everything by accident."""
    said = selector(args)
    if not said:
        raise exits.usage("which tasks? name ids, or --queue, --label, --status, --project")
    return said
