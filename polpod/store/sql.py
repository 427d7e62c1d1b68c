"""Tables and queries as SQL text, for SQLite.  Pure: a table and a query in, a statement and its parameters out.

A query's text depends on its shape alone, never on its values, and is made once a shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from polpod.store.table import (
    AnyOf,
    AnyTable,
    Cmp,
    Col,
    Glob,
    In,
    Index,
    Null,
    Order,
    Query,
    Row,
    Scalar,
    Unique,
    Where,
    cached,
)

Statement = tuple[str, list[Scalar]]
Shape = tuple[Any, ...]
"""Filters without their values: what the text of a condition is made from."""

_NO_LIMIT = -1


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _ordered(order: Iterable[Order[Any]]) -> str:
    return ", ".join(f'"{o.column}" DESC' if o.descending else f'"{o.column}"' for o in order)


def create(table: AnyTable) -> list[str]:
    """The statements that make the table with its indexes: the schema to which all migrations together must lead."""
    refs = {ref.column.name: ref for ref in table.refs}
    parts = []
    for column in table.columns.values():
        part = f'"{column.name}" {column.kind.upper()}'
        if column in table.key:
            part += " NOT NULL"
        if ref := refs.get(column.name):
            # NO ACTION is what restricts: SQLite reports a broken RESTRICT as if a trigger had raised it.
            action = {"restrict": "NO ACTION", "cascade": "CASCADE"}[ref.on_delete]
            part += f' REFERENCES "{ref.table.name}" ON DELETE {action}'
        parts.append(part)
    parts += ["doc TEXT NOT NULL", f"PRIMARY KEY ({_quoted(c.name for c in table.key)})"]
    indexes = [*(_unique(table, unique) for unique in table.unique), *(_index(table, index) for index in table.indexes)]
    return [f'CREATE TABLE "{table.name}" (\n    {f",{chr(10)}    ".join(parts)}\n) STRICT', *indexes]


def _unique(table: AnyTable, unique: Unique) -> str:
    return _make_index("UNIQUE INDEX", table, tuple(c.asc() for c in unique.columns), unique.where_not_null)


def _index(table: AnyTable, index: Index) -> str:
    return _make_index("INDEX", table, index.columns, index.where_not_null)


def _make_index(
    what: str, table: AnyTable, columns: tuple[Order[Any], ...], where_not_null: Col[Any, Any] | None
) -> str:
    name = "_".join((table.name, *(o.column for o in columns)))
    text = f'CREATE {what} "{name}" ON "{table.name}" ({_ordered(columns)})'
    return text if where_not_null is None else f'{text} WHERE "{where_not_null.name}" IS NOT NULL'


def _split(where: Sequence[Where[Any]]) -> tuple[Shape, list[Scalar]]:
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
            case Null(column, is_null):
                shape.append((Null, column, is_null))
            case Glob(column, pattern):
                shape.append((Glob, column))
                values.append(pattern.replace("[", "[[]"))
            case AnyOf(terms):
                inner, more = _split(terms)
                shape.append((AnyOf, inner))
                values += more
    return tuple(shape), values


def _terms(shape: Shape) -> list[str]:
    terms = []
    for kind, *what in shape:
        if kind is Cmp:
            terms.append(f'"{what[0]}" {what[1]} ?')
        elif kind is In:
            terms.append(f'"{what[0]}" IN ({", ".join("?" * what[1])})' if what[1] else "0")
        elif kind is Null:
            terms.append(f'"{what[0]}" {"IS" if what[1] else "IS NOT"} NULL')
        elif kind is Glob:
            terms.append(f'"{what[0]}" GLOB ?')
        else:
            terms.append(f"({' OR '.join(_terms(what[0])) or '0'})")
    return terms


def _condition(shape: Shape) -> str:
    return f" WHERE {' AND '.join(_terms(shape))}" if shape else ""


@cached
def _insert(table: AnyTable, replace: bool) -> str:
    names = [*table.columns, "doc"]
    text = f'INSERT INTO "{table.name}" ({_quoted(names)}) VALUES ({", ".join("?" * len(names))})'
    if replace:
        key = [c.name for c in table.key]
        sets = ", ".join(f'"{n}" = excluded."{n}"' for n in names if n not in key)
        text += f" ON CONFLICT ({_quoted(key)}) DO UPDATE SET {sets}"
    return text


@cached
def _select(table: AnyTable, shape: Shape, order: tuple[Order[Any], ...], sliced: bool) -> str:
    return _read("CAST(doc AS BLOB)", table, shape, order, sliced)


@cached
def _select_whole(table: AnyTable, shape: Shape, order: tuple[Order[Any], ...], sliced: bool) -> str:
    return _read(f"{_quoted(table.columns)}, CAST(doc AS BLOB)", table, shape, order, sliced)


def _read(what: str, table: AnyTable, shape: Shape, order: tuple[Order[Any], ...], sliced: bool) -> str:
    # As bytes: of a text that is no UTF-8, Python's sqlite3 would give nothing at all.
    text = f'SELECT {what} FROM "{table.name}"{_condition(shape)}'
    if order:
        text += f" ORDER BY {_ordered(order)}"
    return text + " LIMIT ? OFFSET ?" if sliced else text


@cached
def _about(what: str, table: AnyTable, shape: Shape) -> str:
    return f'{what} FROM "{table.name}"{_condition(shape)}'


def insert(table: AnyTable, row: Row, *, replace: bool) -> Statement:
    return _insert(table, replace), [*row.columns.values(), row.doc.decode()]


def select(table: AnyTable, query: Query) -> Statement:
    """The documents."""
    shape, sliced, values = _asked(query)
    return _select(table, shape, query.order, sliced), values


def select_whole(table: AnyTable, query: Query) -> Statement:
    """All columns, and the documents after them."""
    shape, sliced, values = _asked(query)
    return _select_whole(table, shape, query.order, sliced), values


def _asked(query: Query) -> tuple[Shape, bool, list[Scalar]]:
    shape, values = _split(query.where)
    sliced = query.limit is not None or query.offset > 0
    if sliced:
        values += (_NO_LIMIT if query.limit is None else query.limit, query.offset)
    return shape, sliced, values


def count(table: AnyTable, where: Sequence[Where[Any]]) -> Statement:
    shape, values = _split(where)
    return _about("SELECT count(*)", table, shape), values


def total(table: AnyTable, column: str, where: Sequence[Where[Any]]) -> Statement:
    shape, values = _split(where)
    return _about(f'SELECT total("{column}")', table, shape), values


def delete(table: AnyTable, where: Sequence[Where[Any]]) -> Statement:
    shape, values = _split(where)
    return _about("DELETE", table, shape), values
