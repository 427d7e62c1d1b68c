"""`run`: hand in a task, pass its output on, and exit as it does.

Rules:

1. The first Ctrl-C cancels the task, and the end is waited for; the second detaches, and the task goes on.
2. The cancelling call has a connection of its own: the one that follows the log may be in the middle of an answer.
3. If nobody takes the output any more, `run` detaches too.  The task never ends because of that.
"""

from __future__ import annotations

import signal
import sys

from polpoctl import exits, submission
from polpoctl.awaiting import wait_for
from polpoctl.client import Connection, Lasting, connect
from polpoctl.commands.wait import how
from polpoctl.exits import Failure
from polpoctl.follow import Log, content
from polpoctl.outlook import Outlook
from polpoctl.render import Screen, notice
from polpoctl.steps import take
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from types import FrameType
    from typing import Any

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""A shell's codes for a command that could not be started."""


def options(parser: ArgumentParser) -> None:
    submission.options(parser)


def run(args: Namespace) -> int:
    if not args.command and args.agent is None:
        raise exits.usage("nothing to run: polpoctl run [options] -- COMMAND")
    params = submission.params(args)
    connection = connect(args)
    interrupts = _Interrupts(connection)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's background job is not for Ctrl-C
        signal.signal(signal.SIGINT, interrupts.take)
    task_id = connection.call("task.submit", params)["id"]
    interrupts.cancel_from_now_on(task_id)
    try:
        return _follow(args, Lasting(connection), task_id, interrupts)
    except KeyboardInterrupt:
        notice(f"detached; task {task_id} goes on: polpoctl logs -f {task_id}")
        return exits.INTERRUPTED
    except BrokenPipeError:
        notice(f"nobody reads any more; task {task_id} goes on: polpoctl logs -f {task_id}")
        raise
    except Failure:
        notice(f"task {task_id} goes on: polpoctl wait --exit-status {task_id}")
        raise


def _follow(args: Namespace, daemon: Lasting, task_id: str, interrupts: _Interrupts) -> int:
    # With --json, stdout is for one document: how the task ended.
    out = sys.stderr if args.json else sys.stdout
    with Outlook(daemon, [task_id]) as outlook:
        interrupts.say = outlook.say
        for part in take(Log(task_id, {"after": 0}).follow(outlook.patience), outlook.call, outlook.say):
            outlook.hide()
            out.buffer.write(content(part))
            out.flush()
            outlook.at_line_start = not out.isatty() or content(part).endswith(b"\n")
        _, (task,) = wait_for(daemon.call, [task_id])
    if args.json:
        Screen(args).value(task)
    if task["reason"] == "spawn_failed":
        return _not_started(daemon, task_id)
    if task["outcome"] != "done":
        if not task["exit_code"] or task["signal"]:
            notice(f"task {task_id}: {task['outcome']}{' (' + how(task) + ')' if how(task) else ''}")
        if interrupts.count and task["outcome"] == "cancelled" and not (task["signal"] or task["exit_code"]):
            return exits.INTERRUPTED
    return exits.of_job(task)


def _not_started(daemon: Lasting, task_id: str) -> int:
    """Say why the command could not be started, and return what a shell would."""
    run: dict[str, Any] = daemon.call("task.get", {"id": task_id})["runs"][-1]
    why = str(run["error"] or "the command could not be started")
    notice(why)
    return int(run["exit_code"] or (_NOT_FOUND if "No such file" in why else _NOT_EXECUTABLE))


class _Interrupts:
    """What Ctrl-C does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._task_id: str | None = None
        self.count = 0
        self.say = notice

    def take(self, _signal: int, _frame: FrameType | None) -> None:
        """The signal's handler; it runs between two steps of whatever goes on, so that nothing of that is lost."""
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        if self._task_id is not None:
            self._cancel(self._task_id)

    def cancel_from_now_on(self, task_id: str) -> None:
        """The task exists: a Ctrl-C is for it, also one that came before its id."""
        self._task_id = task_id
        if self.count:
            self._cancel(task_id)

    def _cancel(self, task_id: str) -> None:
        self.say(f"cancelling task {task_id}; Ctrl-C again detaches and lets it end by itself")
        try:
            connection = self._connection.again()
            results = connection.call("task.cancel", {"select": {"ids": [task_id]}})["results"]
            connection.close()
        except (Failure, RemoteError) as exc:
            self.say(f"task {task_id} could not be cancelled: {exc}")
            return
        for result in results:
            if error := result.get("error"):
                self.say(f"task {task_id} could not be cancelled: {error['message']}")
