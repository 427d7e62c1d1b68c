"""Whether the graph of a mission document makes sense, and its layers."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.model.documents import MissionDocument, read
from polpod.rules.graphs import faults, find_cycle, layers, nodes, waits


def document(*tasks: tuple[str, str], **parts: Any) -> MissionDocument:
    """Tasks as `("c", "a b")`: c depends on a and b."""
    said = [{"title": title, "command": ["true"], "dependsOn": on.split()} for title, on in tasks]
    return read(json.dumps({"tasks": said} | parts))


def barrier(name: str, after: str, blocks: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "afterTasks": after.split(), "blocksTasks": blocks.split()} | more


@pytest.mark.parametrize(
    ("made", "path", "message"),
    [
        (document(("a", ""), ("a", "")), "$.tasks[1]", "the title 'a' is there 2 times"),
        (document(("a", "b")), "$.tasks[0].dependsOn[0]", "there is no task 'b' in this document"),
        (document(("a", "a")), "$.tasks[0].dependsOn", "'a' depends on itself"),
        (document(("a", "b"), ("b", "a")), "$.tasks[0].dependsOn", "a cycle: a → b → a"),
        (
            document(("a", ""), checkpoints=[barrier("c", "a x", "a")]),
            "$.checkpoints[0].afterTasks[1]",
            "there is no task 'x' in this document",
        ),
        (document(("a", ""), checkpoints=[barrier("c", "a", "a")]), "$.checkpoints[0]", "waits for 'a' and holds it back"),
        (
            document(("a", ""), ("b", "a"), qualityGates=[barrier("g", "b", "a")]),
            "$.tasks[0].dependsOn",
            "a cycle: a → b → a",
        ),
        (
            document(
                ("a", ""), ("b", ""), delays=[barrier("n", "a", "b", duration="PT1S")], checkpoints=[barrier("n", "a", "b")]
            ),
            "$",
            "the name of a gate, checkpoint or delay 'n' is there 2 times",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named_with_its_path(made: MissionDocument, path: str, message: str) -> None:
    """W30: unknown, forward and cyclic dependencies were dropped in silence.  §13.129, §13.133."""
    found = faults(made)
    assert (found[0].path, found[0].message) == (path, message)


def test_dependencies_may_look_forward() -> None:
    """W30, §13.129, §13.161."""
    assert faults(document(("b", "a"), ("a", ""))) == []


def test_a_long_cycle_is_shown_in_part() -> None:
    made = document(*((f"t{n}", f"t{(n + 1) % 1000}") for n in range(1000)))
    (fault,) = faults(made)
    assert fault.message.startswith("a cycle: t0 → t1 → ")
    assert fault.message.endswith("→ … → t0")
    assert len(fault.message) < 200


def test_ten_thousand_in_a_row_need_no_recursion() -> None:
    waits: dict[str, tuple[str, ...]] = {"t0": ()} | {f"t{n}": (f"t{n - 1}",) for n in range(1, 10_000)}
    assert find_cycle(waits) is None
    assert len(layers(waits)) == 10_000
    assert find_cycle(waits | {"t0": ("t9999",)}) is not None


graphs_of = st.integers(1, 12).flatmap(
    lambda size: st.fixed_dictionaries({n: st.sets(st.integers(0, size - 1)).map(tuple) for n in range(size)})
)


@given(graphs_of)
def test_a_graph_has_layers_or_a_cycle(waits: dict[int, tuple[int, ...]]) -> None:
    """§13.170."""
    cycle = find_cycle(waits)
    found = layers(waits)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert all(on in waits[node] for node, on in pairwise(cycle))
        assert sum(map(len, found)) < len(waits)
        return
    layer = {node: n for n, several in enumerate(found) for node in several}
    assert layer.keys() == waits.keys()
    assert all(layer[node] == 1 + max((layer[on] for on in ons), default=-1) for node, ons in waits.items())


def test_a_barrier_is_a_node_between_the_tasks() -> None:
    made = document(("a", ""), ("b", ""), delays=[barrier("later", "a", "b", duration="PT1S")])
    task, later = "task", ("delay", "later")
    assert waits(made) == {(task, "a"): [], (task, "b"): [later], later: [(task, "a")]}
    assert [(n.kind, n.name, n.layer, n.after) for n in nodes(made)] == [
        ("task", "a", 0, ()),
        ("task", "b", 2, (2,)),
        ("delay", "later", 1, (0,)),
    ]


def test_what_a_barrier_costs_is_what_is_before_it_and_what_is_behind_it() -> None:
    """Not their product: a document of half a megabyte would take gigabytes, and hours."""
    before, behind = [f"t{n}" for n in range(5000)], [f"u{n}" for n in range(5000)]
    wide = barrier("c", " ".join(before), " ".join(behind))
    made = document(*((title, "") for title in (*before, *behind)), checkpoints=[wide])
    assert faults(made) == []
    assert sum(map(len, waits(made).values())) == 10_000


def test_a_document_of_nothing_but_double_titles_is_refused_at_once() -> None:
    made = document(*((f"t{n % 20_000}", "") for n in range(40_000)))
    began = time.process_time()
    found = faults(made)
    assert (len(found), found[0].path) == (20_000, "$.tasks[20000]")
    assert time.process_time() - began < 1.0


def test_a_cycle_through_barriers_names_tasks_alone() -> None:
    made = document(("z", ""), ("a", ""), ("b", ""), qualityGates=[barrier("g", "b", "a"), barrier("h", "a", "b")])
    (fault,) = faults(made)
    assert (fault.path, fault.message) == ("$.tasks[1].dependsOn", "a cycle: a → b → a")
