"""What all repositories have in common: one method of the contract is one body, in a transaction of its own.

Rules:

1. A list is a tuple, in the total order of its table; what is not there is None or False.
2. A filter that is None is none.
3. Errors of the store leave as those of errors.py, here and nowhere else.
4. Who awaits a write whose commit is in doubt gets QueryError: whether it happened, only a new connection can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from polpod.contracts.persistence.errors import OF_INSERTS, OF_QUERIES, Errors, QueryError, translated
from polpod.store.gate import Gate
from polpod.store.records import Tx
from polpod.store.table import E, K, Table, Where

X = TypeVar("X")
S = TypeVar("S", bound=msgspec.Struct)


def where(*filters: tuple[Callable[[Any], Where[E]], Any]) -> tuple[Where[E], ...]:
    """The filters that are given (rule 2).  Raises QueryError as `only`."""
    return tuple(only(compare, value) for compare, value in filters if value is not None)


def only(compare: Callable[[Any], Where[E]], value: Any) -> Where[E]:
    """The filter, which fits nothing where the value is None.  Raises QueryError for a value that no column holds."""
    with translated(OF_QUERIES):
        return compare(value)


def require_positive(limit: int | None) -> None:
    """Raises QueryError for a limit below 1; None is none."""
    if limit is not None and limit < 1:
        raise QueryError(f"limit: at least 1, not {limit}")


def kept(new: S, old: S | None, *fields: str) -> S:
    """The new record with these fields of the old one, where there is one."""
    return new if old is None else msgspec.structs.replace(new, **{name: getattr(old, name) for name in fields})


class Repository(Generic[E, K]):
    """Subclassed once an entity, with the methods of its contract."""

    def __init__(self, gate: Gate[Tx], table: type[Table[E, K]]) -> None:
        self._gate = gate
        self._table = table

    async def _read(self, body: Callable[[Tx], X]) -> X:
        with translated(OF_QUERIES, self._table.name):
            return await self._gate.read(body)

    async def _write(self, body: Callable[[Tx], X], errors: Errors = OF_QUERIES) -> X:
        with translated(errors, self._table.name):
            return await self._gate.write(body)

    async def _save(self, entity: E) -> None:
        await self._write(lambda tx: tx[self._table].save(entity))

    async def _save_keeping(self: Repository[S, K], key: K, entity: S, *fields: str) -> None:
        """Store it in place of the one with this key, of which these fields stay."""
        await self._write(lambda tx: tx[self._table].save(kept(entity, tx[self._table].get(key), *fields)))

    async def _insert(self, entity: E) -> None:
        """Raises DuplicateRecordError if there is one of that id."""
        await self._write(lambda tx: tx[self._table].add(entity), OF_INSERTS)

    async def _get(self, key: K) -> E | None:
        return await self._read(lambda tx: tx[self._table].get(key))

    async def _find(self, *filters: Where[E], limit: int | None = None) -> tuple[E, ...]:
        return tuple(await self._read(lambda tx: tx[self._table].find(*filters, limit=limit)))

    async def _first(self, *filters: Where[E]) -> E | None:
        return next(iter(await self._find(*filters, limit=1)), None)

    async def _count(self, *filters: Where[E]) -> int:
        return await self._read(lambda tx: tx[self._table].count(*filters))

    async def _delete(self, key: K) -> bool:
        return await self._write(lambda tx: tx[self._table].delete(key))

    async def _delete_where(self, *filters: Where[E]) -> int:
        return await self._write(lambda tx: tx[self._table].delete_where(*filters))
