"""What a shell may complete that only polpod knows: ids, queues, labels and the rest, as they are now.

Rules:

1. Whoever presses Tab waits for BOUND seconds at most, and sees no error: what polpod does not say is not completed.
2. What is printed is data to the shell, whatever it is called: one candidate a line, and none with a character that is
   not printable.
"""

from __future__ import annotations

import os

from polpoctl.exits import Failure
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Iterator
    from typing import Any

    from polpoctl.client import Connection

BOUND = 1.5
"""Seconds."""

LONGEST = 60
"""Characters of a description."""

LISTS: dict[str, tuple[str, dict[str, Any], str, tuple[str, ...]]] = {
    "a2a": ("a2a.list", {}, "id", ("state",)),
    "agent": ("agent.list", {"limit": 1000}, "name", ("role",)),
    "approval": ("approval.list", {"limit": 1000}, "id", ("kind", "message")),
    "artifact": ("artifact.list", {"limit": 1000}, "id", ("path",)),
    "collaboration": ("collaboration.list", {"limit": 1000}, "id", ("agent_id",)),
    "context": ("context.list", {"limit": 1000}, "id", ("agent_id",)),
    "key": ("key.list", {"limit": 1000}, "id", ("name",)),
    "mission": ("mission.list", {"limit": 1000}, "name", ("status",)),
    "preset": ("preset.list", {"limit": 1000}, "name", ("description",)),
    "project": ("project.list", {"limit": 1000}, "id", ("name",)),
    "queue": ("queue.list", {}, "name", ()),
    "run": ("run.list", {"limit": 200}, "id", ("status",)),
    "schedule": ("schedule.list", {"limit": 1000}, "mission", ("expression",)),
    "task": ("task.list", {"limit": 200}, "id", ("state", "title")),
    "user": ("user.list", {"limit": 1000}, "username", ("role",)),
    "workflow": ("workflow.list", {"limit": 1000}, "id", ("name",)),
}
"""Kind: who lists them, with which parameters; what is completed, and what describes it."""

_METAVARS = {"ID": "task", "METHOD": "method", "MISSION": "mission", "QUEUE": "queue", "R": "run"}
_DESTS = {
    **dict.fromkeys(("agent", "lead", "member", "reports_to", "to"), "agent"),
    "label": "label", "more": "queue", "queue": "queue", "project": "project", "status": "status",
}  # fmt: skip
_OF_COMMANDS = {
    ("a2a", "ids"): "a2a",
    ("agent", "names"): "agent",
    ("answer", "id"): "approval",
    ("approval", "id"): "approval",
    ("audit", "method"): "method",
    **{(noun, "words"): noun for noun in ("artifact", "collaboration", "context", "key", "preset", "project", "user", "workflow")},
}  # fmt: skip
_NONE = {("notification", "rule"), ("edit", "label")}
"""What looks like one of them and is not: an id of another kind; a label that is to be made up."""


def kind_of(command: str, action: Action) -> str | None:
    """What of polpod's an argument of a command is; None: nothing."""
    if (command, action.dest) in _NONE:
        return None
    named = _OF_COMMANDS.get((command, action.dest)) or _DESTS.get(action.dest)
    return named or _METAVARS.get(str(action.metavar))


def candidates(kind: str, line: str) -> Iterator[tuple[str, str]]:
    """The candidates of that kind and what describes each, from the polpod that a command line means."""
    if kind == "method":
        from polpod.wire.methods import METHODS

        yield from ((method, "") for method in METHODS)
        return
    try:
        yield from _asked(kind, _connected(line))
    except (Failure, RemoteError, OSError):
        return


def give_up_in_time() -> None:
    """End this process after BOUND, whatever it waits for, with what was printed by then."""
    import threading

    # No signal: its handler would wait for the resolver, which a name on another network may keep for half a minute.
    threading.Timer(BOUND, os._exit, (0,)).start()


def _connected(line: str) -> Connection:
    """Raises Failure."""
    from argparse import Namespace  # only here, as all of these

    from polpoctl.client import connect

    options = ("socket", "root", "url", "key_file")
    said = {name: _given(line, f"--{name.replace('_', '-')}") for name in options}
    return connect(Namespace(**said), BOUND)


def _given(line: str, option: str) -> str | None:
    """What a command line that is not finished says of an option."""
    import shlex

    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # the last word has a quotation mark that is still open
        pass
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name == option and (equals or following):
            return os.path.expanduser(os.path.expandvars(value if equals else following or ""))
    return None


def _asked(kind: str, polpod: Connection) -> Iterator[tuple[str, str]]:
    if kind == "label":
        tasks = polpod.call("task.list", {"limit": 1000})["tasks"]
        labels = {f"{name}={value}" for task in tasks for name, value in task["labels"].items()}
        found = [(label, "") for label in sorted(labels)]
    elif kind == "status":
        found = [(status, f"{number}") for status, number in polpod.call("daemon.status")["tasks"].items()]
    elif kind in LISTS:
        method, params, name, told = LISTS[kind]
        (rows,) = (value for value in polpod.call(method, params).values() if isinstance(value, list))
        found = [(str(row[name]), " ".join(str(row[of]) for of in told if row[of])) for row in rows if row[name]]
    else:  # a script of another version asks
        found = []
    for value, description in found:
        if value.isprintable():
            yield value, " ".join(description.split())[:LONGEST]
