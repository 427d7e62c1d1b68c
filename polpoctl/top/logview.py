"""The log of a task as lines to look at: its colours stay, whatever else it would have a terminal do does not (F82)."""

from __future__ import annotations

import codecs
import re
from collections import deque

from rich.console import Console
from rich.text import Text

from polpoctl.render import escape
from polpoctl.top import grid
from polpoctl.top.feed import Part
from polpoctl.top.grid import Grid, Row

KEPT = 5000
"""Lines, the last ones."""
LONGEST = 4000
"""Characters of a line that are shown."""

_CONTROL = re.compile(r"(\x1b\[[0-9;:]*m)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")


class LogView:
    """Follows the end of the log, until somebody looks further up."""

    def __init__(self, number: int, task_id: str, title: str) -> None:
        self.number = number
        self.task_id = task_id
        self.title = title
        self.run: int | None = None
        self.said = ""
        """What is to be known beside the log itself."""
        self.over = False
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._begun = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._below = 0

    @property
    def below(self) -> int:
        """Lines that come after what is looked at; 0: its end is followed."""
        return self._below

    def accept(self, part: Part) -> None:
        """Add what came."""
        if part.said:
            self.said, self.over = part.said, part.over
        if part.run is not None and part.run != self.run:
            if self.run is not None:
                self._add(self._decoder.decode(b"", True))
                self._decoder.reset()
                self._add(("\n" if self._begun else "") + f"--- run {part.run} ---\n")
            self.run, self.said = part.run, ""
        self._add(self._decoder.decode(part.data))

    def move(self, by: int) -> None:
        """Look at lines further down, or up."""
        self._below = max(0, min(self._below - by, self._count() - 1))

    def home(self) -> None:
        """Look at the first line that is kept."""
        self.move(-KEPT)

    def end(self) -> None:
        """Follow the end."""
        self._below = 0

    def rows(self, console: Console, width: int, height: int, *, colour: bool) -> Grid:
        """What is looked at, wrapped, in at most so many lines; nobody looks further up than the first one."""
        lines = [*self._lines, *([self._begun] if self._begun else [])]
        shown: Grid = []
        for line in reversed(lines[: len(lines) - self._below]):
            shown[:0] = grid.wrapped(_cells(line, console, colour), width)
            if len(shown) >= height:
                return shown[-height:]
        while self._below and len(shown) < height:
            shown += grid.wrapped(_cells(lines[-self._below], console, colour), width)
            self._below -= 1
        return shown[:height]

    def _add(self, text: str) -> None:
        had_begun = bool(self._begun)
        *whole, self._begun = (self._begun + text).split("\n")
        self._begun = self._begun[-LONGEST:]
        self._lines.extend(line[-LONGEST:] for line in whole[-KEPT:])
        if self._below:
            self._below = min(self._below + len(whole) + bool(self._begun) - had_begun, self._count() - 1)

    def _count(self) -> int:
        return len(self._lines) + bool(self._begun)


def _cells(line: str, console: Console, colour: bool) -> Row:
    return grid.cells(Text.from_ansi(harmless(line)).render(console), colour=colour)


def harmless(line: str) -> str:
    """The line as a terminal ends up showing it, with the sequences for colours and no others."""
    line = line.rstrip("\r").rpartition("\r")[2].expandtabs()  # a progress bar writes over itself
    parts, at = [], 0
    for match in _CONTROL.finditer(line):
        parts += [escape(line[at : match.start()]), match[1] or ""]
        at = match.end()
    return "".join([*parts, escape(line[at:])])
