"""`wait`: until tasks end; the exit code says how."""

from __future__ import annotations

from polpoctl import exits
from polpoctl.awaiting import wait_for
from polpoctl.client import Lasting, connect
from polpoctl.conversation import FOR_EVER, RECONNECT, TimeRanOut
from polpoctl.outlook import Outlook
from polpoctl.render import Screen, notice
from polpoctl.times import duration

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="+", help="the tasks")
    parser.add_argument("--any", action="store_true", help="until one of them ends")
    parser.add_argument("--timeout", metavar="D", type=duration, help="at most so long; then exit 124")
    parser.add_argument(
        "--exit-status", action="store_true", help="exit with the job's own code: the first that is not 0"
    )
    parser.add_argument(
        "--keep-waiting",
        action="store_true",
        help="also for what is blocked or waits for approval, and however long polpod is away",
    )


def run(args: Namespace) -> int:
    daemon = Lasting(connect(args), FOR_EVER if args.keep_waiting else RECONNECT)
    try:
        with Outlook(daemon, args.ids) as outlook:
            finished, tasks = wait_for(
                outlook.call, args.ids, any_of_them=args.any, keep_waiting=args.keep_waiting, timeout=args.timeout,
                patience=outlook.patience,
            )  # fmt: skip
    except TimeRanOut as exc:
        notice(str(exc))
        return exits.TIMED_OUT
    ended = [task for task in tasks if task["outcome"] is not None]
    screen = Screen(args)
    if screen.json:
        screen.value(tasks)
    else:
        screen.table(("ID", "OUTCOME", "HOW"), [(t["id"], t["outcome"], how(t)) for t in ended], state=1)
    if not finished:
        going_on = ", ".join(task["id"] for task in tasks if task["outcome"] is None)
        notice(f"time ran out; not ended: {going_on}")
        return exits.TIMED_OUT
    if args.exit_status:
        return next((code for code in map(exits.of_job, ended) if code), exits.OK)
    return exits.worst(exits.BY_OUTCOME[task["outcome"]] for task in ended)


def how(task: dict[str, Any]) -> str:
    """How a task of task.wait ended, as far as its outcome does not say it."""
    if task["message"]:
        return str(task["message"])
    if task["signal"]:
        return f"{task['reason']}, signal {task['signal']}"
    if task["exit_code"]:
        return f"exit code {task['exit_code']}"
    return "" if task["reason"] in (None, "exited", task["outcome"]) else str(task["reason"])
