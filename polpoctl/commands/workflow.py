"""`workflow`: definitions of workflows, as JSON."""

from __future__ import annotations

from polpoctl import entries, exits

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


SAVED = "[FILE], what show --json printed, changed: it becomes the next version, if nobody else was faster"


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "[FILE], a definition as JSON from the file or stdin", "FILE or ID", SAVED)


def run(args: Namespace) -> int:
    def definition(words: list[str]) -> dict[str, Any]:
        text = entries.one_file(words, f"usage: polpoctl workflow {args.verb} [FILE]")
        return entries.json_object(text, words[0] if words else "stdin")

    def add(words: list[str]) -> dict[str, Any]:
        return {"definition": definition(words)}

    def save(words: list[str]) -> dict[str, Any]:
        changed = definition(words)
        if missing := {"id", "version"} - changed.keys():
            raise exits.usage(f"no {min(missing)}: save takes what polpoctl workflow show --json printed")
        return {"id": changed["id"], "version": changed["version"], "definition": changed}

    return entries.run(args, "workflow", ("id", "name", "workflow_type", "version", "updated_at"), add, save)
