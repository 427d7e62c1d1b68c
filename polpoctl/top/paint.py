"""State as lines of a terminal, whatever its size: four of them about the daemon, the views and the keys, the rest for
what is looked at.

Rule: a colour says nothing that a word or a mark does not say too.
"""

from __future__ import annotations

import sys
from io import StringIO

from rich.console import Console
from rich.text import Text

from polpoctl.render import COLOURS, columns, escape, fit
from polpoctl.top import grid
from polpoctl.top.grid import Grid, Row
from polpoctl.top.state import State
from polpoctl.top.table import Table
from polpoctl.top.views import VIEWS, Column

_NARROW = 60
"""Below this many columns of the terminal, a column of a table has at most SHORT."""
_SHORT = 9
_STYLES = {"31": "red", "32": "green", "33": "yellow", "34": "blue", "2": "dim", "1": "bold"}
_NOTHING = ("nothing here", "nothing here; Page down looks further")
_COUNTED = ("pending", "in_progress", "review", "awaiting_approval", "failed", "done", "cancelled")

HELP = """\
up down, k j: select; Page up, Page down, space b: by a page, and beyond its end the next page; Home g, End G: the first \
and the last

1 to 4, Tab: tasks, queues, missions, approvals
Enter: the log of a task, the tasks of a mission, what an approval is about; Esc: back

c: cancel (asks first); r: run again (asks first); h: hold, or release; w: why it waits or failed
a: also what finished long ago, or not; s: another order, within the page
/: filter, as queue=build status=failed os=linux make: what is not NAME=VALUE is looked for in titles, ids and states; \
status is pending, in_progress, done …; other names are labels; Esc: no filter

Queues, missions: p: pause, or resume; x: abort a mission (asks first)
Approvals: a: approve, x: reject (both ask first); w: show
Ctrl-L: draw anew; q, Ctrl-C: quit"""


class Painter:
    """`colour`: whether there are any."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._console = Console(file=StringIO(), width=80)  # it only reads styles

    def picture(self, state: State, width: int, height: int, now: float) -> Grid:
        """All lines of a terminal of this size."""
        if state.log is not None:
            head = f"log of task {state.log.task_id}  {state.log.title}"
            top = [self._text((fit(printable(head), width), "bold"))]
            if state.trouble is not None:
                top = [self._status(state, width)]
            room = max(1, height - 3)
            body = state.log.rows(self._console, width, room, colour=self._colour)
        else:
            top = [self._status(state, width), self._tabs(state, width)]
            room = max(1, height - 4)
            body = self._table(state.table, width, room, now)
        if state.reading:
            body = self._sentences(state, width)
            state.line_read = max(0, min(state.line_read, len(body) - room))
            body = body[state.line_read :]
        lines = [grid.fitted(row, width) for row in [*top, *(body + [[]] * room)[:room], self._beside(state, width)]]
        lines.append(grid.fitted(self._keys(state, width), width))
        return [*lines[: height - 2], *lines[-2:]][:height] if height > 2 else lines[:height]

    def _text(self, *parts: tuple[str, str]) -> Row:
        return grid.cells(Text.assemble(*parts).render(self._console), colour=self._colour)

    def _status(self, state: State, width: int) -> Row:
        if state.trouble is not None:
            return self._text((fit(printable(f"polpod is away: {state.trouble}"), width), "bold red"))
        if not state.status:
            return self._text(("polpod …", "dim"))
        status = state.status
        running = sum(n for word, n in status["runs"].items() if word in ("starting", "running"))
        parts = [f"polpod {status['state']}", f"{running}/{status['max_concurrency']} slots"]
        parts += [f"{n} {word}" for word in _COUNTED if (n := status["tasks"].get(word))]
        if paused := status["launcher"]["paused"]:
            parts.insert(1, f"nothing starts: {paused}")
        return self._text((fit(printable("  ".join(parts)), width), "bold"))

    def _tabs(self, state: State, width: int) -> Row:
        parts = []
        for number, view in enumerate(VIEWS):
            here = state.table is state.tables[number]
            label = f"{number + 1} {view.name}" if width >= 50 else view.name
            parts.append((f"[{label}]" if here else f" {label} ", "reverse" if here else ""))
        if state.table not in state.tables:
            parts = [(printable(f"[{state.table.title}]"), "reverse")]
        return self._text(*(part for part in parts if part[0]))

    def _table(self, table: Table, width: int, room: int, now: float) -> Grid:
        if table.refused or not table.entries:
            said = table.refused or (_NOTHING[table.more] if table.loaded else "…")
            return grid.wrapped(self._text((printable(said), "red" if table.refused else "dim")), width)
        shown = table.window(room - 1)
        columns_ = [column for column in table.view.columns if width >= column.wide]
        cells = [[printable(column.cell(entry, now)) for column in columns_] for entry in shown]
        widths = _widths(columns_, cells, width)
        head = self._text((" " + _joined([column.head for column in columns_], widths), "bold"))
        rows = [head] if room > 1 else []
        for number, row in enumerate(cells, table.first):
            rows.append(self._row(columns_, row, widths, here=number == table.at))
        return rows

    def _row(self, shown: list[Column], row: list[str], widths: list[int], *, here: bool) -> Row:
        parts: list[tuple[str, str]] = [(">" if here else " ", "reverse" if here else "")]
        for number, (column, cell, width) in enumerate(zip(shown, row, widths, strict=True)):
            text = fit(cell, width)
            style = "reverse" if here and number == 0 else ""
            if column.head in ("STATE", "STATUS"):
                style = _STYLES.get(COLOURS.get(cell.split(" ")[0], ""), "")
            parts += [(text, style), (" " * (width - columns(text)) + " " * (number + 1 < len(row)), "")]
        return self._text(*(part for part in parts if part[0]))

    def _sentences(self, state: State, width: int) -> Grid:
        lines = HELP.split("\n")
        if state.sentences is not None and not state.help:
            lines = [state.sentences.title, "", *state.sentences.lines]
        rows: Grid = []
        for line in lines:
            wrapped = Text(printable(line)).wrap(self._console, width)
            rows += [grid.cells(part.render(self._console), colour=self._colour) for part in wrapped] or [[]]
        return rows

    def _beside(self, state: State, width: int) -> Row:
        """The line above the keys: what is asked, written or told, or else how the page was chosen."""
        if state.question is not None:
            end = " y/n"
            return self._text((fit(printable(state.question.text), max(1, width - len(end))) + end, "bold reverse"))
        if state.line is not None:
            said = f" {printable(state.message)}" if state.message else ""
            return self._text((f"/{printable(state.line)[-(width - 2) :]}", ""), ("_", "reverse"), (said or " ", "red"))
        if state.reading:
            return self._text((fit("up, down: further; any other key: back", width), "dim"))
        if state.message:
            return self._text((fit(printable(state.message), width), "bold"))
        return self._text((fit(printable(_chosen(state)), width) or " ", "dim"))

    def _keys(self, state: State, width: int) -> Row:
        *some, help_, quit_ = state.keys()
        fitting = [help_, quit_]  # by which the others are found
        for key in some:
            if sum(len(name) + len(word) + 3 for name, word in [*fitting, key]) > width + 2:
                break
            fitting.insert(-2, key)
        return self._text(*(part for key, word in fitting for part in ((key, "bold"), (f" {word}  ", ""))))


def _chosen(state: State) -> str:
    if state.log is not None:
        log = state.log
        parts = [
            f"run {log.run}" if log.run is not None else "no run yet",
            log.said,
            f"{log.below} below" if log.below else "",
        ]
    else:
        table = state.table
        parts = [f"/{table.filter}" if table.filter else "", f"by {table.order}" if table.order else ""]
        parts += [f"page {table.page}" if table.page > 1 or table.more else "", "more" if table.more else ""]
        parts += ["all" if table.all else ""]
    return "  ".join(part for part in parts if part)


def _widths(shown: list[Column], cells: list[list[str]], width: int) -> list[int]:
    """Of the columns; the last one has what is left."""
    found = []
    for number, column in enumerate(shown):
        most = column.most if width >= _NARROW else min(column.most, _SHORT)
        found.append(min(most, max(columns(text) for text in (column.head, *(row[number] for row in cells)))))
    found[-1] = max(1, width - 1 - sum(found[:-1]) - (len(found) - 1))
    return found


def _joined(texts: list[str], widths: list[int]) -> str:
    return " ".join(fit(text, width).ljust(width) for text, width in zip(texts, widths, strict=True))


def printable(text: str) -> str:
    """One line that commands no terminal, in characters that it has."""
    text = escape(text)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(c if c.encode(encoding, "ignore") else "?" * columns(c) for c in text)
    return text
