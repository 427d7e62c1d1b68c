"""Entities that are sound from construction: msgspec checks what it decodes, but not what `Struct(...)` is given.

Rules, for every field of every entity that derives from Checked:

1. Its value is of the annotated type; what has an unambiguous form of that type (a list for a tuple, the word of an
   enumeration) is taken as that.
2. Instants are aware, and kept in UTC.
3. Text has no NUL and no half of a surrogate pair, numbers are finite, integers fit into 53 bits: what one of the
   backends, or JSON, cannot keep is refused by all.
4. Free-form values are JSON: what comes back is equal to what was stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Struct

_LARGEST = 2**53
_DEEPEST = 60


class Checked(Struct, frozen=True, kw_only=True):
    """Raises ValueError, naming the field, where one of the rules above is broken."""

    def __post_init__(self) -> None:
        for name, kind in types_of(type(self)).items():
            msgspec.structs.force_setattr(self, name, checked(name, getattr(self, name), kind))


@lru_cache(maxsize=128)
def types_of(entity: type[Struct]) -> Mapping[str, Any]:
    """The annotated type of each field."""
    return {field.name: field.type for field in msgspec.structs.fields(entity)}


def checked(name: str, value: object, kind: Any) -> Any:
    """The value as a field of this name and type has it.  Raises ValueError, naming the field."""
    if value is UNSET:
        return UNSET
    try:
        plain = value if isinstance(value, datetime) else _plain(value, _DEEPEST)
        known = msgspec.convert(plain, kind)
        return known.astimezone(UTC) if isinstance(known, datetime) else known
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"{name}: {exc}") from exc


def _plain(value: object, depth: int) -> object:
    """Rules 3 and 4; entities within an entity have seen to it themselves."""
    if depth == 0:
        raise ValueError("nested too deeply")
    match value:
        case None | bool() | Struct():
            return value
        case str():
            if "\0" in value:
                raise ValueError("a NUL character cannot be stored")
            value.encode()  # raises UnicodeEncodeError, which is a ValueError, for half of a surrogate pair
            return value
        case int():
            if abs(value) > _LARGEST:
                raise ValueError(f"{value}: integers have 53 bits at most")
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} cannot be stored")
            return value
        case list() | tuple():
            return [_plain(one, depth - 1) for one in value]
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise ValueError("the keys of an object are texts")
            return {_plain(key, depth): _plain(one, depth - 1) for key, one in value.items()}
    raise ValueError(f"a value of type {type(value).__name__} cannot be stored")
