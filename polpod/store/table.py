"""What a table is: an entity, its key, and the few values of it that a database may filter and sort by.

Rules:

1. A stored row is `doc`, the entity encoded whole, beside columns computed from it.  `doc` is the truth; a column is
   there for a query that exists, and `Table.row` is the only place that computes one.
2. `scalar` makes every stored value, in rows and in filters alike, so that both compare; what one of the databases
   could not hold is refused for all of them.
3. NULL equals nothing and is less than every value, whatever the database.
4. Every order is total: where it names no unique column, the key follows it.

Nothing here performs I/O or knows SQL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Struct

from polpod.errors import Unstorable

E = TypeVar("E")
K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])
Text = TypeVar("Text", bound="str | None")
Integer = TypeVar("Integer", bound="int | None")
Real = TypeVar("Real", bound="float | None")
Instant = TypeVar("Instant", bound="datetime | None")

Scalar = str | int | float | None
Kind = Literal["text", "integer", "real"]
Comparison = Literal["=", "<>", "<", "<=", ">", ">="]

_encode = msgspec.json.Encoder().encode

_LEAST, _MOST = -(2**63), 2**63 - 1
_WIDTH = len("2026-01-01T00:00:00.000000Z")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(value: str) -> str:
    if "\0" in value:
        raise Unstorable(f"a NUL character in {value[:100]!r}")
    if not value.isascii() and _SURROGATE.search(value):
        raise Unstorable(f"a lone surrogate in {value[:100]!a}")
    return value


def _integer(value: int) -> int:
    if not _LEAST <= value <= _MOST:
        raise Unstorable(f"an integer beyond 64 bits: {value:#x}")
    return value


def _real(value: float) -> float:
    if not math.isfinite(value):
        raise Unstorable(f"not a finite number: {value}")
    return value


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise Unstorable(f"naive datetime: {value!r}")
    try:
        text = _encode(value.astimezone(UTC))[1:-1].decode()  # several times as fast as isoformat
    except OverflowError:
        raise Unstorable(f"no such instant in UTC: {value}") from None
    return text if len(text) == _WIDTH else f"{text[:-1]}.000000Z"


_STORED: dict[type, Callable[[Any], Scalar]] = {
    str: _text,
    bool: int,
    int: _integer,
    float: _real,
    datetime: _instant,
}


def scalar(value: Any) -> Scalar:
    """The stored form of a value.  Instants become UTC text of fixed width, so that text order is time order.

    Raises Unstorable for what one of the databases could not hold: a naive datetime and one outside of the years of
    UTC, a NUL character, a lone surrogate, an integer beyond 64 bits, NaN and infinity; TypeError for what no column holds.
    """
    if value is None:
        return None
    if isinstance(value, Enum):
        value = value.value
    stored = _STORED.get(type(value))
    if stored is None:
        raise TypeError(f"not a column value: {value!r}")
    return stored(value)


class Cmp(Struct, Generic[E], frozen=True):
    column: str
    op: Comparison
    value: Scalar


class In(Struct, Generic[E], frozen=True):
    column: str
    values: tuple[Scalar, ...]


class NotIn(Struct, Generic[E], frozen=True):
    """NULL is in no list, so it passes."""

    column: str
    values: tuple[Scalar, ...]


class Null(Struct, Generic[E], frozen=True):
    column: str
    is_null: bool


class Glob(Struct, Generic[E], frozen=True):
    """`*` stands for any text, `?` for one character, and nothing else is special."""

    column: str
    pattern: str


class AnyOf(Struct, Generic[E], frozen=True):
    terms: tuple[Where[E], ...]


Where = Cmp[E] | In[E] | NotIn[E] | Null[E] | Glob[E] | AnyOf[E]


class Order(Struct, Generic[E], frozen=True):
    column: str
    descending: bool = False


class Col(Generic[E, V]):
    """A column of E.  Its methods make filters and orders; a value of another type is a type error."""

    def __init__(self, name: str, kind: Kind, get: Callable[[E], V]) -> None:
        self.name = name
        self.kind = kind
        self.get = get

    def eq(self, value: V) -> Where[E]:
        return Null(self.name, True) if value is None else Cmp(self.name, "=", scalar(value))

    def ne(self, value: V) -> Where[E]:
        return Null(self.name, False) if value is None else Cmp(self.name, "<>", scalar(value))

    def lt(self, value: V) -> Where[E]:
        return Cmp(self.name, "<", scalar(value))

    def le(self, value: V) -> Where[E]:
        return Cmp(self.name, "<=", scalar(value))

    def gt(self, value: V) -> Where[E]:
        return Cmp(self.name, ">", scalar(value))

    def ge(self, value: V) -> Where[E]:
        return Cmp(self.name, ">=", scalar(value))

    def is_in(self, values: Iterable[V]) -> Where[E]:
        return In(self.name, tuple(scalar(v) for v in values))

    def not_in(self, values: Iterable[V]) -> Where[E]:
        return NotIn(self.name, tuple(scalar(v) for v in values))

    def is_set(self) -> Where[E]:
        return Null(self.name, False)

    def glob(self, pattern: str) -> Where[E]:
        return Glob(self.name, pattern)

    def asc(self) -> Order[E]:
        return Order(self.name)

    def desc(self) -> Order[E]:
        return Order(self.name, descending=True)


class Columns(Generic[E]):
    """Makes columns of E, so that the type of each is inferred from its lambda."""

    def text(self, name: str, get: Callable[[E], Text]) -> Col[E, Text]:
        return Col(name, "text", get)

    def integer(self, name: str, get: Callable[[E], Integer]) -> Col[E, Integer]:
        return Col(name, "integer", get)

    def real(self, name: str, get: Callable[[E], Real]) -> Col[E, Real]:
        return Col(name, "real", get)

    def instant(self, name: str, get: Callable[[E], Instant]) -> Col[E, Instant]:
        return Col(name, "text", get)


class Index(Struct, frozen=True):
    """Makes filters and orders by these columns cheap; `where_not_null`: only rows that have this value are in it."""

    columns: tuple[Order[Any], ...]
    where_not_null: Col[Any, Any] | None = None


class Unique(Struct, frozen=True):
    """No two rows share these values; a row with a NULL among them shares with none."""

    columns: tuple[Col[Any, Any], ...]
    where_not_null: Col[Any, Any] | None = None


class Ref(Struct, frozen=True):
    """The column, where set, names the key of a row of `table`, which must exist."""

    column: Col[Any, Any]
    table: type[Table[Any, Any]]
    on_delete: Literal["restrict", "cascade"] = "restrict"


class Row(Struct, frozen=True):
    """As it is stored, whatever it means."""

    columns: dict[str, Scalar]
    doc: bytes


class Query(Struct, frozen=True):
    where: tuple[Where[Any], ...]
    order: tuple[Order[Any], ...] = ()
    limit: int | None = None
    offset: int = 0


NOT_DECODED = (ValueError, RecursionError, TypeError)
"""What msgspec raises for a text that is no UTF-8, no JSON, or no such entity; and for none at all.

A damaged page gives NULL in a column that cannot be NULL.
"""


class Table(Generic[E, K]):
    """Subclassed once an entity, never instantiated: its class attributes say all there is to say."""

    name: ClassVar[str]
    noun: ClassVar[str]
    """What one record is called in the journal: `task` in `task:quarantined`, about `task/12`."""
    entity: ClassVar[type]
    key: ClassVar[tuple[Col[Any, Any], ...]]
    order: ClassVar[tuple[Order[Any], ...]] = ()
    unique: ClassVar[tuple[Unique, ...]] = ()
    indexes: ClassVar[tuple[Index, ...]] = ()
    refs: ClassVar[tuple[Ref, ...]] = ()

    columns: ClassVar[dict[str, Col[Any, Any]]]
    _getters: ClassVar[tuple[tuple[str, Callable[[Any], Any]], ...]]
    _decode: ClassVar[Callable[[bytes | str], Any]]

    def __init_subclass__(cls) -> None:
        cls.columns = {c.name: c for c in vars(cls).values() if isinstance(c, Col)}
        cls._getters = tuple((c.name, c.get) for c in cls.columns.values())
        cls._decode = msgspec.json.Decoder(cls.entity).decode

    @classmethod
    def row(cls, entity: E) -> Row:
        return Row({name: scalar(get(entity)) for name, get in cls._getters}, _encode(entity))

    @classmethod
    def entity_of(cls, doc: bytes | str) -> E:
        """Raises one of NOT_DECODED if the document is not one of this entity."""
        entity: E = cls._decode(doc)
        return entity

    @classmethod
    def problem(cls, doc: bytes | str) -> str | None:
        """Why the document is none of this entity, without its values; None if it is one."""
        try:
            cls._decode(doc)
        except NOT_DECODED as error:
            return str(error)
        return None

    @classmethod
    def key_of(cls, row: Row) -> tuple[Scalar, ...]:
        return tuple(row.columns[c.name] for c in cls.key)

    @classmethod
    def parts_of(cls, key: K) -> tuple[Scalar, ...]:
        """As they are stored, in the order of the key's columns."""
        if not isinstance(key, tuple):
            return (scalar(key),)
        return tuple(map(scalar, key))

    @classmethod
    def with_key(cls, key: K) -> tuple[Where[E], ...]:
        """The filter that holds for the row of that key and for no other."""
        return tuple(Cmp(c.name, "=", part) for c, part in zip(cls.key, cls.parts_of(key), strict=True))


AnyTable = type[Table[Any, Any]]


def cached(function: F) -> F:
    """lru_cache, typed as the function itself: the original finds that a table is not hashable."""
    return cast(F, lru_cache(maxsize=1024)(function))


@cached
def total_order(table: AnyTable, order: tuple[Order[Any], ...]) -> tuple[Order[Any], ...]:
    """The order, or the table's own where none is given, made total (rule 4)."""
    order = order or table.order
    named = {o.column for o in order}
    for unique in (table.key, *(u.columns for u in table.unique if u.where_not_null is None)):
        if named.issuperset(c.name for c in unique):
            return order
    return (*order, *(c.asc() for c in table.key if c.name not in named))
