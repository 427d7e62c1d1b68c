"""A task's log as bytes, followed through retries of the task and restarts of polpod, nothing lost and nothing twice.

Rule: once a run is known it is named in each call, with the offset that follows the bytes that were passed on.  So a
call may be made again, and the bytes of two runs never mix.
"""

from __future__ import annotations

from binascii import a2b_base64

from polpoctl.outlook import EVERY
from polpoctl.render import notice

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from polpoctl.outlook import Outlook

CHUNK = 2**18
"""Bytes of a log asked for at once."""

LONG_POLL = 30
"""Seconds; the most that polpod waits before it answers (DESIGN §9)."""

BETWEEN_RUNS = 1
"""Seconds to wait for the task to end, before a look for its next run."""


class Log:
    """The log of a task: of its newest run, unless `which` says another in the words of task.logs: run, after, phase."""

    def __init__(
        self,
        call: Callable[[str, dict[str, Any]], Any],
        task_id: str,
        which: dict[str, Any] | None = None,
        *,
        tail: int | None = None,
        outlook: Outlook | None = None,
    ) -> None:
        """`call` makes a call that may be made again; `tail`: begin with so many last lines; `outlook` is shown meanwhile."""
        self._call = call
        self._task_id = task_id
        self._which = which or {}
        self._run: int | None = self._which.get("run")
        self._only = self._run is not None
        self._tail = tail
        self._offset = 0
        self._outlook = outlook if outlook is not None and outlook.shown else None

    def present(self, sink: Callable[[dict[str, Any]], None]) -> None:
        """Pass on what there is now."""
        while (part := self._next(0))["data"]:
            sink(part)
        if part["run_id"] is None:
            notice(f"task {self._task_id} has not run yet")

    def follow(self, sink: Callable[[dict[str, Any]], None]) -> None:
        """Pass on what there is and what follows, until the task ends; or, where a run was named, until that one ends."""
        wait: float = 0  # what can never start is found out at once
        while True:
            part = self._next(wait)
            wait = LONG_POLL if self._outlook is None else EVERY
            if part["data"]:
                sink(part)
            elif part["end"]:
                if self._only or self._ended(BETWEEN_RUNS):
                    return
            elif self._run is None and self._ended(0):
                return
            if self._outlook is not None:
                self._outlook.look()

    def _next(self, wait: float) -> dict[str, Any]:
        asked: dict[str, Any] = {"id": self._task_id, "limit": CHUNK, "wait": wait}
        asked |= {"offset": self._offset} if self._tail is None else {"tail": self._tail}
        asked |= self._which if self._run is None else {"run": self._run}
        part: dict[str, Any] = self._call("task.logs", asked)
        self._run, self._offset, self._tail = part["run_id"], part["next_offset"], None
        return part

    def _ended(self, wait: float) -> bool:
        """Whether the task has ended with this run; turns to the next run where there is one."""
        # First whether it has ended, then its next run: in the other order a short run between would be missed.
        ended: bool = self._call("task.wait", {"ids": [self._task_id], "timeout": wait})["finished"]
        following = self._call("task.logs", {"id": self._task_id, "after": self._run or 0, "limit": 1})["run_id"]
        if following is None:
            return ended
        if self._run is not None:
            say = notice if self._outlook is None else self._outlook.say
            say(f"run {following} of task {self._task_id} begins")
        self._run, self._offset = following, 0
        return False


def content(part: dict[str, Any]) -> bytes:
    """The bytes of a part of a log."""
    return a2b_base64(part["data"])
