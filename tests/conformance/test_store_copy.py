"""`polpoctl store copy` between any two backends (polpod/store/copy.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path

import pytest
from kit.samples import NOW, a_task
from store_makers import LASTING, MAKERS

from polpod.errors import Conflict, StoreError, Unavailable
from polpod.model.events import Event
from polpod.model.tasks import Dependency
from polpod.store.copy import PAGE, Within, copied_to, copy, forget_copy, note_copy, unfinished
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, open_store
from polpod.store.location import Sqlite
from polpod.store.records import Tx
from polpod.store.restore import adapt_tasks
from polpod.store.schema import TABLES
from polpod.store.table import AnyTable, Row
from polpod.store.tables import Dependencies, Events, Setting, Settings, Tasks

Store = GroupCommit[Tx]

NUMBER = PAGE + 7
"""More than a page."""


@pytest.fixture(params=[*permutations(LASTING, 2), ("memory", "sqlite")], ids="-to-".join)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    one, other = request.param
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    with closing(MAKERS[one](tmp_path / "source", TABLES)) as source:
        with closing(MAKERS[other](tmp_path / "target", TABLES)) as target:
            source.write(_fill)
            yield source, target


def _fill(tx: Tx) -> None:
    for n in range(NUMBER):
        tx[Tasks].add(a_task(id=f"t{n}", seq=n, title="ü" * (n % 5), finished_at=NOW if n % 2 else None))
        tx.append(Events, Event(at=NOW, kind="task:created", subject=f"task/t{n}", body={"n": n}))
    for n in range(1, 2 * PAGE + 3):  # more of one first key than two pages hold
        tx[Dependencies].add(Dependency(task_id="t0", on_id=f"t{n}"))
    tx[Settings].save(Setting("runs.last_id", "17"))


def _all(store: Store) -> dict[AnyTable, list[Row]]:
    return {
        table: list(store.write(lambda tx: tx[table].stored(order_by=tuple(c.asc() for c in table.key))))
        for table in TABLES
    }


def test_everything_arrives(stores: tuple[Store, Store]) -> None:
    source, target = stores
    told: list[tuple[str, int]] = []
    rows = copy(source, source.session.where, target, lambda *what: told.append(what))
    assert _all(target) == _all(source)
    assert rows["tasks"] == NUMBER
    assert dict(told) | {"settings": 1} == rows
    assert target.write(unfinished) is None


def test_a_copy_that_was_cut_off_is_marked_and_the_next_one_ends_it(stores: tuple[Store, Store]) -> None:
    source, target = stores

    def cut(table: str, rows: int) -> None:
        if table == "tasks":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(source, source.session.where, target, cut)
    assert target.write(unfinished) == source.session.where
    assert target.write(lambda tx: tx[Tasks].count()) == NUMBER
    with pytest.raises(Conflict, match="not yet a whole copy"):
        copy(target, target.session.where, source, lambda *what: None, as_stored=True)
    # Meanwhile the daemon went on with the source.
    source.write(lambda tx: tx[Tasks].delete("t9"))
    source.write(lambda tx: tx[Tasks].save(a_task(id="t8", seq=8, title="changed")))
    copy(source, source.session.where, target, lambda *what: None)
    assert _all(target) == _all(source)


def test_where_a_store_went_is_its_own_affair(stores: tuple[Store, Store]) -> None:
    """Noted once the copy is proven and before anybody may use it; a copy does not carry it along, nor is hurt by it."""
    source, target = stores

    def proven() -> None:
        assert target.write(unfinished) == source.session.where
        source.write(lambda tx: note_copy(tx, target.session.where, NOW))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(source, source.session.where, target, lambda *what: None, proven=proven)
    assert source.write(copied_to) == f"{target.session.where}, 2026-03-01 12:00:00 UTC"
    copy(source, source.session.where, target, lambda *what: None)
    assert target.write(copied_to) is None
    assert source.write(copied_to) is not None
    source.write(forget_copy)
    assert _all(target) == _all(source)


def test_what_is_restored_counts(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with closing(open_store(Sqlite(path), TASKS)) as store:
        store.write(lambda tx: note_copy(tx, "elsewhere", NOW))
    adapt_tasks(path, [])
    with closing(open_store(Sqlite(path), TASKS)) as store:
        assert store.write(copied_to) is None


def test_a_target_that_is_somebodys_is_left_alone(stores: tuple[Store, Store]) -> None:
    source, target = stores
    target.write(lambda tx: tx[Tasks].add(a_task(id="mine")))
    with pytest.raises(Conflict, match="1 tasks are there already"):
        copy(source, source.session.where, target, lambda *what: None)
    assert target.write(lambda tx: [t.id for t in tx[Tasks].find()]) == ["mine"]


def test_a_record_that_does_not_decode_is_named(stores: tuple[Store, Store]) -> None:
    source, target = stores
    row = Tasks.row(a_task(id="t5", seq=5))
    source.write(lambda tx: tx.rows.insert(Tasks, Row(row.columns, b'{"id": 5}'), replace=True))
    with pytest.raises(StoreError, match="task/t5 does not decode"):
        copy(source, source.session.where, target, lambda *what: None)
    assert target.write(unfinished) is not None
    copy(source, source.session.where, target, lambda *what: None, as_stored=True)
    assert target.write(lambda tx: [row.doc for row in tx[Tasks].stored(Tasks.id.eq("t5"))]) == [b'{"id": 5}']


def test_a_copy_within_a_transaction_is_called_off_between_two_pages(stores: tuple[Store, Store]) -> None:
    """As when polpod is to stop, or its disk fills, while a backup is made of what is not in SQLite."""
    source, target = stores
    pages = 0

    def go_on() -> None:
        nonlocal pages
        pages += 1
        if pages == len(TABLES):
            raise Unavailable("polpod is stopping")

    with pytest.raises(Unavailable):
        source.write(lambda tx: copy(Within(tx, go_on), "there", target, lambda table, rows: None))
    assert target.write(unfinished) == "there"
    assert source.write(lambda tx: tx[Tasks].count()) == NUMBER
