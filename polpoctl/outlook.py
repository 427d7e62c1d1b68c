"""One line on stderr while a command waits: how far its tasks are, and how long they will take as far as polpod knows.

Rules:

1. Only a terminal has it, and only where there is something to say: a job that reports its progress, or earlier runs of
   the same work.
2. It is gone before anything else is written, never as wide as the terminal, and of plain characters in no colour.
3. Nothing depends on it: a polpod that cannot tell is asked no more.
"""

from __future__ import annotations

import os
import sys
import time

from polpoctl.conversation import FOR_EVER
from polpoctl.follow import LONG_POLL
from polpoctl.render import columns, escape, fit, notice
from polpoctl.times import short
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from polpoctl.client import Lasting

MOST = 100
"""Tasks that are looked at (task.estimate)."""

EVERY = 1.0
"""Seconds from one look to the next."""

BAR = 20
LEAST = 8
"""Columns of a text that is cut."""

_OVER = ("done", "failed", "cancelled")


class Outlook:
    """Of these tasks; use it as a context manager, so that it leaves nothing behind."""

    def __init__(self, daemon: Lasting, ids: list[str]) -> None:
        self.shown = len(ids) <= MOST and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.at_line_start = True
        """Whether the cursor is where a line begins, so that the line of ours hides nothing."""
        self._daemon, self._ids = daemon, ids
        self._text = ""
        self._called = False
        self._drawn = ""
        self._next = 0.0
        if self.shown:
            daemon.say = self.say

    @property
    def patience(self) -> float:
        """Seconds that a call may wait, so that the line is not out of date."""
        return EVERY if self.shown else LONG_POLL

    def call(self, method: str, params: dict[str, Any], until: float = FOR_EVER) -> Any:
        """As Lasting.call; the line anew before each but the first, which may say that there is nothing to wait for."""
        if self.shown and self._called:
            self._look(until)
        self._called = True
        return self._daemon.call(method, params, until)

    def _look(self, until: float) -> None:
        """Ask, at most once in EVERY, and draw."""
        if time.monotonic() >= self._next:
            try:
                found = self._daemon.call("task.estimate", {"ids": self._ids}, until)["tasks"]
            except RemoteError:
                self.hide()
                self.shown = False
                return
            self._next = time.monotonic() + EVERY
            self._text = line(found, _width() - 1)
        if not (self._text and self.at_line_start):
            self.hide()
        elif self._text != self._drawn:
            self._write(f"\r{self._text}\x1b[K")
            self._drawn = self._text

    def hide(self) -> None:
        """Be gone: something else will be written."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = ""

    def say(self, message: str) -> None:
        """A notice in its place."""
        self.hide()
        notice(message)

    def _write(self, text: str) -> None:
        # Not by sys.stderr, which a handler of Ctrl-C may be about to use.
        try:
            os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding or "ascii", "replace"))
        except OSError:  # the terminal is gone
            self.shown = False

    def __enter__(self) -> Outlook:
        return self

    def __exit__(self, *exc: object) -> None:
        self.hide()


def line(tasks: list[dict[str, Any]], width: int) -> str:
    """What there is to say of these tasks (task.estimate), in at most so many columns; empty: nothing."""
    going = [task for task in tasks if task["status"] not in _OVER]
    if all(task["percent"] is None and task["usual"] is None for task in going):
        return ""
    if len(tasks) == 1:
        return _of_one(going[0], width)
    over = len(tasks) - len(going)
    lefts = [task["left"] for task in going]
    known = [left for left in lefts if left]
    time_left = f"about {short(max(known))} left" if len(known) == len(lefts) else ""
    return _fitting(100.0 * over / len(tasks), f"{over} of {len(tasks)} over", "", time_left, width)


def _of_one(task: dict[str, Any], width: int) -> str:
    percent, usual, left = task["percent"], task["usual"], task["left"]
    if task["elapsed"] is None:
        waits = f"not started, takes about {short(usual['duration'])}" if usual is not None else ""
        return waits if len(waits) <= width else ""
    if left is None:
        time_left = ""
    elif left > 0:
        time_left = f"about {short(left)} left"
    else:
        time_left = f"longer than the usual {short(usual['duration'])}" if usual is not None else ""
    how_far = f"{percent:.0f}%" if percent is not None else ""
    if percent is None and usual is not None:
        percent = min(99.0, 100.0 * task["elapsed"] / max(usual["duration"], 0.001))
        how_far = f"~{percent:.0f}%"
    return _fitting(percent, how_far, escape(task["text"] or ""), time_left, width)


def _fitting(percent: float, how_far: str, text: str, time_left: str, width: int) -> str:
    """The most of it for which there is room."""
    filled = int(BAR * min(100.0, percent) / 100)
    bar = f"[{'#' * filled}{'.' * (BAR - filled)}]"
    for parts in _choices(bar, how_far, text, time_left, width):
        said = "  ".join(part for part in parts if part)
        if columns(said) <= width:
            return said
    return ""


def _choices(bar: str, how_far: str, text: str, time_left: str, width: int) -> Iterator[tuple[str, ...]]:
    """The richest first."""
    around = sum(len(part) + 2 for part in (bar, how_far, time_left) if part)
    if text and width - around >= min(LEAST, columns(text)):
        yield bar, how_far, fit(text, width - around), time_left
    yield bar, how_far, time_left
    yield how_far, time_left
    yield (how_far,)


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
