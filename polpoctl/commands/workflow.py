"""`workflow`: definitions of workflows, as JSON."""

from __future__ import annotations

from polpoctl import entries

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "[FILE], a definition as JSON from the file or stdin", "FILE or ID")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        text = entries.one_file(words, "usage: polpoctl workflow add [FILE]")
        return {"definition": entries.json_object(text, words[0] if words else "stdin")}

    return entries.run(args, "workflow", ("id", "name", "workflow_type", "version", "updated_at"), add)
