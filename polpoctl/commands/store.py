"""`store`: look after what is stored: check the databases, go back to a backup, save what can be read; forget what is over."""

from __future__ import annotations

import os

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.executable import maintain
from polpoctl.place import locate
from polpoctl.render import Screen, notice

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import NoReturn

_TAKES = {"check": "[DIR]", "restore": "DIR", "salvage": "", "prune": "", "copy": ""}
_NUMBERS = {"[DIR]": (0, 1), "DIR": (1,), "": (0,)}

WORDS = {
    "tasks": "tasks",
    "runs": "runs",
    "log_bytes": "bytes of logs",
    "specs": "specs",
    "events": "events",
    "records": "records",
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb",
        choices=tuple(_TAKES),
        help="check: say what is wrong, and what to do next; restore: put a backup in place, and keep what was there; "
        "salvage: save what can be read of a damaged database, and keep the damaged file; "
        "prune: forget what `settings.retention` lets go, as polpod does by itself every hour; "
        "copy: everything but runs into another backend, compared row by row",
    )
    parser.add_argument("words", metavar="DIR", nargs="*", help="for restore, and for check: the directory of a backup")
    parser.add_argument(
        "--to",
        choices=("sqlite", "file", "postgres"),
        help="for copy: which backend; PostgreSQL's database is `databaseUrl` of polpo.json, or $DATABASE_URL",
    )
    parser.add_argument("--dry-run", action="store_true", help="for prune: only say how much that is")


def run(args: Namespace) -> int:
    takes = _TAKES[args.verb]
    if len(args.words) not in _NUMBERS[takes]:
        raise exits.usage(f"usage: polpoctl store {args.verb} {takes}".rstrip())
    if args.dry_run and args.verb != "prune":
        raise exits.usage("--dry-run is for prune")
    if (args.to is not None) != (args.verb == "copy"):
        raise exits.usage("usage: polpoctl store copy --to BACKEND")
    return _prune(args) if args.verb == "prune" else _work_on_files(args)


def _work_on_files(args: Namespace) -> NoReturn:
    locate(args)
    words = map(os.path.abspath, args.words) if args.to is None else ("--to", args.to)
    maintain(args, args.verb, *words)


def _prune(args: Namespace) -> int:
    connection = connect(args)
    pruned = dict.fromkeys(WORDS, 0)
    more = True
    while more:
        answer = connection.call("store.prune", {"dry_run": args.dry_run})
        pruned = {name: number + answer.get(name, 0) for name, number in pruned.items()}
        more = answer["more"] and not args.dry_run
    if answer["more"]:
        notice("it is more than this: there was no time to count the rest")
    screen = Screen(args)
    if screen.json:
        screen.value(pruned)
    else:
        screen.fields([(word, str(pruned[name])) for name, word in WORDS.items()])
    return exits.OK
