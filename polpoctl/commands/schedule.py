"""`schedule`: when missions are carried out by themselves."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen, notice
from polpoctl.times import ago, instant

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from polpoctl.client import Connection

PAGE = 1000
MOST_TIMES = 1000

VERBS = {
    "list": "all schedules (the default)",
    "show": "one, with what became of it last",
    "set": "carry the mission out at these times, from now on",
    "next": "the times that are to come",
    "enable": "let it go on from now",
    "disable": "let nothing of it happen",
    "remove": "carry the mission out by itself no more",
}
HEADS = ("MISSION", "NEXT", "EXPRESSION", "TIMEZONE", "LAST", "OUTCOME")


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="list", choices=tuple(VERBS), metavar="VERB",
        help="; ".join(f"{verb}: {what}" for verb, what in VERBS.items()),
    )  # fmt: skip
    parser.add_argument("mission", metavar="MISSION", nargs="?", help="its id or its name")
    parser.add_argument(
        "expression", metavar="EXPR", nargs="*",
        help="for set: five fields as in a crontab, quoted, such as '30 2 * * mon-fri'; or an instant, ISO 8601",
    )  # fmt: skip
    parser.add_argument("--timezone", metavar="ZONE", help="for set: by whose clock (default: the host's)")
    often = parser.add_mutually_exclusive_group()
    often.add_argument(
        "--recurring", action="store_true", default=None, help="for set: each time (what a crontab's fields are)"
    )
    often.add_argument("--once", action="store_false", dest="recurring", help="for set: the next time alone")
    parser.add_argument("--end-date", metavar="T", type=instant, help="for set: not from then on")
    parser.add_argument(
        "--misfire", choices=("skip", "once", "all"),
        help="for set: what becomes of times at which polpod was not there (default: once, for all of them)",
    )  # fmt: skip
    parser.add_argument(
        "--overlap", choices=("skip", "queue", "allow"),
        help="for set: what becomes of a time at which the mission is being carried out (default: skip)",
    )  # fmt: skip
    parser.add_argument("-n", metavar="N", type=positive, default=10, help="for next: so many (default: 10)")


def run(args: Namespace) -> int:
    if (args.mission is None) is not (args.verb == "list") or bool(args.expression) is not (args.verb == "set"):
        raise exits.usage(
            "usage: polpoctl schedule list; polpoctl schedule set MISSION EXPR;"
            " polpoctl schedule show|next|enable|disable|remove MISSION"
        )
    connection, screen = connect(args), Screen(args)
    match args.verb:
        case "list":
            _list(connection, screen)
        case "show":
            _show(connection.call("schedule.get", {"id": args.mission})["schedule"], screen)
        case "next":
            _next(args, connection, screen)
        case "set":
            _set(args, connection, screen)
        case verb:
            answer = connection.call(f"schedule.{verb}", {"id": args.mission})
            if screen.json:
                screen.value(answer)
    return exits.OK


def _list(connection: Connection, screen: Screen) -> None:
    found = list(_all(connection))
    if screen.json:
        screen.value(found)
        return
    if any(schedule["held"] for schedule in found):
        notice("polpo.json says enableScheduler: false, so none of them is kept")
    now = time.time()
    screen.table(HEADS, [_row(schedule, now, screen.terminal) for schedule in found], state=5, flexible=0)


def _all(connection: Connection) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"limit": PAGE}
    while True:
        page = connection.call("schedule.list", asked)
        yield from page["schedules"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]


def _row(schedule: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    following, last = schedule["next_at"] or "", schedule["last_at"] or ""
    if terminal:
        following, last = ago(schedule["next_at"], now), ago(schedule["last_at"], now)
    following = following if schedule["enabled"] else "disabled"
    name = schedule["mission"] or schedule["mission_id"]
    return name, following, schedule["expression"], schedule["timezone"], last, schedule["last_outcome"] or ""


def _show(schedule: dict[str, Any], screen: Screen) -> None:
    if screen.json:
        screen.value(schedule)
        return
    fields = {"mission": schedule["mission"]} | schedule
    del fields["held"], fields["version"], fields["counted_from"], fields["created_by"]
    shown = {True: "yes", False: "no"}
    screen.fields(
        [
            (name.replace("_", " "), shown[value] if isinstance(value, bool) else str(value))
            for name, value in fields.items()
            if value is not None
        ]
    )


def _next(args: Namespace, connection: Connection, screen: Screen) -> None:
    answer = connection.call("schedule.next", {"id": args.mission, "limit": min(args.n, MOST_TIMES)})
    if screen.json:
        screen.value(answer)
        return
    for at in answer["local"]:
        screen.line(at)


def _set(args: Namespace, connection: Connection, screen: Screen) -> None:
    asked: dict[str, Any] = {"id": args.mission, "expression": " ".join(args.expression)}
    for field in ("timezone", "recurring", "end_date", "misfire", "overlap"):
        if (value := getattr(args, field)) is not None:
            asked[field] = value
    schedule = connection.call("schedule.set", asked)["schedule"]
    if screen.json:
        screen.value(schedule)
    else:
        screen.line(schedule["next_at"])
