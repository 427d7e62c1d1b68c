"""`key`: keys of users, for programs; each is printed once, when it is made."""

from __future__ import annotations

from polpoctl import entries, exits
from polpoctl.times import instant

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "USER NAME, and prints the key, once", "USER NAME or ID")
    parser.add_argument("--expires", metavar="T", type=instant, help="for add: a time, or a duration from now")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        if len(words) != 2:
            raise exits.usage("usage: polpoctl key add USER NAME [--expires T]")
        return {"user": words[0], "name": words[1]} | ({"expires_at": args.expires} if args.expires else {})

    return entries.run(args, "key", ("id", "name", "user_id", "role", "expires_at"), add)
