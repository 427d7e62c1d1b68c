"""`mission`: graphs of tasks: store them, carry them out, look at them, hold and let go."""

from __future__ import annotations

import sys
import time

from polpoctl import exits, missions
from polpoctl.client import Lasting, connect
from polpoctl.conversation import FOR_EVER, RECONNECT, TimeRanOut
from polpoctl.follow import LONG_POLL
from polpoctl.parsers import amount, positive
from polpoctl.render import Screen, notice
from polpoctl.times import ago, duration, instant, local, short

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator
    from typing import Any

    from polpoctl.client import Connection

PAGE = 1000

VERBS = {
    "list": "all missions, the newest first (the default)",
    "create": "store one, from a document in JSON or TOML, and print its id; with --execute carry it out, too",
    "show": "one with its tasks, and what holds them back",
    "document": "its document, as it was given",
    "execute": "carry it out: all its tasks are there at once, or none",
    "executions": "how it went each time",
    "wait": "until it is over, or needs a person",
    "watch": "see it go on, until it is over",
    "graph": "a picture of it",
    "pause": "start nothing more of it",
    "resume": "let it go on, through the checkpoint that was reached",
    "abort": "cancel what of it is not over",
    "delete": "forget it, with its tasks",
}
OF_ONE = {verb for verb in VERBS if verb not in ("list", "create")}


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="list", choices=tuple(VERBS), metavar="VERB",
        help="; ".join(f"{verb}: {what}" for verb, what in VERBS.items()),
    )  # fmt: skip
    parser.add_argument("mission", metavar="MISSION", nargs="?", help="its id or its name; for create: its name")
    parser.add_argument("--file", metavar="DOC", help="for create: the document; - (the default) is stdin")
    parser.add_argument("--execute", action="store_true", help="for create: carry it out at once")
    parser.add_argument("--prompt", metavar="TEXT", help="for create: what it is for")
    parser.add_argument("--deadline", metavar="T", type=instant, help="for create: when it should be over")
    parser.add_argument(
        "--quality-threshold", metavar="N", type=amount, help="for create: the mean score, 1 to 5, that it needs"
    )
    parser.add_argument(
        "--barrier", "--checkpoint", "--gate", metavar="NAME",
        help="for resume: let through this gate, checkpoint or delay, and no other",
    )  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true", help="for resume: try again what failed")
    parser.add_argument("--execution", metavar="N", type=positive, help="for show: this one, rather than the last")
    parser.add_argument(
        "--format", choices=("text", "dot", "svg"), default="text", help="for graph: as what (default: text)"
    )
    parser.add_argument("--timeout", metavar="D", type=duration, help="for wait: at most so long; then exit 124")
    parser.add_argument("--keep-waiting", action="store_true", help="for wait: also while it needs a person")


def run(args: Namespace) -> int:
    if args.verb in OF_ONE and args.mission is None:
        raise exits.usage(f"which mission? polpoctl mission {args.verb} MISSION; polpoctl mission list shows them")
    if args.verb == "list" and args.mission is not None:
        raise exits.usage(f"usage: polpoctl mission list, or polpoctl mission show {args.mission}")
    command = _COMMANDS[args.verb]
    return command(args, connect(args), Screen(args))


def _list(args: Namespace, connection: Connection, screen: Screen) -> int:
    found = list(_all(connection))
    if screen.json:
        screen.value(found)
        return exits.OK
    now = time.time()
    heads = ("ID", "NAME", "STATUS", "RUNS", "TASKS", "NEXT", "UPDATED")
    screen.table(heads, [_row(mission, now, screen.terminal) for mission in found], state=2, flexible=1)
    return exits.OK


def _all(connection: Connection) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"limit": PAGE}
    while True:
        page = connection.call("mission.list", asked)
        yield from page["missions"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]


def _row(mission: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    counts = " ".join(f"{number} {stage}" for stage, number in mission["tasks"].items())
    following, updated = mission["next_at"] or "", mission["updated_at"]
    if terminal:
        following, updated = ago(mission["next_at"], now), ago(updated, now)
    number = str(mission["execution_count"])
    return mission["id"], mission["name"], mission["status"], number, counts, following, updated


def _create(args: Namespace, connection: Connection, screen: Screen) -> int:
    asked = {
        "document": missions.document(args.file or "-"),
        "name": args.mission,
        "prompt": args.prompt,
        "deadline": args.deadline,
        "quality_threshold": args.quality_threshold,
    }
    made = connection.call("mission.create", {name: value for name, value in asked.items() if value is not None})
    if args.execute:
        made |= {"execution": connection.call("mission.execute", {"id": made["id"]})["execution"]}
    if screen.json:
        screen.value(made)
    else:
        screen.line(made["id"])
    return exits.OK


def _show(args: Namespace, connection: Connection, screen: Screen) -> int:
    whole = missions.whole(connection, args.mission, args.execution)
    if screen.json:
        screen.value(whole)
    else:
        missions.show(screen, whole, time.time())
    return exits.OK


def _document(args: Namespace, connection: Connection, screen: Screen) -> int:
    text = connection.call("mission.document", {"id": args.mission})["document"]
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return exits.OK


def _execute(args: Namespace, connection: Connection, screen: Screen) -> int:
    made = connection.call("mission.execute", {"id": args.mission})
    if screen.json:
        screen.value(made)
    else:
        screen.line(made["execution"]["id"])
    return exits.OK


def _executions(args: Namespace, connection: Connection, screen: Screen) -> int:
    found = connection.call("mission.executions", {"id": args.mission})["executions"]
    if screen.json:
        screen.value(found)
        return exits.OK
    when = local if screen.terminal else str
    rows = [
        (x["id"], x["status"], x["trigger"], when(x["started_at"]), _took(x), x["reason"] or "")
        for x in found
    ]  # fmt: skip
    screen.table(("ID", "STATUS", "BY", "STARTED", "TOOK", "WHY"), rows, state=1)
    return exits.OK


def _took(execution: dict[str, Any]) -> str:
    if execution["finished_at"] is None:
        return ""
    return short(missions.seconds_between(execution["started_at"], execution["finished_at"]))


def _wait(args: Namespace, connection: Connection, screen: Screen) -> int:
    until = FOR_EVER if args.timeout is None else time.monotonic() + args.timeout
    daemon = Lasting(connection, FOR_EVER if args.keep_waiting else RECONNECT)
    asked: dict[str, Any] = {"id": args.mission, "keep_waiting": args.keep_waiting}
    while True:
        left = max(0.0, min(LONG_POLL, until - time.monotonic()))
        try:
            answer = daemon.call("mission.wait", asked | {"timeout": left}, until)
        except TimeRanOut:
            notice("time ran out while polpod was away")
            return exits.TIMED_OUT
        if answer["finished"]:
            break
        if time.monotonic() >= until:
            notice(f"time ran out; execution {answer['execution']['id']} is {answer['execution']['status']}")
            return exits.TIMED_OUT
    execution = answer["execution"]
    if screen.json:
        screen.value(execution)
    else:
        screen.table(
            ("EXECUTION", "STATUS", "WHY"), [(execution["id"], execution["status"], execution["reason"] or "")], state=1
        )
    return missions.BY_STATUS[execution["status"]]


def _watch(args: Namespace, connection: Connection, screen: Screen) -> int:
    return missions.watch(Lasting(connection), screen, args.mission)


def _graph(args: Namespace, connection: Connection, screen: Screen) -> int:
    graph = connection.call("mission.graph", {"id": args.mission})
    if screen.json:
        screen.value(graph)
        return exits.OK
    from polpoctl import pictures

    draw = {"text": pictures.text, "dot": pictures.dot, "svg": pictures.svg}[args.format]
    sys.stdout.write(draw(graph))
    return exits.OK


def _call(method: str, *fields: str) -> Callable[[Namespace, Connection, Screen], int]:
    """A verb that is one call, with these options as further parameters."""

    def command(args: Namespace, connection: Connection, screen: Screen) -> int:
        given = {field: value for field in fields if (value := getattr(args, field))}
        answer = connection.call(method, {"id": args.mission} | given)
        if screen.json:
            screen.value(answer)
        return exits.OK

    return command


_COMMANDS = {
    "list": _list,
    "create": _create,
    "show": _show,
    "document": _document,
    "execute": _execute,
    "executions": _executions,
    "wait": _wait,
    "watch": _watch,
    "graph": _graph,
    "pause": _call("mission.pause"),
    "resume": _call("mission.resume", "barrier", "retry_failed"),
    "abort": _call("mission.abort"),
    "delete": _call("mission.delete"),
}
