"""`config`: show, check and change polpo.json, with or without a daemon."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.executable import maintain

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_TAKES: dict[str, tuple[str, ...]] = {"show": (), "get": ("KEY",), "set": ("KEY", "VALUE"), "check": ()}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("verb", choices=tuple(_TAKES), help="what to do")
    parser.add_argument(
        "words", metavar="KEY [VALUE]", nargs="*", help="for get: KEY; for set: KEY VALUE, or - to read it from stdin"
    )


def run(args: Namespace) -> int:
    if len(args.words) != len(_TAKES[args.verb]):
        raise exits.usage(f"usage: polpoctl config {' '.join([args.verb, *_TAKES[args.verb]])}")
    maintain(args, "config", args.verb, *args.words)
