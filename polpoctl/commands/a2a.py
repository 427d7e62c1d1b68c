"""`a2a`: the tasks that agents send each other; one of them with what was said; giving one to an agent; forgetting some."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen, notice
from polpoctl.times import ago
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from typing import Any

    from polpoctl.client import Connection

PAGE = 100
HEADS = ("ID", "STATE", "CALLER", "MESSAGES", "ARTIFACTS", "UPDATED")


WORDS: dict[str, Callable[[int], bool]] = {
    "list": lambda number: number == 0,
    "show": lambda number: number == 1,
    "assign": lambda number: number == 2,
    "remove": lambda number: number > 0,
}
"""How many each verb takes."""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="list", choices=("list", "show", "assign", "remove"),
        help="list: the newest first (the default); show: one with what was said; "
        "assign: let an agent work on what its user said last, and print the id of that task; remove: forget some",
    )  # fmt: skip
    parser.add_argument(
        "ids", metavar="ID", nargs="*", help="for show and remove: which; for assign: which, and the agent"
    )
    parser.add_argument("--limit", metavar="N", type=positive, default=100, help="for list: at most N (default: 100)")


def run(args: Namespace) -> int:
    if not WORDS[args.verb](len(args.ids)):
        raise exits.usage("usage: polpoctl a2a list, a2a show ID, a2a assign ID AGENT, or a2a remove ID…")
    connection = connect(args)
    if args.verb == "remove":
        return _remove(connection, args.ids)
    screen = Screen(args)
    if args.verb == "assign":
        _assign(screen, connection, *args.ids)
    elif args.verb == "show":
        _show(screen, connection, args.ids[0])
    else:
        _list(screen, connection, args.limit)
    return exits.OK


def _list(screen: Screen, connection: Connection, limit: int) -> None:
    found: list[dict[str, Any]] = []
    asked: dict[str, Any] = {}
    while len(found) < limit:
        page = connection.call("a2a.list", asked | {"limit": min(PAGE, limit - len(found))})
        found += page["tasks"]
        if page["next"] is None:
            break
        asked["before"] = page["next"]
    if screen.json:
        screen.value(found)
        return
    now = time.time()
    screen.table(HEADS, [_row(task, now, screen.terminal) for task in found], state=1, flexible=0)


def _row(task: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    updated = ago(task["updated_at"], now) if terminal else task["updated_at"]
    messages, artifacts = str(task["messages"]), str(task["artifacts"])
    return task["id"], task["state"], task["caller_id"] or "", messages, artifacts, updated


def _show(screen: Screen, connection: Connection, task_id: str) -> None:
    stored = connection.call("a2a.get", {"id": task_id})["stored"]
    if stored is None:
        raise exits.Failure(f"there is no A2A task {task_id}", exits.NOT_FOUND)
    if screen.json:
        screen.value(stored)
        return
    task, push = stored["task"], stored["push_notification"]
    fields = [
        ("id", stored["id"]),
        ("state", task["status"]["state"]),
        ("caller", stored["caller_id"] or "-"),
        ("session", task["sessionId"] or "-"),
        ("created", stored["created_at"]),
        ("updated", stored["updated_at"]),
    ]
    if push is not None:
        fields.append(("push", push["url"]))
    fields += [(message["role"], _said(message["parts"])) for message in task["history"] or ()]
    fields += [(f"artifact {a['index']}", _said(a["parts"])) for a in task["artifacts"] or ()]
    screen.fields(fields)


def _assign(screen: Screen, connection: Connection, task_id: str, agent: str) -> None:
    assigned = connection.call("a2a.assign", {"id": task_id, "agent": agent})
    if screen.json:
        screen.value(assigned)
    else:
        screen.line(assigned["task_id"])


def _said(parts: list[dict[str, Any]]) -> str:
    """The texts, and where there was something else."""
    return " ".join(part["text"] if part["type"] == "text" else f"({part['type']})" for part in parts)


def _remove(connection: Connection, ids: list[str]) -> int:
    answers = list(connection.call_many(("a2a.remove", {"id": task_id}) for task_id in ids))
    refused = [answer for answer in answers if isinstance(answer, RemoteError)]
    for error in refused:
        notice(str(error))
    return exits.of_errors(refused, len(ids))
