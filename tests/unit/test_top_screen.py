"""From keys to bytes: what a terminal sends is understood, and what it is sent makes the picture that was meant."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from polpoctl.top import grid
from polpoctl.top.feed import Part
from polpoctl.top.grid import Grid
from polpoctl.top.keys import Keys
from polpoctl.top.logview import LogView, harmless

WIDTH, HEIGHT = 24, 5
STYLES = [Style.null(), Style.parse("red"), Style.parse("bold reverse")]
SEQUENCE = re.compile(r"\x1b\[([\d;]*)([A-Za-z])|\n|.", re.DOTALL)


class Terminal:
    """As much of a terminal as `grid` makes use of: each cell a character with the codes of its style."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells = [[("?", "")] * width for _ in range(height)]
        self.x = self.y = 0
        self.style = ""
        self.region = (0, height)

    def write(self, text: str) -> None:
        for match in SEQUENCE.finditer(text):
            if match[0] == "\n":
                self._down()
            elif match[2] is None:
                self._put(match[0])
            else:
                numbers = [int(n) for n in match[1].split(";") if n]
                getattr(self, f"_{match[2]}")(*numbers)

    def _put(self, character: str) -> None:
        size = cell_len(character)
        if not size:
            x = self.x - 1 if self.cells[self.y][self.x - 1][0] else self.x - 2
            under = self.cells[self.y][x]
            self.cells[self.y][x] = (under[0] + character, under[1])
        for part in [character, ""][:size]:
            assert self.x < self.width, "written beyond the edge"
            self.cells[self.y][self.x] = (part, self.style)
            self.x += 1

    def _down(self) -> None:
        first, last = self.region
        assert self.y == last - 1
        self.cells[first:last] = [*self.cells[first + 1 : last], [(" ", "")] * self.width]

    def _H(self, line: int = 1, column: int = 1) -> None:
        self.x, self.y = column - 1, line - 1

    def _J(self, what: int) -> None:
        self.cells = [[(" ", "")] * self.width for _ in range(self.height)]

    def _K(self) -> None:
        self.cells[self.y][self.x :] = [(" ", self.style)] * (self.width - self.x)

    def _r(self, first: int = 1, last: int | None = None) -> None:
        self.region = first - 1, last or self.height

    def _m(self, *codes: int) -> None:
        self.style = "" if codes == (0,) else ";".join(map(str, codes))


def as_shown(picture: Grid) -> list[list[tuple[str, str]]]:
    return [[(character, style._make_ansi_codes(ColorSystem.STANDARD)) for character, style in row] for row in picture]


pieces = st.tuples(st.text("ab 日e\u0301", max_size=6), st.sampled_from(STYLES))
rows = st.lists(pieces, max_size=4).map(
    lambda parts: grid.fitted(grid.cells([Segment(t, s) for t, s in parts], colour=True), WIDTH)
)
pictures = st.lists(rows, min_size=HEIGHT, max_size=HEIGHT)


@given(pictures, pictures, st.integers(0, 3))
def test_a_picture_that_follows_another_is_what_the_terminal_shows(first: Grid, second: Grid, moved: int) -> None:
    terminal = Terminal(WIDTH, HEIGHT)
    terminal.write(grid.changes(None, first))
    assert terminal.cells == as_shown(first)
    second = [*first[moved:], *second][:HEIGHT] if moved else second
    terminal.write(grid.changes(first, second))
    assert terminal.cells == as_shown(second)
    assert grid.changes(second, second) == ""


def picture(*lines: str) -> Grid:
    return [grid.fitted(grid.cells([Segment(line)], colour=True), 80) for line in lines]


def test_little_is_sent_where_little_is_new() -> None:
    table = [f" {n:<6} running  45s   make -j4 check of part {n}" for n in range(20)]
    ticked = [line.replace("45s", "46s") if n == 7 else line for n, line in enumerate(table)]
    assert len(grid.changes(picture(*table), picture(*ticked))) <= 10
    cleared = [line[:20] if n == 7 else line for n, line in enumerate(table)]
    assert len(grid.changes(picture(*table), picture(*cleared))) <= 10
    log = [f"{n:>4} of a log that goes on with such lines" for n in range(30)]
    before = picture("log of task 5", *log[:20], "follow")
    assert len(grid.changes(before, picture("log of task 5", *log[1:21], "follow"))) <= 80


def test_a_line_goes_on_below_and_no_wide_character_is_halved() -> None:
    row = grid.cells([Segment("ab日cd")], colour=True)
    assert ["".join(c for c, _ in line) for line in grid.wrapped(row, 3)] == ["ab ", "日c", "d  "]
    assert "".join(c for c, _ in grid.fitted(row, 3)) == "ab "
    assert len(grid.wrapped([], 3)) == 1


def test_without_colours_what_is_left_is_bold_and_the_like() -> None:
    row = grid.cells([Segment("x", Style.parse("bold red"))], colour=False)
    assert grid.changes(None, [row]) == "\x1b[2J\x1b[1H\x1b[1mx\x1b[0m"


TYPED = {
    b"c": ["c"],
    b"\x1b[A\x1b[B": ["up", "down"],
    b"\x1bOA\r": ["up", "enter"],
    b"\x1b[5~\x1b[6~": ["page-up", "page-down"],
    "é日".encode(): ["é", "日"],
    b"\x1b[15~q": ["unknown", "q"],
    b"\x1b[1;5Cx": ["unknown", "x"],
    b"\x1bcq": ["escape", "c", "q"],
    b"\x1b[1;": [],
    b"\x1b\x1b[A": ["escape", "up"],
    b"\x7f\t\x1b[Z": ["backspace", "tab", "backtab"],
}


@pytest.mark.parametrize("typed", TYPED)
def test_keys_are_told_apart_however_they_arrive(typed: bytes) -> None:
    assert Keys().feed(typed) == TYPED[typed]
    keys = Keys()
    assert [key for byte in typed for key in keys.feed(bytes([byte]))] == TYPED[typed]
    assert keys.unfinished == (TYPED[typed] == [])


def test_the_key_escape_is_what_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.unfinished
    assert (keys.flush(), keys.flush()) == (["escape"], [])


LINES = {
    "plain": "plain",
    "\x1b[1;31mred\x1b[0m": "\x1b[1;31mred\x1b[0m",
    "10%\r20%\r": "20%",
    "a\x1b[2Jb\x1b]0;title\x07c\x1b(0d": "abcd",
    "\x1b]52;c;aGk=": "",
    "bell\x07, \x9b31m": r"bell\x07, \x9b31m",
    "a\tb": "a       b",
    "\x1b": r"\x1b",
}


@pytest.mark.parametrize("line", LINES)
def test_a_log_has_colours_and_nothing_else_of_a_terminal(line: str) -> None:
    assert harmless(line) == LINES[line]


@given(st.text("a\x1b[]m0;\x07\x9b\r\x00(", max_size=30))
@example("\x1b]\x1b[")
def test_no_log_commands_the_terminal(line: str) -> None:
    assert re.sub(r"\x1b\[[0-9;:]*m", "", harmless(line)).isprintable()


def test_a_log_is_looked_through_while_it_goes_on() -> None:
    console, log = Console(file=StringIO()), LogView(1, "5", "job")

    def seen() -> list[str]:
        return ["".join(c for c, _ in row).strip() for row in log.rows(console, 20, 3, colour=True)]

    log.accept(Part(1, b"eins\nzwei\ndr\xe2", 7))
    log.accept(Part(1, b"\x82\xac\nvier", 7))
    assert seen() == ["zwei", "dr€", "vier"]
    log.move(-1)
    assert (seen(), log.below) == (["eins", "zwei", "dr€"], 1)
    log.accept(Part(1, b"!\nlast\n", 7))
    assert seen() == ["eins", "zwei", "dr€"]
    log.home()
    assert (seen(), log.below) == (["eins", "zwei", "dr€"], 2)
    log.end()
    log.accept(Part(1, b"half", 7))
    log.accept(Part(1, b"next", 8))
    assert seen() == ["half", "--- run 8 ---", "next"]
