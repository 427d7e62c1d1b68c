"""What a person or a script sees: tables, colours, escapes (DESIGN §10).

Rules:

1. Data on stdout, everything else on stderr by `notice` (F83).
2. A terminal gets aligned columns, relative times and, if it is one for colours, colours beside the words; a line never
   wraps: in a table the flexible column gives way, elsewhere a long value goes on in the next line.  A pipe gets the
   same rows separated by tabs: uncut, no heading, no colours.
3. What is not printable is escaped, wherever it comes from (F82).  Logs are not rendered: they are bytes.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Sequence

_RED, _GREEN, _YELLOW, _BLUE, _DIM, _BOLD = "31", "32", "33", "34", "2", "1"

COLOURS = {
    "failed": _RED,
    "stuck": _RED,
    "lost": _RED,
    "unknown": _RED,
    "blocked": _RED,
    "awaiting_approval": _YELLOW,
    "cancelling": _YELLOW,
    "killed": _YELLOW,
    "paused": _YELLOW,
    "held": _YELLOW,
    "running": _BLUE,
    "done": _GREEN,
    "completed": _GREEN,
    "cancelled": _DIM,
}
"""Of the words for a state; red is for what needs somebody."""

_LEAST = 8
"""Columns that the flexible one keeps; what is narrower than that is cut at its right edge."""


def notice(message: str) -> None:
    """Say something beside the data."""
    for line in message.splitlines():
        sys.stderr.write(f"polpoctl: {escape(line)}\n")


def escape(text: str) -> str:
    """The text with what is not printable written as Python escapes it: one line that commands no terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Screen:
    """stdout as it is: a terminal with a width, or a pipe; in colour or not; for people, or as JSON."""

    def __init__(self, args: Namespace) -> None:
        self.json: bool = args.json
        self.terminal = sys.stdout.isatty()
        self.width = terminal_width()
        self.colour = _in_colour(args.color, self.terminal)

    def line(self, text: str) -> None:
        """One line of text that is printable."""
        sys.stdout.write(text + "\n")

    def value(self, value: object) -> None:
        """One JSON document: on a line of its own for a pipe, indented for a reader."""
        json.dump(value, sys.stdout, indent=2 if self.terminal else None)
        sys.stdout.write("\n")

    def json_line(self, value: object) -> None:
        """One of many JSON objects, each on its line."""
        sys.stdout.write(json.dumps(value) + "\n")

    def table(
        self, heads: Sequence[str], rows: Iterable[Sequence[str]], *, state: int = -1, flexible: int = -1
    ) -> None:
        """The rows under their heads.  `state`: the column whose words have colours; `flexible`: the one to shrink."""
        cells = [[escape(cell) for cell in row] for row in rows]
        if self.width is None:
            for row in cells:
                self.line("\t".join(row))
            return
        if not cells:
            return
        flexible %= len(heads)
        widths = [max(map(columns, column)) for column in zip(heads, *cells, strict=True)]
        others = sum(widths) - widths[flexible] + 2 * (len(heads) - 1)
        widths[flexible] = max(_LEAST, min(widths[flexible], self.width - others))
        self.line(self.paint(self._row(heads, widths, None)[0].rstrip(), _BOLD))
        for row in cells:
            plain, coloured = self._row(row, widths, state)
            # A row that was cut to the width loses its colours, rather than the code that ends them.
            self.line((coloured if columns(plain) <= self.width else plain).rstrip())

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, one pair a line; on a terminal a long value goes on below its beginning."""
        shown = [(name, escape(value)) for name, value in pairs]
        if self.width is None:
            for name, value in shown:
                self.line(f"{name}\t{value}")
            return
        margin = max((len(name) for name, _ in shown), default=0) + 2
        for name, value in shown:
            for number, part in enumerate(_folded(value, max(_LEAST, self.width - margin))):
                self.line(fit(("" if number else name).ljust(margin) + part, self.width))

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and text else text

    def word(self, text: str) -> str:
        """A word for a state, in its colour."""
        return self.paint(text, COLOURS[text]) if text in COLOURS else text

    def _row(self, row: Sequence[str], widths: Sequence[int], state: int | None) -> tuple[str, str]:
        """The row without and with colours."""
        assert self.width is not None
        fitted = [fit(cell, width) for cell, width in zip(row, widths, strict=True)]
        padded = [cell + " " * (width - columns(cell)) for cell, width in zip(fitted, widths, strict=True)]
        plain = "  ".join(padded).rstrip()
        if columns(plain) > self.width:
            cut = fit(plain, self.width)
            return cut, cut
        if state is not None and state >= 0:
            padded[state] = self.word(fitted[state]) + padded[state][len(fitted[state]) :]
        return plain, "  ".join(padded)


def columns(text: str) -> int:
    """The columns that a terminal needs for printable text."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # only for text that needs it

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, width: int) -> str:
    """The text, cut at its right end with an ellipsis if it needs more columns than that."""
    if columns(text) <= width:
        return text
    mark = "…" if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else "~"
    kept, room = [], width - 1
    for character in text:
        room -= columns(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + mark


def _folded(text: str, width: int) -> list[str]:
    """The text in pieces of at most so many columns, broken at blanks where there are some."""
    pieces = [""]
    for word in text.split(" "):
        longer = f"{pieces[-1]} {word}" if pieces[-1] else word
        if columns(longer) <= width:
            pieces[-1] = longer
            continue
        if pieces[-1]:
            pieces.append("")
        for character in word:
            if columns(pieces[-1] + character) > width:
                pieces.append("")
            pieces[-1] += character
    return pieces


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is, unless COLUMNS says otherwise; None for a pipe."""
    if not sys.stdout.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


def _in_colour(asked: str, terminal: bool) -> bool:
    if asked != "auto":
        return asked == "always"
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
