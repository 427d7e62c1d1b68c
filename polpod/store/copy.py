"""Everything of one store into another, of whatever backend (`polpoctl store copy`).

Rules:

1. Both are walked in the order of their keys, side by side; what differs is written, what the target has beyond the
   source goes.  So a copy that was cut off is finished by the next one, and a last walk that finds no difference is the
   proof, row by row.
2. A target is marked while it is not whole: no daemon starts on it, and nothing is copied from it.  One that has
   something and no mark is somebody's.
3. A record that does not decode is refused with its name: a copy is no place to lose it, or to carry it on.  Only a copy
   of what is there `as_stored`, to be looked at, has it too.
4. A store remembers where it was copied to: whoever goes on with it may go on with the past.  That is its own affair, and
   no copy has it.

Nobody else may write to either meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Protocol, TypeVar

from polpod.errors import Conflict, StoreError
from polpod.store.group import GroupCommit
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.table import AnyTable, Cmp, Row, Scalar
from polpod.store.tables import Setting, Settings

PAGE = 1000

X = TypeVar("X")

Store = GroupCommit[Tx]
Key = tuple[Scalar, ...]

_MARK, _NOTE = "copy.unfinished", "copy.made"
_OWN = {(_MARK,), (_NOTE,)}
"""Settings that say something of the one store that they are in."""


class Readable(Protocol):
    """A source: a store, or `Within` an open transaction of one."""

    def write(self, body: Callable[[Tx], X]) -> X: ...


class Within:
    """A store as one of its transactions sees it.  `go_on` is called before each page, and raises to call the copy off."""

    def __init__(self, tx: Tx, go_on: Callable[[], None]) -> None:
        self._tx, self._go_on = tx, go_on

    def write(self, body: Callable[[Tx], X]) -> X:
        self._go_on()
        return body(self._tx)


def unfinished(tx: Tx) -> str | None:
    """Whence this store is being copied, if it is not whole yet."""
    mark = tx[Settings].get(_MARK)
    return None if mark is None else mark.value


def copied_to(tx: Tx) -> str | None:
    """Where this store was copied to, and when; None: nowhere, or it was said that it counts again."""
    note = tx[Settings].get(_NOTE)
    return None if note is None else note.value


def note_copy(tx: Tx, where: str, at: datetime) -> None:
    tx[Settings].save(Setting(_NOTE, f"{where}, {at:%Y-%m-%d %H:%M:%S} UTC"))


def forget_copy(tx: Tx) -> bool:
    """This store counts again; whether there was anything to forget."""
    return tx[Settings].delete(_NOTE)


def copy(
    source: Readable,
    of: str,
    target: Store,
    told: Callable[[str, int], None],
    *,
    as_stored: bool = False,
    proven: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Make the target hold what the source does; the number of rows by table.  `of` names the source;
    `told` hears of each table that is done; `proven` is called once all of it is there, while the target is still marked.

    Raises Conflict: the target is somebody's, or the source not whole; StoreError: a record does not decode, or the source
    changed meanwhile.
    """
    if (whole := source.write(unfinished)) is not None:
        raise Conflict(f"{of} is itself not yet a whole copy of {whole}: polpoctl store copy goes on with it")
    target.write(lambda tx: _mark(tx, of, target.session.where))
    for table in reversed(TABLES):
        for batch in _batches(key for key, row in _differences(table, source, target, as_stored) if row is None):
            target.write(lambda tx: _delete(tx, table, batch))
    for table in TABLES:
        for batch in _batches(row for _, row in _differences(table, source, target, as_stored) if row is not None):
            target.write(lambda tx: _save(tx, table, batch))
        told(table.name, target.write(lambda tx: tx[table].count()))
    for table in TABLES:
        if (difference := next(_differences(table, source, target, as_stored), None)) is not None:
            raise StoreError(f"{_named(table, difference[0])} differs after the copy: did somebody write to it?")
    proven()
    target.write(lambda tx: tx[Settings].delete(_MARK))
    return {table.name: target.write(lambda tx: tx[table].count()) for table in TABLES}


def _mark(tx: Tx, of: str, where: str) -> None:
    if tx[Settings].get(_MARK) is None:
        for table in TABLES:
            if number := tx[table].count():
                raise Conflict(
                    f"{number} {table.name} are there already, in {where}: a copy goes into an empty store, or one that a copy"
                    " did not finish; move what is there away"
                )
    tx[Settings].save(Setting(_MARK, of))


def _save(tx: Tx, table: AnyTable, rows: Sequence[Row]) -> None:
    for row in rows:
        tx.run(tx.rows.insert, table, row, replace=True)


def _delete(tx: Tx, table: AnyTable, keys: Sequence[Key]) -> None:
    for key in keys:
        tx[table].delete(key)


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, PAGE)):
        yield batch


def _differences(table: AnyTable, source: Readable, target: Store, as_stored: bool) -> Iterator[tuple[Key, Row | None]]:
    """What the target has to get (None: to lose), in the order of the keys."""
    mine, theirs = _rows(table, source, as_stored=as_stored), _rows(table, target, as_stored=True)
    wanted, there = next(mine, None), next(theirs, None)
    while wanted is not None or there is not None:
        if there is None or (wanted is not None and table.key_of(wanted) < table.key_of(there)):
            assert wanted is not None
            yield table.key_of(wanted), wanted
            wanted = next(mine, None)
        elif wanted is None or table.key_of(there) < table.key_of(wanted):
            yield table.key_of(there), None
            there = next(theirs, None)
        else:
            if wanted != there:
                yield table.key_of(wanted), wanted
            wanted, there = next(mine, None), next(theirs, None)


def _rows(table: AnyTable, store: Readable, *, as_stored: bool) -> Iterator[Row]:
    """All rows by key but its own, a page a transaction; else than `as_stored`, with their columns as they have to be."""
    first = table.key[0]
    order = tuple(column.asc() for column in table.key)
    where: tuple[Cmp[Any], ...] = ()
    last: Scalar = None
    skip = 0
    while True:
        page = store.write(lambda tx: tx[table].stored(*where, order_by=order, limit=PAGE, offset=skip))
        rows = (row for row in page if not (table is Settings and table.key_of(row) in _OWN))
        yield from rows if as_stored else (_true(table, row) for row in rows)
        if len(page) < PAGE:
            return
        value = page[-1].columns[first.name]
        of_value = sum(row.columns[first.name] == value for row in page)
        skip = of_value + (skip if value == last else 0)
        last, where = value, (Cmp(first.name, ">=", value),)


def _true(table: AnyTable, row: Row) -> Row:
    if (problem := table.problem(row.doc)) is not None:
        raise StoreError(
            f"{_named(table, table.key_of(row))} does not decode: {problem}; a start of polpod sets it aside"
        )
    return table.row(table.entity_of(row.doc))


def _named(table: AnyTable, key: Key) -> str:
    return "/".join((table.noun, *map(str, key)))
