"""Widths and escapes: nothing that is shown commands the terminal or needs more columns than there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polpoctl.render import columns, escape, fit

PRINTABLE = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=40)


@given(st.text())
def test_what_is_escaped_is_one_printable_line(text: str) -> None:
    assert escape(text).isprintable()


@given(PRINTABLE)
def test_what_is_printable_is_left_alone(text: str) -> None:
    assert escape(text) == text


def test_control_characters_are_written_out() -> None:
    assert escape("a\x1b[31mb\n\t\u202e\x9b") == r"a\x1b[31mb\n\t\u202e\x9b"


@given(PRINTABLE, st.integers(1, 30))
def test_a_text_fits(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert columns(fitted) <= width
    assert fitted == text or columns(text) > width


def test_columns_are_those_of_a_terminal() -> None:
    assert columns("abc") == 3
    assert columns("日本") == 4
    assert columns("e\u0301") == 1
