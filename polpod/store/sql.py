"""Tables and queries as SQL text.  Pure: a table and a query in, a statement and its parameters out.

A query's text depends on its dialect and its shape alone, never on its values, and is made once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from polpod.store.table import (
    AnyOf,
    AnyTable,
    Cmp,
    Col,
    Glob,
    In,
    Index,
    NotIn,
    Null,
    Order,
    Query,
    Row,
    Scalar,
    Unique,
    Where,
    cached,
    scalar,
)

Statement = tuple[str, list[Scalar]]
Shape = tuple[Any, ...]
"""Filters without their values: what the text of a condition is made from."""


class Dialect(Struct, frozen=True, eq=False):
    """What a database says in its own words; the rest is the same in all."""

    text: str
    """A column's type, as are the next two; text is ordered by code points (UTF-8: by bytes)."""
    integer: str
    real: str
    end_of_table: str
    value: str
    """Stands for a value."""
    false: str
    ascending: str
    """How an order of a column that may be NULL goes on, so that NULL is less than every value."""
    descending: str
    no_limit: int | None
    doc: str
    """Reads the document."""
    total: str
    glob: str
    pattern: Callable[[str], str]
    """A pattern of table.Glob, for the operator `glob`."""


def _like(pattern: str) -> str:
    for special in "\\%_":
        pattern = pattern.replace(special, f"\\{special}")
    return pattern.replace("*", "%").replace("?", "_")


SQLITE = Dialect(
    text="TEXT",
    integer="INTEGER",
    real="REAL",
    end_of_table=" STRICT",
    value="?",
    false="0",
    ascending="",
    descending=" DESC",
    no_limit=-1,
    doc="CAST(doc AS BLOB)",  # as bytes: of a text that is no UTF-8, Python's sqlite3 would give nothing at all
    total='total("{}")',
    glob="GLOB",
    pattern=lambda pattern: pattern.replace("[", "[[]"),
)
POSTGRES = Dialect(
    text='TEXT COLLATE "C"',
    integer="BIGINT",
    real="DOUBLE PRECISION",
    end_of_table="",
    value="%s",
    false="FALSE",
    ascending=" NULLS FIRST",
    descending=" DESC NULLS LAST",
    no_limit=None,
    doc="doc",
    total='coalesce(sum("{}"), 0)::double precision',
    glob="LIKE",
    pattern=_like,
)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _values(dialect: Dialect, number: int) -> str:
    return ", ".join([dialect.value] * number)


def _ordered(dialect: Dialect, table: AnyTable, order: Iterable[Order[Any]]) -> str:
    return ", ".join(f'"{o.column}"{_direction(dialect, table, o)}' for o in order)


def _direction(dialect: Dialect, table: AnyTable, order: Order[Any]) -> str:
    """A key is never NULL.  PostgreSQL has to be spared the words all the same: its index of the key has none of them."""
    if any(order.column == c.name for c in table.key):
        return " DESC" if order.descending else ""
    return dialect.descending if order.descending else dialect.ascending


def create(table: AnyTable, dialect: Dialect = SQLITE) -> list[str]:
    """The statements that make the table with its indexes: the schema to which all migrations together must lead."""
    types = {"text": dialect.text, "integer": dialect.integer, "real": dialect.real}
    refs = {ref.column.name: ref for ref in table.refs}
    parts = []
    for column in table.columns.values():
        part = f'"{column.name}" {types[column.kind]}'
        if column in table.key:
            part += " NOT NULL"
        if ref := refs.get(column.name):
            # NO ACTION is what restricts: SQLite reports a broken RESTRICT as if a trigger had raised it.
            action = {"restrict": "NO ACTION", "cascade": "CASCADE"}[ref.on_delete]
            part += f' REFERENCES "{ref.table.name}" ON DELETE {action}'
        parts.append(part)
    parts += ["doc TEXT NOT NULL", f"PRIMARY KEY ({_quoted(c.name for c in table.key)})"]
    made = f'CREATE TABLE "{table.name}" (\n    {f",{chr(10)}    ".join(parts)}\n){dialect.end_of_table}'
    uniques = (_unique(dialect, table, unique) for unique in table.unique)
    return [made, *uniques, *(_index(dialect, table, index) for index in table.indexes)]


def _unique(dialect: Dialect, table: AnyTable, unique: Unique) -> str:
    columns = tuple(c.asc() for c in unique.columns)
    return _make_index(dialect, "UNIQUE INDEX", table, columns, unique.where_not_null)


def _index(dialect: Dialect, table: AnyTable, index: Index) -> str:
    return _make_index(dialect, "INDEX", table, index.columns, index.where_not_null)


def _make_index(
    dialect: Dialect, what: str, table: AnyTable, columns: tuple[Order[Any], ...], where_not_null: Col[Any, Any] | None
) -> str:
    name = "_".join((table.name, *(o.column for o in columns)))
    text = f'CREATE {what} "{name}" ON "{table.name}" ({_ordered(dialect, table, columns)})'
    return text if where_not_null is None else f'{text} WHERE "{where_not_null.name}" IS NOT NULL'


def _split(dialect: Dialect, where: Sequence[Where[Any]]) -> tuple[Shape, list[Scalar]]:
    shape: list[Shape] = []
    values: list[Scalar] = []
    for term in where:
        match term:
            case Cmp(column, op, value):
                shape.append((Cmp, column, op))
                values.append(value)
            case In(column, several):
                shape.append((In, column, len(several)))
                values += several
            case NotIn(column, several):
                shape.append((NotIn, column, len(several)))
                values += several
            case Null(column, is_null):
                shape.append((Null, column, is_null))
            case Glob(column, pattern):
                shape.append((Glob, column))
                values.append(dialect.pattern(pattern))
            case AnyOf(terms):
                inner, more = _split(dialect, terms)
                shape.append((AnyOf, inner))
                values += more
    return tuple(shape), values


def _terms(dialect: Dialect, shape: Shape) -> list[str]:
    terms = []
    for kind, *what in shape:
        if kind is Cmp:
            terms.append(f'"{what[0]}" {what[1]} {dialect.value}')
        elif kind is In:
            terms.append(f'"{what[0]}" IN ({_values(dialect, what[1])})' if what[1] else dialect.false)
        elif kind is NotIn:
            listed = _values(dialect, what[1])
            terms.append(
                f'("{what[0]}" IS NULL OR "{what[0]}" NOT IN ({listed}))' if what[1] else f"NOT {dialect.false}"
            )
        elif kind is Null:
            terms.append(f'"{what[0]}" {"IS" if what[1] else "IS NOT"} NULL')
        elif kind is Glob:
            terms.append(f'"{what[0]}" {dialect.glob} {dialect.value}')
        else:
            terms.append(f"({' OR '.join(_terms(dialect, what[0])) or dialect.false})")
    return terms


def _condition(dialect: Dialect, shape: Shape) -> str:
    return f" WHERE {' AND '.join(_terms(dialect, shape))}" if shape else ""


@cached
def _insert(dialect: Dialect, table: AnyTable, replace: bool) -> str:
    names = [*table.columns, "doc"]
    text = f'INSERT INTO "{table.name}" ({_quoted(names)}) VALUES ({_values(dialect, len(names))})'
    if replace:
        key = [c.name for c in table.key]
        sets = ", ".join(f'"{n}" = excluded."{n}"' for n in names if n not in key)
        text += f" ON CONFLICT ({_quoted(key)}) DO UPDATE SET {sets}"
    return text


@cached
def _select(dialect: Dialect, table: AnyTable, shape: Shape, order: tuple[Order[Any], ...], sliced: bool) -> str:
    return _read(dialect, dialect.doc, table, shape, order, sliced)


@cached
def get(dialect: Dialect, table: AnyTable) -> str:
    """The document with a key, whose parts are the statement's values."""
    return _select(dialect, table, tuple((Cmp, column.name, "=") for column in table.key), (), False)


@cached
def _select_whole(dialect: Dialect, table: AnyTable, shape: Shape, order: tuple[Order[Any], ...], sliced: bool) -> str:
    return _read(dialect, f"{_quoted(table.columns)}, {dialect.doc}", table, shape, order, sliced)


def _read(
    dialect: Dialect, what: str, table: AnyTable, shape: Shape, order: tuple[Order[Any], ...], sliced: bool
) -> str:
    text = f'SELECT {what} FROM "{table.name}"{_condition(dialect, shape)}'
    if order:
        text += f" ORDER BY {_ordered(dialect, table, order)}"
    return f"{text} LIMIT {dialect.value} OFFSET {dialect.value}" if sliced else text


@cached
def _about(dialect: Dialect, what: str, table: AnyTable, shape: Shape) -> str:
    return f'{what} FROM "{table.name}"{_condition(dialect, shape)}'


def insert(dialect: Dialect, table: AnyTable, row: Row, *, replace: bool) -> Statement:
    return _insert(dialect, table, replace), [*row.columns.values(), row.doc.decode()]


def select(dialect: Dialect, table: AnyTable, query: Query) -> Statement:
    """The documents."""
    shape, sliced, values = _asked(dialect, query)
    return _select(dialect, table, shape, query.order, sliced), values


def select_whole(dialect: Dialect, table: AnyTable, query: Query) -> Statement:
    """All columns, and the documents after them."""
    shape, sliced, values = _asked(dialect, query)
    return _select_whole(dialect, table, shape, query.order, sliced), values


def _asked(dialect: Dialect, query: Query) -> tuple[Shape, bool, list[Scalar]]:
    shape, values = _split(dialect, query.where)
    sliced = query.limit is not None or query.offset > 0
    if sliced:
        values += (dialect.no_limit if query.limit is None else scalar(query.limit), scalar(query.offset))
    return shape, sliced, values


def count(dialect: Dialect, table: AnyTable, where: Sequence[Where[Any]]) -> Statement:
    shape, values = _split(dialect, where)
    return _about(dialect, "SELECT count(*)", table, shape), values


def total(dialect: Dialect, table: AnyTable, column: str, where: Sequence[Where[Any]]) -> Statement:
    shape, values = _split(dialect, where)
    return _about(dialect, f"SELECT {dialect.total.format(column)}", table, shape), values


def tally(dialect: Dialect, table: AnyTable, columns: Sequence[str], where: Sequence[Where[Any]]) -> Statement:
    """How many rows there are of each combination of values: these, and then how many."""
    shape, values = _split(dialect, where)
    named = _quoted(columns)
    return f"{_about(dialect, f'SELECT {named}, count(*)', table, shape)} GROUP BY {named}", values


def delete(dialect: Dialect, table: AnyTable, where: Sequence[Where[Any]]) -> Statement:
    shape, values = _split(dialect, where)
    return _about(dialect, "DELETE", table, shape), values
