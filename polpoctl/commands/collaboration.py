"""`collaboration`: how well agents work together, as JSON."""

from __future__ import annotations

from polpoctl import entries, exits

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "AGENT [FILE], what was measured as JSON from the file or stdin", "AGENT [FILE]")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        usage = "usage: polpoctl collaboration add AGENT [FILE]"
        if not words:
            raise exits.usage(usage)
        measured = entries.json_object(entries.one_file(words[1:], usage), words[1] if words[1:] else "stdin")
        return measured | {"agent_id": words[0]}

    return entries.run(args, "collaboration", ("id", "agent_id", "recorded_at", "interaction_summary"), add)
