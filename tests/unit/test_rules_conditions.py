"""Conditions: operators, nesting, and what is refused (§13.209; polpo-behaviour §10.5)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.model.conditions import DEEPEST, OPS, Condition
from polpod.rules.conditions import holds, value_at

VALUES: dict[str, Any] = {
    "task": {"status": "failed", "retries": 3, "labels": {"team": "core"}, "score": 4.5, "hold": True, "empty": ""},
    "scores": [{"value": 1}, {"value": 2}],
    "names": ["a", "b", 1],
    "nothing": None,
}


def read(document: object) -> Condition:
    return msgspec.convert(document, Condition)


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("task.status", "==", "failed", True),
        ("task.status", "==", "done", False),
        ("task.status", "!=", "done", True),
        ("task.retries", "==", 3.0, True),
        ("task.hold", "==", 1, False),
        ("task.retries", "==", "3", False),
        ("task.labels", "==", {"team": "core"}, True),
        ("task.labels", "==", {"team": True}, False),
        ("names", "==", ["a", "b", True], False),
        ("missing", "==", None, True),
        ("missing.deeper", "!=", "x", True),
        ("task.retries", ">", 2, True),
        ("task.retries", ">", 3, False),
        ("task.retries", ">=", 3, True),
        ("task.score", "<", 5, True),
        ("task.score", "<=", 4.5, True),
        ("task.score", "<", 4.5, False),
        ("task.status", ">", 1, False),
        ("task.hold", ">=", 1, False),
        ("missing", "<", 1, False),
        ("task.status", ">", "a", True),
        ("names", "includes", "a", True),
        ("names", "includes", True, False),
        ("names", "not_includes", "z", True),
        ("task.status", "includes", "fail", True),
        ("task.status", "includes", 1, False),
        ("missing", "includes", "a", False),
        ("missing", "not_includes", "a", True),
        ("scores.1.value", "==", 2, True),
        ("scores.2.value", "==", None, True),
        ("scores.²", "==", None, True),
        ("scores.9999999999999999999999", "==", None, True),
    ],
)
def test_each_operator_compares_what_is_alike(field: str, op: str, value: object, expected: bool) -> None:
    """§13.209: operators."""
    assert holds(read({"field": field, "op": op, "value": value}), VALUES) is expected


def test_exists_asks_whether_there_is_a_value() -> None:
    for field, there in (("task.status", True), ("task.empty", True), ("nothing", False), ("missing.x", False)):
        assert holds(read({"field": field, "op": "exists"}), VALUES) is there
        assert holds(read({"field": field, "op": "not_exists"}), VALUES) is not there


def test_of_nothing_and_is_true_and_or_is_false() -> None:
    """§13.209: vacuous and/or."""
    assert holds(read({"and": []}), {}) is True
    assert holds(read({"or": []}), {}) is False
    assert holds(read({"not": {"or": []}}), {}) is True


def test_conditions_nest() -> None:
    """§13.209: nesting."""
    failed = {"field": "task.status", "op": "==", "value": "failed"}
    tired = {"field": "task.retries", "op": ">=", "value": 5}
    assert holds(read({"and": [failed, {"not": tired}]}), VALUES)
    assert not holds(read({"and": [failed, tired]}), VALUES)
    assert holds(read({"or": [tired, {"and": [failed]}]}), VALUES)


def json_deep(depth: int) -> object:
    return [json_deep(depth - 1)] if depth else 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "a condition is one of"),
        ({"and": [], "or": []}, "a condition is one of"),
        ({"field": "x", "op": "==", "value": 1, "and": []}, "a condition is one of"),
        ({"field": "x"}, "needs `field` and `op`"),
        ({"op": "exists"}, "needs `field` and `op`"),
        ({"field": "", "op": "exists"}, "length >= 1"),
        ({"field": "x", "op": "=="}, "`==` takes a `value`"),
        ({"field": "x", "op": "exists", "value": 1}, "`exists` takes no `value`"),
        ({"field": "x", "op": "~", "value": 1}, "Invalid enum value '~' - at `$.op`"),
        ({"and": [{"field": "x", "op": "exists"}, {"fiel": 1}]}, "`fiel` - at `$.and[1]`"),
        ({"not": [1]}, "`$.not`"),
        ({"and": {"field": "x", "op": "exists"}}, "`$.and`"),
        ("process.exit()", "Expected `object`"),
        ({"field": "a\0", "op": "exists"}, "NUL and lone surrogates"),
        ({"not": {"field": "x", "op": "==", "value": ["a\0"]}}, "cannot be stored - at `$.not`"),
        ({"field": "x", "op": "==", "value": 10**30}, "not an integer of 53 bits"),
        ({"field": "x", "op": "==", "value": float("nan")}, "not a finite number"),
        ({"field": "x", "op": "==", "value": json_deep(12)}, "nested deeper"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_path(document: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        read(document)
    assert said in str(caught.value)


def test_one_that_is_too_deep_is_refused() -> None:
    document: dict[str, Any] = {"field": "x", "op": "exists"}
    for _ in range(DEEPEST - 1):
        document = {"not": document}
    holds(read(document), {})
    with pytest.raises(msgspec.ValidationError, match="nested deeper than 20"):
        read({"or": [document]})


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab.", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)


@given(
    values=st.dictionaries(st.sampled_from("abc"), json), field=st.text("abc.01", min_size=1, max_size=6), value=json
)
def test_any_operator_takes_any_values(values: dict[str, Any], field: str, value: Any) -> None:
    said = {op: holds(Condition(field, op, value), values) for op in OPS if "exists" not in op}
    assert said["=="] is not said["!="]
    assert said["includes"] is not said["not_includes"]
    assert not (said[">"] and said["<"])
    assert said["=="] or not (said[">="] and said["<="])
    assert holds(Condition(field, "exists"), values) is (value_at(values, field) is not None)
