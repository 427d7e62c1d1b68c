"""Conditions: what must hold of some values, as data that a person writes; nothing of them is ever executed.

A condition is one of `{"field", "op", "value"}`, `{"and": […]}`, `{"or": […]}` and `{"not": …}`; rules/conditions.py
says whether it holds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from polpod.model.entity import MAX_DEPTH, storable

Op = Literal["==", "!=", ">", ">=", "<", "<=", "includes", "not_includes", "exists", "not_exists"]
OPS: tuple[Op, ...] = get_args(Op)

UNARY = frozenset({"exists", "not_exists"})
"""They ask nothing but whether the field has a value."""

DEEPEST = 20
"""Conditions within each other."""
DEEPEST_VALUE = 10
"""Lists and dicts within each other: with all that may be around it, a task that has it fits into a message (DESIGN §9)."""

Path = Annotated[str, Meta(min_length=1, max_length=1000)]
"""Names with dots between them; in a list, a number."""


_WORDS = {"all": "and", "any": "or", "none": "not"}
"""What the fields are called in a document; in Python these are keywords."""


class Condition(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename=_WORDS):
    """Raises ValueError where it is not exactly one of the four forms."""

    field: Path | None = None
    op: Op | None = None
    value: Any = UNSET
    all: tuple[Condition, ...] | UnsetType = UNSET
    """Of none: true."""
    any: tuple[Condition, ...] | UnsetType = UNSET
    """Of none: false."""
    none: Condition | UnsetType = UNSET

    def __post_init__(self) -> None:
        compares = self.field is not None or self.op is not None or self.value is not UNSET
        forms = [compares, self.all is not UNSET, self.any is not UNSET, self.none is not UNSET]
        if sum(forms) != 1:
            raise ValueError('a condition is one of {"field", "op", "value"}, {"and"}, {"or"} and {"not"}')
        if compares and (self.field is None or self.op is None):
            raise ValueError("a comparison needs `field` and `op`")
        if compares and (self.value is UNSET) is not (self.op in UNARY):
            raise ValueError(f"`{self.op}` takes {'no' if self.op in UNARY else 'a'} `value`")
        storable(self.field)
        if self.value is not UNSET:
            storable(self.value, MAX_DEPTH - DEEPEST_VALUE)
        if _depth(self) > DEEPEST:
            raise ValueError(f"conditions are nested deeper than {DEEPEST}")


def parts(condition: Condition) -> tuple[Condition, ...]:
    """The conditions that it is made of; none for a comparison."""
    if isinstance(condition.none, Condition):
        return (condition.none,)
    return (condition.all or ()) + (condition.any or ())


def _depth(condition: Condition) -> int:
    return 1 + max(map(_depth, parts(condition)), default=0)
