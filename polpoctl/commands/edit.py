"""`edit`: change tasks that have no live run; what is not named stays as it is, and an empty value clears."""

from __future__ import annotations

from argparse import SUPPRESS

from polpoctl import exits
from polpoctl.budget import HELP, budget
from polpoctl.client import connect
from polpoctl.parsers import amount, count, or_none, pair, positive
from polpoctl.render import Screen, notice
from polpoctl.sizes import size
from polpoctl.submission import expectation
from polpoctl.times import duration, instant
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from polpoctl.client import Connection

    Label = tuple[str, str | None]
    """A name and its value; None removes it, and without a name removes all."""

NONE = "none"

_FIELDS = (
    "title", "description", "agent", "priority", "queue", "depends_on", "max_retries", "max_duration", "stale_threshold",
    "memory_max", "cpus", "tasks_max", "nice", "not_before", "deadline", "budget", "expectations",
)  # fmt: skip
"""Options that are parameters of task.update by the same name."""


def options(parser: ArgumentParser) -> None:
    parser.argument_default = SUPPRESS  # so that None is a value: the field is cleared
    parser.epilog = "An empty value, as in --title '', clears a field; so does the word none where no text is expected."
    add, number, time = parser.add_argument, or_none(count, NONE), or_none(duration, NONE)
    add("ids", metavar="ID", nargs="+", help="ids, and ranges such as 5-9")
    add("--title", metavar="TEXT", type=or_none(str), help="what it is called ('': the command)")
    add("--description", metavar="TEXT", help="what an agent is to do")
    add("--agent", metavar="NAME", type=or_none(str, NONE), help="who carries it out from now on")
    add("--queue", metavar="NAME", help="the queue that it waits in")
    add("--priority", metavar="N", type=int, help="higher ones start first")
    add("--after", metavar="ID", dest="depends_on", action="append", help="start when this is done; may be repeated")
    add("--retries", metavar="N", dest="max_retries", type=number, help="how often to run it again when it fails")
    add("--timeout", metavar="D", dest="max_duration", type=time, help="end a run that takes longer")
    add("--stale-after", metavar="D", dest="stale_threshold", type=time, help="warn of a run that is idle so long")
    add("--memory", metavar="SIZE", dest="memory_max", type=or_none(size, NONE), help="end it when it uses more")
    add("--cpus", metavar="N", type=or_none(amount, NONE), help="let it use so many CPUs' time")
    add("--tasks", metavar="N", dest="tasks_max", type=or_none(positive, NONE), help="let it have so many processes")
    add("--nice", metavar="N", type=or_none(int, NONE), help="how much it gives way to others")
    add("--budget", metavar="BUDGET", type=or_none(budget, NONE), help=f"stop and ask when it spends more: {HELP}")
    when = or_none(instant, NONE)
    add("--not-before", metavar="T", type=when, help="when it may start: an RFC 3339 time, or a duration from now")
    add("--deadline", metavar="T", type=when, help="when it should be done")
    add(
        "--expect",
        metavar="CHECK",
        dest="expectations",
        type=or_none(expectation),
        action="append",
        help="what its work must stand to be done, as of submit; may be repeated",
    )
    how = "set a label, and keep the others (K-: remove it; '': remove all)"
    add("--label", metavar="K=V", type=_label, action="append", help=how)


def run(args: Namespace) -> int:
    given = vars(args)
    changes = {name: given[name] for name in _FIELDS if name in given}
    if "depends_on" in changes:
        changes["depends_on"] = [task_id for task_id in changes["depends_on"] if task_id]
    if "expectations" in changes:
        changes["expectations"] = [check for check in changes["expectations"] if check is not None]
    labels = given.get("label", [])
    if not changes and not labels:
        raise exits.usage("nothing to change: polpoctl edit --help")
    connection = connect(args)
    ids = _ids(connection, args.ids)
    answers = _labelled(connection, ids, labels, changes) if labels else _updated(connection, ids, changes)
    tasks = [answer["task"] for answer in answers if not isinstance(answer, RemoteError)]
    screen = Screen(args)
    if screen.json:
        screen.value(tasks)
    else:
        screen.table(("ID", "STATUS", "TITLE"), [(t["id"], t["status"], t["title"]) for t in tasks], state=1)
    refused = [(i, a) for i, a in zip(ids, answers, strict=True) if isinstance(a, RemoteError)]
    for task_id, error in refused:
        notice(f"{task_id}: {error}")
    return exits.of_errors([error for _, error in refused], len(ids))


def _ids(connection: Connection, named: list[str]) -> list[str]:
    """The ids, with ranges replaced by the tasks that exist."""
    if not any("-" in name for name in named):
        return named
    asked: dict[str, Any] = {"all": True, "select": {"ids": named}, "limit": 1000}
    found: list[str] = []
    while True:
        page = connection.call("task.list", asked)
        found += [task["id"] for task in page["tasks"]]
        if page["next"] is None:
            return found
        asked["after"] = page["next"]


def _updated(connection: Connection, ids: list[str], changes: dict[str, Any]) -> list[Any]:
    return list(connection.call_many(("task.update", {"id": task_id} | changes) for task_id in ids))


def _labelled(connection: Connection, ids: list[str], labels: list[Label], changes: dict[str, Any]) -> list[Any]:
    """As `_updated`, with labels changed from what each task has, unless somebody else changes it meanwhile."""
    answers = []
    for task_id in ids:
        try:
            task = connection.call("task.get", {"id": task_id})["task"]
            change = changes | {
                "id": task_id,
                "version": task["version"],
                "labels": _relabelled(task["labels"], labels),
            }
            answers.append(connection.call("task.update", change))
        except RemoteError as error:
            answers.append(error)
    return answers


def _relabelled(has: dict[str, str], labels: list[Label]) -> dict[str, str]:
    """The labels after these changes, in their order."""
    for name, value in labels:
        if not name:
            has = {}
        elif value is None:
            has = {other: kept for other, kept in has.items() if other != name}
        else:
            has = has | {name: value}
    return has


def _label(text: str) -> Label:
    if not text:
        return "", None
    return (text[:-1], None) if text.endswith("-") and "=" not in text and text != "-" else pair(text)
