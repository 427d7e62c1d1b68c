"""Records, the only repository class there is, over the few operations that a backend must have.

Rules:

1. A body gets a `Tx`, and with it everything that it may read or write; when the body returns, the transaction is over.
2. An error ends the transaction: a `Tx` in which one was raised refuses everything else, and its body cannot succeed.
3. A body may run more than once (store/group.py, store/gate.py), so it changes nothing but its `Tx`.
4. A record that does not decode is never left out in silence: whoever reads it gets Undecodable, which names it (F10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import msgspec

from polpod.errors import PolpodError, RequestError, StoreError, Undecodable
from polpod.store.table import NOT_DECODED, AnyTable, Col, E, K, Order, Query, Row, Scalar, Table, Where, total_order

P = ParamSpec("P")
X = TypeVar("X")
S = TypeVar("S", bound=msgspec.Struct)


class Rows(Protocol):
    """One open transaction on one backend.  Its errors are those of polpod/errors.py."""

    def insert(self, table: AnyTable, row: Row, *, replace: bool) -> None: ...
    def get(self, table: AnyTable, key: tuple[Scalar, ...]) -> bytes | str | None: ...
    def select(self, table: AnyTable, query: Query) -> Sequence[bytes | str]: ...
    def select_whole(self, table: AnyTable, query: Query) -> Sequence[Row]: ...
    def count(self, table: AnyTable, where: Sequence[Where[Any]]) -> int: ...
    def total(self, table: AnyTable, column: str, where: Sequence[Where[Any]]) -> float: ...
    def tally(
        self, table: AnyTable, columns: Sequence[str], where: Sequence[Where[Any]]
    ) -> Sequence[tuple[Any, ...]]: ...
    def delete(self, table: AnyTable, where: Sequence[Where[Any]]) -> int: ...
    def begin_part(self) -> None: ...
    def end_part(self, *, undo: bool) -> None: ...


class Records(Generic[E, K]):
    """The records of one table, within one transaction."""

    def __init__(self, tx: Tx, table: type[Table[E, K]]) -> None:
        self._tx = tx
        self._table = table

    def add(self, entity: E) -> None:
        """Store a new record.  Raises AlreadyExists, BrokenReference."""
        self._tx.run(self._tx.rows.insert, self._table, self._table.row(entity), replace=False)

    def save(self, entity: E) -> None:
        """Store the record, in place of the one with its key.

        Raises AlreadyExists (another record has a unique value of it), BrokenReference.
        """
        self._tx.run(self._tx.rows.insert, self._table, self._table.row(entity), replace=True)

    def save_if(self, entity: E, *guard: Where[E]) -> bool:
        """Replace the stored record if there is one and the guard holds for it: compare and set."""
        key: tuple[Where[E], ...] = tuple(c.eq(c.get(entity)) for c in self._table.key)
        if not self.count(*key, *guard):
            return False
        self.save(entity)
        return True

    def get(self, key: K) -> E | None:
        return self._tx.run(self._read_one, key)

    def find(
        self, *where: Where[E], order_by: tuple[Order[E], ...] = (), limit: int | None = None, offset: int = 0
    ) -> list[E]:
        """The records for which all of `where` holds, in `order_by` or else the table's order."""
        query = Query(where, total_order(self._table, order_by), limit, offset)
        return self._tx.run(self._read, query)

    def stored(
        self, *where: Where[E], order_by: tuple[Order[E], ...] = (), limit: int | None = None, offset: int = 0
    ) -> Sequence[Row]:
        """As `find`, the rows as they are stored, whether they decode or not."""
        query = Query(where, total_order(self._table, order_by), limit, offset)
        return self._tx.run(self._tx.rows.select_whole, self._table, query)

    def count(self, *where: Where[E]) -> int:
        return self._tx.run(self._tx.rows.count, self._table, where)

    def total(self, column: Col[E, Any], *where: Where[E]) -> float:
        """The sum of a column, 0.0 of no rows."""
        return self._tx.run(self._tx.rows.total, self._table, column.name, where)

    def tally(self, *columns: Col[E, Any], where: Sequence[Where[E]] = ()) -> dict[tuple[Scalar, ...], int]:
        """How many records there are of each combination of these columns' values."""
        rows = self._tx.run(self._tx.rows.tally, self._table, [column.name for column in columns], where)
        return {tuple(values): int(number) for *values, number in rows}

    def delete(self, key: K) -> bool:
        """Whether there was a record.  Raises BrokenReference while another names it."""
        return self.delete_where(*self._table.with_key(key)) > 0

    def delete_where(self, *where: Where[E]) -> int:
        return self._tx.run(self._tx.rows.delete, self._table, where)

    def _read_one(self, key: K) -> E | None:
        doc = self._tx.rows.get(self._table, self._table.parts_of(key))
        try:
            return None if doc is None else self._table.entity_of(doc)
        except NOT_DECODED as error:
            raise self._undecodable(Query(self._table.with_key(key))) from error

    def _read(self, query: Query) -> list[E]:
        entity_of = self._table.entity_of
        try:
            return [entity_of(doc) for doc in self._tx.rows.select(self._table, query)]
        except NOT_DECODED as error:
            raise self._undecodable(query) from error

    def _undecodable(self, query: Query) -> Undecodable:
        """All of this query that does not decode, so that it is met but once."""
        table = self._table
        rows = self._tx.rows.select_whole(table, query)
        bad = {table.key_of(row): problem for row in rows if (problem := table.problem(row.doc)) is not None}
        what = "; ".join(f"{key}: {problem}" for key, problem in list(bad.items())[:10])
        return Undecodable(f"{table.name}: {len(bad)} records do not decode: {what}", table.name, tuple(bad))


class Tx:
    """What a body works on: `tx[Tasks]` are the records of a table, `tx.append` adds to a journal."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.appended: list[object] = []
        """What was appended to journals, in order."""
        self._last: dict[AnyTable, int] = {}
        self._error: PolpodError | None = None

    def __getitem__(self, table: type[Table[E, K]]) -> Records[E, K]:
        return Records(self, table)

    def append(self, journal: type[Table[S, int]], entry: S) -> S:
        """Add the entry at the end: `seq` is one past the last, so that order is commit order, without gaps (§11).

        It follows that the newest entry of a journal must never be removed.
        """
        (seq,) = journal.key
        if journal not in self._last:
            newest = self[journal].stored(order_by=(seq.desc(),), limit=1)  # whatever it says, nothing comes before it
            self._last[journal] = int(newest[0].columns[seq.name] or 0) if newest else 0
        entry = msgspec.structs.replace(entry, **{seq.name: self._last[journal] + 1})
        self[journal].add(entry)
        self._last[journal] += 1
        self.appended.append(entry)
        return entry

    def attempt(self, body: Callable[[Tx], X]) -> X | RequestError:
        """Carry out a part of this transaction whole or not at all: what it returned, or why it was refused.

        Only a refusal by a rule concerns the part alone; any other error is raised, and ends the transaction (rule 2).
        """
        appended, last = len(self.appended), self._last.copy()
        self.run(self.rows.begin_part)
        try:
            result = body(self)
        except RequestError as refusal:
            if self._error is not None:
                raise
            self.run(self.rows.end_part, undo=True)
            del self.appended[appended:]
            self._last = last
            return refusal
        self.run(self.rows.end_part, undo=False)
        return result

    def run(self, operation: Callable[P, X], *args: P.args, **kwargs: P.kwargs) -> X:
        """The one way to the rows (rule 2)."""
        if self._error is not None:
            raise StoreError(f"this transaction is over: {self._error}") from self._error
        try:
            return operation(*args, **kwargs)
        except PolpodError as error:
            self._error = error
            raise

    def close(self) -> None:
        """End the transaction; nothing may use it any more.  Raises the error that its body went on after."""
        error, self._error = self._error, StoreError("its body has returned")
        if error is not None:
            raise error
