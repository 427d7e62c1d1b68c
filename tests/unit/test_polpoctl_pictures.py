"""Pictures of a mission's graph: well-formed whatever its tasks are called."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from polpoctl import pictures

NAMES = ['a "b"', "a < b & c > d", "\x1b[31m\x00\n\x7f", "\ufffe\uffff", "\ud800", "back\\slash", "]]>", "ä" * 300]


def graph(name: str) -> dict[str, Any]:
    def node(kind: str, layer: int, *after: int) -> dict[str, Any]:
        return {"id": "1", "kind": kind, "name": name, "layer": layer, "after": list(after), "state": "done"}

    return {"name": name, "nodes": [node("task", 0), node("task", 2, 2), node("delay", 1, 0)]}


@pytest.mark.parametrize("name", NAMES)
def test_an_svg_is_xml_whatever_is_in_it(name: str) -> None:
    drawn = ET.fromstring(pictures.svg(graph(name)))
    shapes = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert (shapes.count("path"), shapes.count("text")) == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_is_a_line_whatever_is_in_it(name: str) -> None:
    text, dot = pictures.text(graph(name)), pictures.dot(graph(name))
    assert len(text.splitlines()) == 3
    assert len(dot.splitlines()) == 3 + 3 + 2 + 1
    assert all(line.isprintable() for line in (text + dot).splitlines())
