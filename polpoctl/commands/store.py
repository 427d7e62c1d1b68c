"""`store`: look after what is stored; `prune` forgets what is over, as polpod does by itself every hour."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen, notice

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

WORDS = {"tasks": "tasks", "runs": "runs", "log_bytes": "bytes of logs", "specs": "specs", "events": "events"}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=("prune",), help="prune: forget what `settings.retention` lets go")
    parser.add_argument("--dry-run", action="store_true", help="only say how much that is")


def run(args: Namespace) -> int:
    connection = connect(args)
    pruned = dict.fromkeys(WORDS, 0)
    more = True
    while more:
        answer = connection.call("store.prune", {"dry_run": args.dry_run})
        pruned = {name: number + answer[name] for name, number in pruned.items()}
        more = answer["more"] and not args.dry_run
    if answer["more"]:
        notice("it is more than this: there was no time to count the rest")
    screen = Screen(args)
    if screen.json:
        screen.value(pruned)
    else:
        screen.fields([(word, str(pruned[name])) for name, word in WORDS.items()])
    return exits.OK
