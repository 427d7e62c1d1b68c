"""`project`: what tasks are done for."""

from __future__ import annotations

from polpoctl import entries, exits
from polpoctl.parsers import price

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "ID [NAME]", "ID [NAME]")
    parser.add_argument("--description", metavar="TEXT", help="for add")
    parser.add_argument("--lead", metavar="NAME", help="for add: who leads it")
    parser.add_argument("--member", metavar="NAME", action="append", help="for add: who works at it; may be repeated")
    parser.add_argument("--budget", metavar="USD", type=price, help="for add")
    parser.add_argument("--deadline", metavar="DATE", help="for add: as in ISO 8601")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        if not 1 <= len(words) <= 2:
            raise exits.usage("usage: polpoctl project add ID [NAME]")
        said = {
            "name": words[1] if words[1:] else None, "description": args.description, "lead": args.lead,
            "team": args.member, "budget": args.budget, "deadline": args.deadline,
        }  # fmt: skip
        return {"id": words[0]} | {name: value for name, value in said.items() if value is not None}

    return entries.run(args, "project", ("id", "name", "status", "lead", "budget"), add)
