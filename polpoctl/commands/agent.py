"""`agent`: who carries out work: list and show them all, add, edit and remove those that polpo.json does not have."""

from __future__ import annotations

import os

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.parsers import positive
from polpoctl.render import Screen, notice
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from polpoctl.client import Connection

PAGE = 1000
NONE = "none"

VERBS = {
    "list": "all, those of missions too (the default)",
    "show": "one of them",
    "add": "another, beside those of polpo.json",
    "edit": "one that was added: what is not given stays, and an empty value, or none, clears",
    "remove": "forget some that were added; tasks that they had wait for another",
}

_FIELDS = ("role", "command", "prompt", "cwd", "max_concurrency", "reports_to", "team")
"""Options that are parameters by the same name."""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "verb", nargs="?", default="list", choices=tuple(VERBS), metavar="VERB",
        help="; ".join(f"{verb}: {what}" for verb, what in VERBS.items()),
    )  # fmt: skip
    parser.add_argument("names", metavar="NAME", nargs="*", help="which; for remove several")
    add = parser.add_argument
    add("--team", metavar="TEAM", help="for list: of this team; for add and edit: the team that it is of")
    add("--role", metavar="TEXT", help="what it is for")
    add("--prompt", choices=("argument", "stdin", "file", NONE), help="how what it is to do reaches it")
    add("--cwd", metavar="DIR", help="where it works")
    add("--env", metavar="K=V", type=_variable, action="append", help="a variable of its environment (K-: remove it)")
    add("--values", action="store_true", help="for show: with the values of its environment")
    add(
        "--slots",
        metavar="N",
        dest="max_concurrency",
        type=_slots,
        help="tasks that it may do at once",
    )
    add("--reports-to", metavar="NAME", help="the agent that takes over what it cannot do")
    add(
        "--command", metavar="CMD", nargs="...",
        help="what is run, and its arguments: the last option; {prompt}, {prompt_file}, {task_id} and other places are"
        " filled in then",
    )  # fmt: skip


def run(args: Namespace) -> int:
    if args.verb in ("show", "add", "edit") and len(args.names) != 1:
        raise exits.usage(f"usage: polpoctl agent {args.verb} NAME; polpoctl agent list shows them")
    if args.verb == "remove" and not args.names:
        raise exits.usage("which agent? polpoctl agent list shows them")
    if args.verb == "list" and args.names:
        raise exits.usage(f"usage: polpoctl agent list, or polpoctl agent show {args.names[0]}")
    said = _said(args) if args.verb in ("add", "edit") else {}
    if args.verb == "edit" and not said:
        raise exits.usage("nothing to change: polpoctl agent --help")
    connection, screen = connect(args), Screen(args)
    match args.verb:
        case "list":
            _list(connection, screen, args.team)
        case "show":
            asked = {"id": args.names[0]} | ({"env": True} if args.values else {})
            _show(screen, connection.call("agent.get", asked)["agent"])
        case "add":
            _changed(screen, connection.call("agent.add", {"name": args.names[0]} | said))
        case "edit":
            _changed(screen, connection.call("agent.edit", {"id": args.names[0]} | said))
        case "remove":
            return _remove(connection, args.names)
    return exits.OK


def _said(args: Namespace) -> dict[str, Any]:
    """What the options say; an empty text clears a field, where there is one to clear."""
    given = {name: value for name in _FIELDS if (value := getattr(args, name)) is not None}
    said = {name: None if value in ("", NONE, []) else value for name, value in given.items()}
    if (cwd := said.get("cwd")) is not None:
        said["cwd"] = os.path.abspath(cwd)
    if args.env:
        said["env"] = dict(args.env)
    if args.verb == "add":
        return {name: value for name, value in said.items() if value is not None}
    return said


def _slots(text: str) -> int | str:
    return text if text in ("", NONE) else positive(text)


def _variable(text: str) -> tuple[str, str | None]:
    """`K=V`, or `K-` for one that goes."""
    from argparse import ArgumentTypeError

    name, equals, value = text.partition("=")
    if equals and name:
        return name, value
    if name.endswith("-") and name != "-":
        return name[:-1], None
    raise ArgumentTypeError(f"{text!r} is neither NAME=VALUE nor NAME-")


def _list(connection: Connection, screen: Screen, team: str | None) -> None:
    found = list(_all(connection, team))
    if screen.json:
        screen.value(found)
        return
    heads = ("NAME", "TEAM", "ROLE", "SLOTS", "STATE", "FROM", "COMMAND")
    screen.table(heads, [_row(agent) for agent in found], state=4)


def _all(connection: Connection, team: str | None) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"limit": PAGE, "team": team}
    while True:
        page = connection.call("agent.list", asked)
        yield from page["agents"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]


def _row(agent: dict[str, Any]) -> tuple[str, ...]:
    slots = "" if agent["max_concurrency"] is None else str(agent["max_concurrency"])
    return agent["name"], agent["team"], agent["role"], slots, _state(agent), agent["origin"], _command(agent)


def _state(agent: dict[str, Any]) -> str:
    state = agent["state"]
    if state is None:
        return ""
    return f"{state['status']} {state['task_id']}" if state["task_id"] else str(state["status"])


def _command(agent: dict[str, Any]) -> str:
    from shlex import join

    return join(agent["command"])


def _show(screen: Screen, agent: dict[str, Any]) -> None:
    if screen.json:
        screen.value(agent)
        return
    env = agent["env"]
    facts = [
        ("agent", agent["name"]),
        ("team", agent["team"]),
        ("role", agent["role"]),
        ("command", _command(agent)),
        ("prompt", agent["prompt"]),
        ("cwd", agent["cwd"]),
        ("environment", " ".join(f"{k}={v}" for k, v in env.items()) if isinstance(env, dict) else " ".join(env)),
        ("slots", agent["max_concurrency"]),
        ("reports to", agent["reports_to"]),
        ("from", agent["origin"]),
        ("execution", agent["execution_id"]),
        ("state", _state(agent)),
    ]
    screen.fields([(name, str(value)) for name, value in facts if value not in (None, "")])


def _changed(screen: Screen, answer: dict[str, Any]) -> None:
    if screen.json:
        screen.value(answer)
    else:
        screen.line(str(answer["agent"]["name"]))


def _remove(connection: Connection, names: list[str]) -> int:
    answers = list(connection.call_many(("agent.remove", {"id": name}) for name in names))
    refused = [answer for answer in answers if isinstance(answer, RemoteError)]
    for error in refused:
        notice(str(error))
    return exits.of_errors(refused, len(names))
