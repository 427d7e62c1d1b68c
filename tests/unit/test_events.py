"""The table of kinds of events is what the code writes into the journal: no kind and no field more or less (W43, W13)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from polpod.model.events import COMMON, KINDS, Kind, fits

ROOT = Path(__file__).parents[2] / "polpod"
TABLE = ROOT / "model" / "events.py"
KIND = re.compile(r"[a-z0-9_*]+(:[A-Za-z_*]+)+")
WRITERS = {"note", "_note", "event", "Event"}
"""Functions that take a kind, and write an event or make one."""
READERS = ("services/journal.py", "services/audit.py")


def text_of(node: ast.expr) -> str | None:
    """The text, with a star for each part that is made when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
    return None


@cache
def code() -> list[tuple[str, list[ast.expr]]]:
    """All expressions of each file, but for the table itself."""
    return [
        (str(path.relative_to(ROOT)), [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.expr)])
        for path in sorted(ROOT.rglob("*.py"))
        if path != TABLE
    ]


def kinds_of(name: str) -> list[Kind]:
    """Those that are meant by a name, or may be where a part of it is made when it runs."""
    return [kind for kind in KINDS if fits(name, kind.name) or fits(kind.name, name)]


def written() -> Iterator[tuple[str, str, set[str]]]:
    """Each event that is written with its kind beside it: where, the kind, and the fields that are named there."""
    for place, nodes in code():
        for node in nodes:
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in WRITERS:
                continue
            said = [text_of(a) for a in (*node.args, *(k.value for k in node.keywords if k.arg == "kind"))]
            kinds = [text for text in said if text is not None and KIND.fullmatch(text)]
            fields = {k.arg for k in node.keywords if k.arg is not None and name != "Event"}
            yield from ((f"{place}:{node.lineno}", kind, fields) for kind in kinds)


def test_every_kind_that_is_written_is_in_the_table_with_its_fields() -> None:
    found = list(written())
    assert len(found) > 30
    unknown = [f"{place}: {kind}" for place, kind, _ in found if not kinds_of(kind)]
    assert unknown == [], "add them to polpod/model/events.py"
    strange = [
        f"{place}: {kind} has {sorted(fields)}"
        for place, kind, fields in found
        if not any(one.fields is None or fields <= one.fields | COMMON for one in kinds_of(kind))
    ]
    assert strange == [], "add them to polpod/model/events.py"


def test_every_noun_of_a_directory_is_added_and_removed() -> None:
    """The methods of such a noun write its events, whose kinds are made when they run."""
    calls = [n for _, nodes in code() for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "methods"]
    nouns = [text for call in calls if (text := text_of(call.args[0]))]
    names = {kind.name for kind in KINDS}
    assert len(nouns) > 4
    assert [noun for noun in nouns if not {f"{noun}:added", f"{noun}:removed"} <= names] == []


HOOKS = {"task:spawn", "task:complete"}
"""Polpo's words for when an approval gate is asked; nothing is written under them."""


def test_every_text_in_the_code_that_looks_like_a_kind_is_one() -> None:
    for place, nodes in code():
        words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert [w for w in words - HOOKS if KIND.fullmatch(w) and not kinds_of(w)] == [], place


def test_every_kind_of_the_table_is_written_somewhere() -> None:
    texts = {text for place, nodes in code() if place not in READERS for node in nodes if (text := text_of(node))}
    names = {text for text in texts if KIND.fullmatch(text)}
    assert [kind.name for kind in KINDS if not any(fits(name, kind.name) for name in names)] == []


def test_the_table_says_each_kind_once() -> None:
    names = [kind.name for kind in KINDS]
    assert len(names) == len(set(names))
