"""Polpo's behaviours and weaknesses, and the tests that hold them here: the marks in the tests' docstrings, as tables."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from runpy import run_path

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"

MARK = re.compile(r"§13\.(\d+)(?: to §13\.(\d+))?|\bW(\d+)\b")
MOST_SHOWN = 4
"""Tests that a row names."""

Marks = Mapping[str, list[str]]
"""The tests that name each of them, by the file and the name of the test."""


def tables() -> list[str]:
    """Both, as Markdown.  Raises ValueError for one that neither a test nor a reason holds, and for a mark of nothing."""
    data = run_path(str(HERE / "polpo_behaviours.py"))
    behaviours, weaknesses = data["BEHAVIOURS"], data["WEAKNESSES"]
    pending = {mark: part for part, names in data["PENDING"].items() for mark in names}
    overruled, tests = data["OVERRULED"], marks()
    known = {*(f"§13.{n}" for n in behaviours), *(f"W{n}" for n in weaknesses)}
    _refuse_unknown(known, "a reason", overruled)
    _refuse_unknown(known, "a part", pending)
    _refuse_unknown(known | {f"§13.{n}" for n in range(1, max(behaviours))}, "a test", tests)

    def rows(prefix: str, lines: Mapping[int, str], numbers: Iterator[int]) -> list[str]:
        head = ["| | what | held by |", "| --- | --- | --- |"]
        return [*head, *(f"| {n} | {lines[n]} | {_held(f'{prefix}{n}', tests, overruled, pending)} |" for n in numbers)]

    lines = ["## Behaviours", ""]
    firsts = [*data["SECTIONS"], max(behaviours) + 1]
    for first, following in pairwise(firsts):
        among = (n for n in behaviours if first <= n < following)
        lines += [f"### {data['SECTIONS'][first]}", "", *rows("§13.", behaviours, among), ""]
    return [*lines, "## Weaknesses that are absent", "", *rows("W", weaknesses, iter(weaknesses)), ""]


def marks() -> Marks:
    """Read from the docstrings of all tests, in the order of their files."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for mark in dict.fromkeys(_named(ast.get_docstring(node) or "")):
                    found[mark].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def _named(docstring: str) -> Iterator[str]:
    for first, last, weakness in MARK.findall(docstring):
        if weakness:
            yield f"W{weakness}"
        else:
            yield from (f"§13.{n}" for n in range(int(first), int(last or first) + 1))


def _held(mark: str, tests: Marks, overruled: Mapping[str, str], pending: Mapping[str, str]) -> str:
    named = tests.get(mark, [])
    shown = [f"`{test}`" for test in named[:MOST_SHOWN]]
    shown += [f"and {len(named) - MOST_SHOWN} more"] if len(named) > MOST_SHOWN else []
    said = [f"overruled: {overruled[mark]}"] if mark in overruled else []
    if not named and not said:
        if mark not in pending:
            raise ValueError(f"neither a test nor a reason holds {mark}")
        said = [f"see {pending[mark]}"]
    return "; ".join([*said, *([", ".join(shown)] if shown else [])])


def _refuse_unknown(known: set[str], what: str, named: Mapping[str, object]) -> None:
    if unknown := sorted(named.keys() - known):
        raise ValueError(f"there is {what} for {unknown[0]}, which there is not")
