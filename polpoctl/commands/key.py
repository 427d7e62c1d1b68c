"""`key`: keys of users, for browsers and programs from afar; each is printed once, when it is made."""

from __future__ import annotations

from polpoctl import entries, exits
from polpoctl.client import connect
from polpoctl.render import Screen, notice
from polpoctl.times import instant
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


ROLES = ("admin", "operator", "observer")


def options(parser: ArgumentParser) -> None:
    entries.options(
        parser, "USER NAME, and prints the key, once", "USER NAME or ID",
        others={"create": "as add", "revoke": "let some be worth nothing from now on"},
    )  # fmt: skip
    parser.add_argument("--role", choices=ROLES, help="for add: what it may (default: what its user may)")
    parser.add_argument("--expires", metavar="T", type=instant, help="for add: a time, or a duration from now")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        if len(words) != 2:
            raise exits.usage("usage: polpoctl key add USER NAME [--expires T]")
        said = {"user": words[0], "name": words[1], "expires_at": args.expires, "role": args.role}
        return {name: value for name, value in said.items() if value is not None}

    if args.verb == "create":
        args.verb = "add"
    if args.verb == "revoke":
        return _revoke(args)
    columns = ("id", "name", "user_id", "role", "expires_at", "revoked", "last_used_at")
    return entries.run(args, "key", columns, add)


def _revoke(args: Namespace) -> int:
    if not args.words:
        raise exits.usage("which key? polpoctl key list shows them")
    connection, screen = connect(args), Screen(args)
    answers = list(connection.call_many(("key.revoke", {"id": word}) for word in args.words))
    refused = [answer for answer in answers if isinstance(answer, RemoteError)]
    if screen.json:
        screen.value([answer["key"] for answer in answers if not isinstance(answer, RemoteError)])
    for error in refused:
        notice(str(error))
    return exits.of_errors(refused, len(args.words))
