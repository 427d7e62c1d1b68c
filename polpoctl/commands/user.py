"""`user`: people, as agents' organisation knows them."""

from __future__ import annotations

from polpoctl import entries, exits

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

ROLES = ("ceo", "manager", "board_member", "pair_programmer", "observer")


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "NAME", "NAME or ID")
    parser.add_argument(
        "--role", metavar="ROLE", choices=ROLES, help=f"for add: one of {', '.join(ROLES)} (default: observer)"
    )  # fmt: skip


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        if len(words) != 1:
            raise exits.usage("usage: polpoctl user add NAME [--role ROLE]")
        return {"username": words[0]} | ({"role": args.role} if args.role else {})

    return entries.run(args, "user", ("id", "username", "role", "created_at"), add)
