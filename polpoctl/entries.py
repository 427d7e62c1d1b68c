"""What the nouns of services/rpc/directory.py share here: list, show, add and remove, as the socket has them."""

from __future__ import annotations

import json
import sys

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen, notice
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from polpoctl.client import Connection

    Params = Callable[[list[str]], dict[str, Any]]

PAGE = 1000


def options(
    parser: ArgumentParser, added: str, words: str, saved: str | None = None, others: Mapping[str, str] | None = None
) -> None:
    """Add the verb and its words.  `added`, `saved`: what `add` and `save` take, in words; `words`: their metavar.

    `others`: verbs that this noun alone has, each with what it does.
    """
    others = others or {}
    save = () if saved is None else ("save",)
    says = "" if saved is None else f"; save: {saved}"
    parser.add_argument(
        "verb", nargs="?", default="list", choices=("list", "show", "add", *save, "remove", *others),
        help=f"list: all there are (the default); show: one of them; add: {added}{says}; remove: forget some"
        + "".join(f"; {verb}: {does}" for verb, does in others.items()),
    )  # fmt: skip
    parser.add_argument("words", metavar=words, nargs="*", help="for show and remove: which; for add: as above")


def run(args: Namespace, noun: str, columns: Sequence[str], add: Params, save: Params | None = None) -> int:
    """Do what the verb says; `columns` are the fields of a list, `add` and `save` make the parameters of their words."""
    if args.verb == "list" and args.words:
        raise exits.usage(f"usage: polpoctl {noun} list, or polpoctl {noun} show {args.words[0]}")
    if args.verb in ("show", "remove") and not args.words:
        raise exits.usage(f"which {noun}? polpoctl {noun} list shows them")
    make = {"add": add, "save": save}.get(args.verb)
    params = {} if make is None else make(args.words)
    connection, screen = connect(args), Screen(args)
    match args.verb:
        case "list":
            found = list(_all(connection, noun))
            if screen.json:
                screen.value(found)
            else:
                heads = [column.replace("_", " ").upper() for column in columns]
                screen.table(heads, [[_text(entry[column]) for column in columns] for entry in found])
        case "show":
            for word in args.words:
                _show(screen, connection.call(f"{noun}.get", {"id": word})[noun])
        case "add" | "save":
            _added(screen, noun, connection.call(f"{noun}.{args.verb}", params), columns[0])
        case "remove":
            return _remove(connection, noun, args.words)
    return exits.OK


def one_file(words: list[str], usage: str) -> str:
    """The text of the file that is named, or of stdin.  Raises Failure."""
    if len(words) > 1:
        raise exits.usage(usage)
    try:
        if not words or words[0] == "-":
            return sys.stdin.read()
        with open(words[0], encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise exits.usage(f"{words[0] if words else 'stdin'}: {exc}") from None


def json_object(text: str, what: str) -> dict[str, Any]:
    """Raises Failure for what is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise exits.usage(f"{what}: not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise exits.usage(f"{what}: not a JSON object")
    return value


def _all(connection: Connection, noun: str) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"limit": PAGE}
    while True:
        page = connection.call(f"{noun}.list", asked)
        yield from page[f"{noun}s"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]


def _show(screen: Screen, entry: dict[str, Any]) -> None:
    if screen.json:
        screen.value(entry)
    else:
        screen.fields(
            [(name.replace("_", " "), _text(value)) for name, value in entry.items() if value not in (None, "", [])]
        )


def _added(screen: Screen, noun: str, answer: dict[str, Any], column: str) -> None:
    if screen.json:
        screen.value(answer)
        return
    screen.line(answer.get("secret") or str(answer[noun][column]))
    if "secret" in answer:
        notice(f"this is {noun} {answer[noun]['id']}; it is not stored, and never shown again")


def _remove(connection: Connection, noun: str, words: list[str]) -> int:
    answers = list(connection.call_many((f"{noun}.remove", {"id": word}) for word in words))
    refused = [answer for answer in answers if isinstance(answer, RemoteError)]
    for error in refused:
        notice(str(error))
    return exits.of_errors(refused, len(words))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
