"""`preset`: settings of agents under a name, as JSON."""

from __future__ import annotations

from polpoctl import entries, exits

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "NAME [FILE], JSON from the file or stdin", "NAME [FILE]")
    parser.add_argument("--description", metavar="TEXT", help="for add")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        usage = "usage: polpoctl preset add NAME [FILE] [--description TEXT]"
        if not words:
            raise exits.usage(usage)
        config = entries.one_file(words[1:], usage)
        entries.json_object(config, words[1] if words[1:] else "stdin")
        return {"name": words[0], "config_json": config, "description": args.description or ""}

    return entries.run(args, "preset", ("name", "description", "updated_at"), add)
