"""`checkpoint`: a job saves where it can be resumed, and the next run of its task finds it."""

from __future__ import annotations

from polpoctl import entries, exits
from polpoctl.client import connect
from polpoctl.render import Screen

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", choices=("save", "get"),
        help="save: keep a JSON object, from FILE or stdin; get: print the last one that any run of the task saved "
        "(exit code 3: there is none)",
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", nargs="?", help="for save: instead of stdin")
    parser.add_argument("--task", metavar="ID", help="for get: of this task (default: the task of the run that asks)")


def run(args: Namespace) -> int:
    screen = Screen(args)
    if args.verb == "save":
        if args.task is not None:
            raise exits.usage("a checkpoint is saved from inside a run, for its own task")
        text = entries.one_file([args.file] if args.file else [], "")
        entries.json_object(text, args.file or "stdin")
        answer = connect(args).call("checkpoint.save", {"context_json": text})
        if screen.json:
            screen.value(answer)
        return exits.OK
    if args.file is not None:
        raise exits.usage("usage: polpoctl checkpoint get [--task ID]")
    found = connect(args).call("checkpoint.get", {} if args.task is None else {"task_id": args.task})["checkpoint"]
    if screen.json:
        screen.value(found)
    elif found is not None:
        screen.line(found["context_json"].rstrip("\n"))
    return exits.OK if found is not None else exits.NOT_FOUND
