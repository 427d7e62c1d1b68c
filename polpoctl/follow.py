"""What a client follows, as steps: a task's log and the journal, nothing lost and nothing twice through restarts of polpod.

Rules:

1. Once a run is known it is named in each call, with the offset that follows the bytes that were passed on.  So a call
   may be made again, and the bytes of two runs never mix.
2. Events are asked for by the cursor that came with those before.
"""

from __future__ import annotations

from binascii import a2b_base64

from polpoctl.conversation import FOR_EVER
from polpoctl.steps import Ask, Remark

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from polpoctl.steps import Asking, Steps

CHUNK = 2**18
"""Bytes of a log asked for at once."""

LONG_POLL = 30
"""Seconds; the most that polpod waits before it answers (DESIGN §9)."""

BETWEEN_RUNS = 1
"""Seconds to wait for the task to end, before a look for its next run."""

PAGE = 1000
"""Events asked for at once."""


class Log:
    """The log of a task: of its newest run, unless `which` says another in the words of task.logs: run, after, phase."""

    def __init__(self, task_id: str, which: dict[str, Any] | None = None, *, tail: int | None = None) -> None:
        """`tail`: begin with so many last lines."""
        self._task_id = task_id
        self._which = which or {}
        self._run: int | None = self._which.get("run")
        self._only = self._run is not None
        self._tail = tail
        self._offset = 0

    def present(self) -> Steps[dict[str, Any]]:
        """What there is now, in parts of which `content` has the bytes; of a job that goes on writing hardly more."""
        until: float = 0
        while (part := (yield from self._next(0)))["data"]:
            yield part
            until = until or part.get("size", FOR_EVER)  # the polpod before, which serves during an upgrade, said none
            if self._offset >= until:
                return
        if part["run_id"] is None:
            yield Remark(f"task {self._task_id} has not run yet")

    def follow(self, patience: float = LONG_POLL) -> Steps[dict[str, Any]]:
        """What there is and what follows, until the task ends; or, where a run was named, until that one ends.

        `patience`: seconds to wait for more with one call.
        """
        wait: float = 0  # what can never start is found out at once
        while True:
            part = yield from self._next(wait)
            wait = patience
            if part["data"]:
                yield part
            elif part["end"]:
                if self._only or (yield from self._ended(BETWEEN_RUNS)):
                    return
            elif self._run is None and (yield from self._ended(0)):
                return

    def _next(self, wait: float) -> Asking[dict[str, Any]]:
        asked: dict[str, Any] = {"id": self._task_id, "limit": CHUNK, "wait": wait}
        asked |= {"offset": self._offset} if self._tail is None else {"tail": self._tail}
        asked |= self._which if self._run is None else {"run": self._run}
        part: dict[str, Any] = yield Ask("task.logs", asked)
        self._run, self._offset, self._tail = part["run_id"], part["next_offset"], None
        return part

    def _ended(self, wait: float) -> Asking[bool]:
        """Whether the task has ended with this run; turns to the next run where there is one."""
        # First whether it has ended, then its next run: in the other order a short run between would be missed.
        ended: bool = (yield Ask("task.wait", {"ids": [self._task_id], "timeout": wait}))["finished"]
        later = yield Ask("task.logs", {"id": self._task_id, "after": self._run or 0, "limit": 1})
        if (following := later["run_id"]) is None:
            return ended
        if self._run is not None:
            yield Remark(f"run {following} of task {self._task_id} begins")
        self._run, self._offset = following, 0
        return False


def content(part: dict[str, Any]) -> bytes:
    """The bytes of a part of a log."""
    return a2b_base64(part["data"])


def log(task_id: str, run: int | None, *, follow: bool) -> Steps[dict[str, Any]]:
    """The log of a task, of this run or of all of them if it is followed, else of its newest run, as far as there is one."""
    if run is not None:
        read = Log(task_id, {"run": run})
    elif follow:
        read = Log(task_id, {"after": 0})
    else:  # the work is what a task is known for; who follows sees each run, of the checks too
        read = Log(task_id, {"phase": "execution"})
    return read.follow() if follow else read.present()


class EventsGone(Exception):
    """Events that were asked for are not kept any more: those from `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"events {first} to {last} are not kept any more")
        self.first = first
        self.last = last


def events(
    after: int | None = None,
    *,
    kinds: Iterable[str] = (),
    subject: str | None = None,
    follow: bool,
    complete: bool = False,
) -> Steps[dict[str, Any]]:
    """Events: those after that one, or the newest; with `follow` also those that are yet to happen.

    Where some of those after `after` are not kept any more, that is a remark; with `complete`, EventsGone is raised, but not
    where `after` is 0: that means all that are kept.
    """
    which = {name: value for name, value in (("kinds", list(kinds)), ("subject", subject)) if value}
    asked: dict[str, Any] = {}
    while True:
        if after is not None:
            asked = {"after": after, "limit": PAGE} | ({"wait": LONG_POLL} if follow else {})
        page = yield Ask("event.list", which | asked)
        if after is not None and page["first"] is not None and page["first"] > after + 1:
            gone = EventsGone(after + 1, page["first"] - 1)
            if complete and after:
                raise gone
            yield Remark(str(gone))
        yield from page["events"]
        if not follow and (after is None or not page["events"]):
            return
        after = page["next"]


def newest_event() -> Steps[int]:
    """The cursor after which comes what happens from now on."""
    yield (yield Ask("event.list", {"limit": 1}))["next"]
