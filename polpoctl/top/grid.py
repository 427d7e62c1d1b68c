"""What a terminal shows, as cells, and the few bytes that make it show something else: a slow line is to be enough.

Rules:

1. A cell is a character with its style; the second half of a wide one is empty.  Only cells that differ are sent.
2. Where lines moved up, as in a log that goes on, the terminal moves them, and only what is new is sent.
3. Colours are the terminal's own sixteen: they fit its background, and take few bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

Cell = tuple[str, Style]
Row = list[Cell]
Grid = list[Row]

_PLAIN = Style.null()
_BLANK: Cell = (" ", _PLAIN)
_GAP = 8
"""Cells that are the same and are sent all the same, as to go to the next place takes as much."""


def cells(segments: Iterable[Segment], *, colour: bool) -> Row:
    """The cells of printable text."""
    row: Row = []
    for segment in segments:
        style = segment.style or _PLAIN
        style = style if colour else style.without_color
        for character in segment.text:
            if size := cell_len(character):
                row += [(character, style), ("", style)][:size]
            elif row:  # it is put upon the one before
                under = len(row) - 1 if row[-1][0] else len(row) - 2
                row[under] = (row[under][0] + character, row[under][1])
    return row


def fitted(row: Row, width: int) -> Row:
    """The row cut or filled up to the width."""
    if len(row) > width and row[width][0] == "":  # half of a wide character
        return [*row[: width - 1], _BLANK]
    return row[:width] + [_BLANK] * (width - len(row))


def wrapped(row: Row, width: int) -> Grid:
    """The row in as many lines of the width as it needs, one at least."""
    lines = []
    while len(row) > width:
        cut = width - 1 if row[width][0] == "" and width > 1 else width
        lines.append(fitted(row[:cut], width))
        row = row[cut:]
    return [*lines, fitted(row, width)]


def changes(old: Grid | None, new: Grid) -> str:
    """What turns a terminal that shows `old` (None: anything) into one that shows `new`, of the same size."""
    parts = []
    if old is None:
        parts.append("\x1b[2J")
        old = [[_BLANK] * len(line) for line in new]
    old = list(old)
    if moved := _moved_up(old, new):
        first, last, by = moved
        parts.append(f"\x1b[{first + 1};{last}r\x1b[{last}H" + "\n" * by + "\x1b[r")
        old[first:last] = old[first + by : last] + [[_BLANK] * len(new[0])] * by
    for y, (before, after) in enumerate(zip(old, new, strict=True)):
        if before != after:
            parts += _line(y, before, after)
    return "".join(parts)


def _moved_up(old: Grid, new: Grid) -> tuple[int, int, int] | None:
    """Lines from, to, and by how many they moved up, where most of what differs has only moved."""
    differ = [y for y, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
    if len(differ) < 3:
        return None
    first, last = differ[0], differ[-1] + 1
    for by in range(1, (last - first) // 2 + 1):
        if old[first + by : last] == new[first : last - by]:
            return first, last, by
    return None


def _line(y: int, before: Row, after: Row) -> Iterator[str]:
    ends = len(after)
    while ends and after[ends - 1] == _BLANK:
        ends -= 1
    if any(cell != _BLANK for cell in before[ends:]):
        yield _at(ends, y) + "\x1b[K"
        before = before[:ends] + after[ends:]
    for start, stop in _differing(before, after):
        yield _at(start, y) + _painted(after[start:stop])


def _differing(before: Row, after: Row) -> Iterator[tuple[int, int]]:
    """From where to where cells differ; what lies close together is one."""
    differ = [x for x, (was, now) in enumerate(zip(before, after, strict=True)) if was != now]
    start = 0
    for number, x in enumerate(differ):
        if number + 1 == len(differ) or differ[number + 1] - x > _GAP:
            yield differ[start], x + 1
            start = number + 1


def _painted(cells: Row) -> str:
    parts = []
    for style, group in groupby(cells, key=lambda cell: cell[1]):
        text = "".join(character for character, _ in group)
        parts.append(style.render(text, color_system=ColorSystem.STANDARD))
    return "".join(parts)


def _at(x: int, y: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H"
