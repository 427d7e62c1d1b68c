"""What entities that others make have in common: at construction their fields are checked and brought to one form.

Rules:

1. A value becomes one of its field's type where it can be read as one: "1.5" is 1.5, "created" the status, a list a
   tuple, ISO 8601 text an instant.  One that cannot raises ValueError, which names the field.
2. Every backend can store what was constructed, and gives it back as it was: instants are UTC, numbers finite, integers
   of 53 bits, text without NUL and lone surrogates; a dict is a copy, and what is in it is JSON.
3. What must hold between fields is the table `rules` of the entity: functions that say what is wrong, or None.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import Meta, Struct

from polpod.model.described import described

X = TypeVar("X")

Rule = Callable[[Any], "str | None"]

NotBlank = Annotated[str, Meta(pattern=r"\S")]
"""Text that says something; it is kept as it is, spaces around it included."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Version = Annotated[int, Meta(ge=1, le=2**53)]
Amount = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

MAX_DEPTH = 50
"""Of lists and dicts within each other: with what is around it, a value is no deeper than a message may be (DESIGN §9)."""

LARGEST = 2**53
"""The largest magnitude of an integer that every JSON codec keeps exact."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Unfit(ValueError):
    """A field breaks a rule: the message is its name, a colon and the problem."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name, self.problem = name, problem


class Entity(Struct, frozen=True, kw_only=True):
    """Raises ValueError at construction, from JSON too, if it breaks a rule."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    hidden: ClassVar[frozenset[str]] = frozenset()
    """Fields that `repr` leaves out."""

    def __post_init__(self) -> None:
        kinds = types_of(type(self))
        given = {name: getattr(self, name) for name in kinds}
        plain = {name: _named(name, storable, value) for name, value in given.items()}
        try:
            read = msgspec.convert(plain, _fields_of(type(self)), strict=False)
        except ValueError:
            for name, value in given.items():  # which of them, in words that begin with its name
                converted(name, value, kinds[name])
            raise
        for name, value in given.items():
            kept = _named(name, _kept, getattr(read, name))
            if kept is not value:
                msgspec.structs.force_setattr(self, name, kept)
        for rule in self.rules:
            if (problem := rule(self)) is not None:
                name, _, of_it = problem.partition(": ")
                raise Unfit(name, of_it) if name in kinds else ValueError(problem)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.hidden]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def to_json(self) -> bytes:
        """The entity as a JSON object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """The entity from a JSON object; keys that it does not know are ignored.  Raises ValueError."""
        return msgspec.json.decode(text, type=cls, strict=False)


@cache
def types_of(entity: type[Struct]) -> Mapping[str, Any]:
    """The annotated type of each field."""
    return {field.name: field.type for field in msgspec.structs.fields(entity)}


@cache
def _fields_of(entity: type[Entity]) -> type[Struct]:
    """A struct of the same fields without rules, since nothing is converted into what is being constructed."""
    return described(msgspec.defstruct(entity.__name__, list(types_of(entity).items())))


def converted(name: str, value: object, kind: Any) -> Any:
    """The value as a field of this name and type has it.  Raises ValueError, which begins with the name."""
    return _named(name, lambda: _kept(msgspec.convert(storable(value), kind, strict=False)))


def _named(name: str, made: Callable[..., X], *values: object) -> X:
    try:
        return made(*values)
    except ValueError as error:
        raise Unfit(name, str(error).removeprefix(f"{name}: ")) from error


def storable(value: Any, depth: int = 0) -> Any:
    """The value as JSON has it, and every backend keeps it (rule 2); entities in it have seen to themselves.

    Raises ValueError.  What is not JSON is left to who converts it, unless it is in a list or a dict.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    match value:
        case Enum():
            return storable(value.value, depth)
        case str():
            if _UNSTORABLE.search(value):
                raise ValueError("NUL and lone surrogates cannot be stored")
        case float():
            if not math.isfinite(value):
                raise ValueError(f"not a finite number: {value}")
        case int():
            if abs(value) > LARGEST:
                raise ValueError(f"not an integer of 53 bits: {value}")
        case list() | tuple():
            return [storable(part, depth + 1) for part in value]
        case dict():
            return {_name(key): storable(part, depth + 1) for key, part in value.items()}
        case None | Struct():
            pass
        case _ if depth:
            raise ValueError(f"not JSON: {type(value).__name__}")
    return value


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError(f"not a name: {key!r}")
    return str(storable(key))


def _kept(value: Any) -> Any:
    """What was read from text, as it is kept: instants in UTC, numbers finite."""
    match value:
        case datetime():
            try:
                return value.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"no such instant in UTC: {value}") from None
        case float() if not math.isfinite(value):
            raise ValueError(f"not a finite number: {value}")
    return value


# What many entities ask of their fields.


def distinct(field: str, of: Callable[[Any], object] = lambda part: part) -> Rule:
    """No two parts of the field are the same, or have the same `of`."""

    def rule(entity: Any) -> str | None:
        twice = [name for name, number in Counter(map(of, getattr(entity, field))).items() if number > 1]
        return f"{field}: {twice[0]!r} stands there more than once" if twice else None

    return rule


def without(field: str, other: str) -> Rule:
    """The field does not hold what the other field says: it is a tuple without it, or another value."""

    def rule(entity: Any) -> str | None:
        value, refused = getattr(entity, field), getattr(entity, other)
        holds = refused in value if isinstance(value, tuple) else value == refused
        return f"{field}: names the {other} {refused!r} itself" if holds and refused is not None else None

    return rule


def iso(field: str) -> Rule:
    """The field is None or text that `datetime.fromisoformat` reads; it is kept as it is, with or without a zone."""

    def rule(entity: Any) -> str | None:
        value = getattr(entity, field)
        try:
            if value is not None:
                datetime.fromisoformat(value)
        except ValueError:
            return f"{field}: not an ISO 8601 date or time: {value!r}"
        return None

    return rule


def json_text(field: str, kind: type = object) -> Rule:
    """The field is JSON text of that kind of value."""

    def rule(entity: Any) -> str | None:
        try:
            value = msgspec.json.decode(getattr(entity, field))
        except (ValueError, RecursionError) as error:
            return f"{field}: not JSON: {error}"
        return None if isinstance(value, kind) else f"{field}: not a JSON {'object' if kind is dict else kind.__name__}"

    return rule


def set_iff(field: str, when: str, holds: Callable[[Any], bool]) -> Rule:
    """The field is set if and only if that holds; `when` says it in words."""

    def rule(entity: Any) -> str | None:
        if (getattr(entity, field) is not None) is holds(entity):
            return None
        return f"{field}: must be set {when}, and otherwise not"

    return rule
