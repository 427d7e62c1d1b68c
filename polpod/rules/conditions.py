"""Whether a condition holds of values such as an event's (polpo-behaviour §10.5): a table of operators, and and/or/not.

Rule 1: a field that is not there is null, and compares as null does.  Rule 2: only what is alike has an order: numbers,
and texts (so instants of RFC 3339 in UTC); else `>` and the like are false.  Rule 3: true is not 1.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET

from polpod.model.conditions import Condition


def holds(condition: Condition, values: Mapping[str, Any]) -> bool:
    """Whether it holds of the values, which are JSON."""
    if condition.all is not UNSET:
        return all(holds(part, values) for part in condition.all)
    if condition.any is not UNSET:
        return any(holds(part, values) for part in condition.any)
    if condition.none is not UNSET:
        return not holds(condition.none, values)
    assert condition.field is not None  # as it was constructed
    assert condition.op is not None
    return _OPS[condition.op](value_at(values, condition.field), condition.value)


def value_at(values: Any, path: str) -> Any:
    """What is at the path (`task.labels.team`, `scores.0.value`); None where there is nothing."""
    here = values
    for name in path.split("."):
        match here:
            case Mapping():
                here = here.get(name)
            case list() | tuple() if name.isdecimal() and name.isascii() and len(name) < 10 and int(name) < len(here):
                here = here[int(name)]
            case _:
                return None
    return here


def _same(one: Any, other: Any) -> bool:
    match one, other:
        case bool(), _:
            return one is other
        case _, bool():
            return False
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(map(_same, one, other))
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    return bool(one == other)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda one, other: _order(one) is not None and _order(one) is _order(other) and compare(one, other)


def _order(value: Any) -> type | None:
    """What it has an order among."""
    match value:
        case bool():
            return None
        case int() | float():
            return float
        case str():
            return str
    return None


def _includes(one: Any, other: Any) -> bool:
    """A list has that element, or a text that text in it."""
    if isinstance(one, str):
        return isinstance(other, str) and other in one
    return isinstance(one, list | tuple) and any(_same(part, other) for part in one)


_OPS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": _same,
    "!=": lambda one, other: not _same(one, other),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    "includes": _includes,
    "not_includes": lambda one, other: not _includes(one, other),
    "exists": lambda one, _: one is not None,
    "not_exists": lambda one, _: one is None,
}
