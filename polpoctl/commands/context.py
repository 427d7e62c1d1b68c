"""`context`: executions of agents that wait for an approval, each with its context as JSON."""

from __future__ import annotations

from polpoctl import entries, exits

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    words = "AGENT EXECUTION APPROVAL [FILE]"
    entries.options(parser, f"{words}, JSON from the file or stdin", words)
    parser.add_argument("--task", metavar="ID", help="for add: the task that it is about")


def run(args: Namespace) -> int:
    def add(words: list[str]) -> dict[str, Any]:
        usage = "usage: polpoctl context add AGENT EXECUTION APPROVAL [FILE] [--task ID]"
        if len(words) < 3:
            raise exits.usage(usage)
        named = dict(zip(("agent_id", "execution_id", "approval_id"), words, strict=False))
        about = {} if args.task is None else {"task_id": args.task}
        return {**named, **about, "context_json": entries.one_file(words[3:], usage)}

    return entries.run(args, "context", ("id", "agent_id", "approval_id", "task_id", "parked_at"), add)
