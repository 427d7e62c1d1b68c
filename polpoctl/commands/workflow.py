"""`workflow`: definitions of workflows, as JSON; carrying one out, and how that went."""

from __future__ import annotations

from polpoctl import entries, exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


SAVED = "[FILE], what show --json printed, changed: it becomes the next version, if nobody else was faster"

OTHERS = {
    "execute": "carry it out as a mission of its name, and print the id of this execution",
    "executions": "how all were carried out, or one of them",
}
HEADS = ("ID", "WORKFLOW", "VERSION", "STATUS", "TASKS", "PROJECT", "UPDATED")


def options(parser: ArgumentParser) -> None:
    entries.options(parser, "[FILE], a definition as JSON from the file or stdin", "FILE or ID", SAVED, OTHERS)
    parser.add_argument("--project", metavar="NAME", help="for execute: whose work it is (default: that of polpo.json)")


def run(args: Namespace) -> int:
    if args.project is not None and args.verb != "execute":
        raise exits.usage("--project is for polpoctl workflow execute")
    if args.verb in OTHERS:
        return _execute(args) if args.verb == "execute" else _executions(args)

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


def _execute(args: Namespace) -> int:
    if len(args.words) != 1:
        raise exits.usage("usage: polpoctl workflow execute ID [--project NAME]")
    connection, screen = connect(args), Screen(args)
    answer = connection.call("workflow.execute", {"id": args.words[0], "project": args.project})
    if screen.json:
        screen.value(answer)
    else:
        screen.line(answer["execution"]["id"])
    return exits.OK


def _executions(args: Namespace) -> int:
    if len(args.words) > 1:
        raise exits.usage("usage: polpoctl workflow executions [ID]")
    connection, screen = connect(args), Screen(args)
    asked = {"workflow": args.words[0]} if args.words else {}
    found = connection.call("workflow_execution.list", asked)["workflow_executions"]
    if screen.json:
        screen.value(found)
    else:
        screen.table(HEADS, [_row(execution) for execution in found], state=3)
    return exits.OK


def _row(execution: dict[str, Any]) -> tuple[str, ...]:
    tasks = [node["status"] for node in execution["node_executions"] if node["task_id"]]
    over = f"{tasks.count('task_completed')}/{len(tasks)}"
    return (
        execution["id"], execution["definition_id"], str(execution["definition_version"]), execution["status"], over,
        execution["project"], execution["updated_at"],
    )  # fmt: skip
