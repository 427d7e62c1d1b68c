"""`store`: the databases as files: check them beside a polpod that runs; restore or salvage them without one."""

from __future__ import annotations

import os

from polpoctl import exits
from polpoctl.executable import maintain
from polpoctl.place import locate

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_TAKES: dict[str, tuple[str, ...]] = {"check": (), "restore": ("DIR",), "salvage": ()}


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb",
        choices=tuple(_TAKES),
        help="check: say what is wrong, and what to do next; restore: put a backup in place, and keep what was there; "
        "salvage: save what can be read of a damaged database, and keep the damaged file",
    )
    parser.add_argument("words", metavar="DIR", nargs="*", help="for restore: the directory of a backup")


def run(args: Namespace) -> int:
    if len(args.words) != len(_TAKES[args.verb]):
        raise exits.usage(f"usage: polpoctl store {' '.join([args.verb, *_TAKES[args.verb]])}")
    locate(args)
    maintain(args, args.verb, *map(os.path.abspath, args.words))
