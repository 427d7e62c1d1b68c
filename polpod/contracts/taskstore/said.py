"""What callers say, made into entities: every refusal names the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import UNSET, Struct, structs

from polpod.errors import InvalidRequest
from polpod.model.entity import LARGEST, Entity, converted, types_of

C = TypeVar("C", bound=Entity)


def now() -> datetime:
    return datetime.now(UTC)


def fields(given: Mapping[str, object] | Struct | None, named: Mapping[str, object]) -> dict[str, object]:
    """A mapping or an entity, and keywords beside it, as one; a keyword goes before it."""
    return dict(structs.asdict(given) if isinstance(given, Struct) else given or {}) | dict(named)


def known(values: Mapping[str, object], names: Iterable[str]) -> None:
    """Raises InvalidRequest for a field that is none of these."""
    if unknown := sorted(values.keys() - set(names)):
        raise InvalidRequest(f"unknown field: {', '.join(unknown)}", f"$.{unknown[0]}")


def entity(kind: type[C], values: Mapping[str, object]) -> C:
    """An entity of this kind with these values; None and UNSET are as not said.  Raises InvalidRequest."""
    known(values, types_of(kind))
    said = {name: value for name, value in values.items() if value is not None and value is not UNSET}
    required = {f.name for f in structs.fields(kind) if f.required}
    if missing := sorted(required - said.keys()):
        raise InvalidRequest(f"missing field: {', '.join(missing)}", f"$.{missing[0]}")
    try:
        return kind(**said)
    except ValueError as exc:
        raise _invalid(exc) from exc


def value(name: str, given: object, kind: Any) -> Any:
    """One value of a field.  Raises InvalidRequest."""
    try:
        return converted(name, given, kind)
    except ValueError as exc:
        raise _invalid(exc) from exc


def number(given: int) -> int:
    """How many records somebody wants: none for less than none, and of a vast number all."""
    return min(max(0, given), LARGEST)


def update(values: Mapping[str, object], kinds: Mapping[str, Any], defaults: Mapping[str, object]) -> dict[str, Any]:
    """The values of an update: None and UNSET clear a field, to its default.

    Raises InvalidRequest for a field that is none of `kinds`, or has no default.
    """
    known(values, kinds)
    cleared = {name for name, given in values.items() if given is None or given is UNSET}
    for name in cleared - defaults.keys():
        raise InvalidRequest(f"{name}: it cannot be cleared", f"$.{name}")
    return {
        name: defaults[name] if name in cleared else value(name, given, kinds[name]) for name, given in values.items()
    }


def defaults_of(kind: type[Struct]) -> dict[str, object]:
    """The default of each field that has one."""
    return {f.name: f.default for f in structs.fields(kind) if not f.required} | {
        f.name: f.default_factory() for f in structs.fields(kind) if callable(f.default_factory)
    }


def _invalid(error: ValueError) -> InvalidRequest:
    """As entities tell it: the name of the field, a colon, and what is wrong."""
    return InvalidRequest(str(error), f"$.{str(error).partition(':')[0]}")
