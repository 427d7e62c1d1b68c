"""`init`: make `.polpo/` with a polpo.json, to set things before the first start."""

from __future__ import annotations

import os

from polpoctl.executable import maintain

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", help="the directory for .polpo (default: --root, else this one)"
    )


def run(args: Namespace) -> int:
    maintain(args, "init", os.path.abspath(args.dir or args.root or "."))
