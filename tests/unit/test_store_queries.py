"""The task store's columns and queries: what they answer, and that they stay flat however much is stored (F58)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from polpod.errors import AlreadyExists, Undecodable
from polpod.model.events import Event
from polpod.model.tasks import OCCUPYING, Dependency, Spec, Task, TaskStatus
from polpod.services import deadlines
from polpod.store import pages, queries, schedules
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit
from polpod.store.records import Tx
from polpod.store.sqlite import Connection, open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.tables import Dependencies, Events, Specs, Tasks, stored_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
STORED = 100_000


class Watched(Connection):
    """Keeps the statements that read, with their values."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reads: list[tuple[str, Any]] = []

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        if statement.startswith("SELECT"):
            self.reads.append((statement, values))
        return super().execute(statement, values)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Watched]:
    made = open_writer(str(tmp_path / "state.db"), TASKS.schema, factory=Watched)
    assert isinstance(made, Watched)
    yield made
    made.close()


@pytest.fixture
def store(db: Watched) -> GroupCommit[Tx]:
    return GroupCommit(SqliteWriter(db), TASKS)


def task(seq: int, status: TaskStatus = TaskStatus.PENDING, **values: Any) -> Task:
    fixed = {"id": str(seq), "seq": seq, "spec_id": "s", "status": status, "created_at": NOW, "updated_at": NOW}
    return Task(**{**fixed, **values})


def fill(store: GroupCommit[Tx], *tasks: Task) -> None:
    def body(tx: Tx) -> None:
        for one in tasks:
            tx[Tasks].add(one)

    store.write(body)


def ids(tasks: list[Task]) -> list[str]:
    return [one.id for one in tasks]


def test_what_is_ready_is_ready_in_order(store: GroupCommit[Tx]) -> None:
    fill(
        store,
        task(1),
        task(2, priority=5),
        task(9, priority=5),
        task(10, priority=5),
        task(3, unmet=1),
        task(4, hold=True),
        task(5, not_before=LATER),
        task(6, TaskStatus.AWAITING_APPROVAL),
        task(7, owner="synthorg"),
        task(8, queue="other"),
        task(11, spec_id=None),
    )
    assert ids(store.write(lambda tx: queries.ready(tx, "default", 10))) == ["2", "9", "10", "1"]
    assert ids(store.write(lambda tx: queries.ready(tx, "default", 2))) == ["2", "9"]
    assert ids(store.write(lambda tx: queries.ready(tx, "other", 10))) == ["8"]


@pytest.mark.parametrize("status", TaskStatus)
def test_only_what_is_pending_is_ready_or_wakes(store: GroupCommit[Tx], status: TaskStatus) -> None:
    fill(store, task(1, status), task(2, status, not_before=NOW))
    pending = status is TaskStatus.PENDING
    assert ids(store.write(lambda tx: queries.ready(tx, "default", 10))) == (["1"] if pending else [])
    assert ids(store.write(lambda tx: queries.due(tx, NOW))) == (["2"] if pending else [])
    assert ids(store.write(queries.occupying)) == (["1", "2"] if status in OCCUPYING else [])


def test_delayed_tasks_wake_in_time(store: GroupCommit[Tx]) -> None:
    assert store.write(queries.next_wake) is None
    soon = NOW + timedelta(microseconds=1)
    fill(store, task(1, not_before=LATER), task(2, not_before=soon), task(3, not_before=soon), task(4))
    fill(store, task(5, not_before=NOW, owner="synthorg"))
    assert store.write(queries.next_wake) == soon
    assert store.write(lambda tx: queries.due(tx, NOW)) == []
    assert ids(store.write(lambda tx: queries.due(tx, soon))) == ["2", "3"]
    assert ids(store.write(lambda tx: queries.due(tx, LATER))) == ["2", "3", "1"]


def test_slots_are_counted_from_rows(store: GroupCommit[Tx]) -> None:
    fill(
        store,
        task(1, TaskStatus.IN_PROGRESS, assigned_to="coder"),
        task(2, TaskStatus.ASSIGNED, assigned_to="coder", queue="other"),
        task(3, TaskStatus.IN_PROGRESS),
        task(4, TaskStatus.REVIEW, assigned_to="coder"),
        task(5, TaskStatus.IN_PROGRESS, owner="synthorg"),
    )
    busy = store.write(lambda tx: queries.busy(tx, ("default", "other"), ("coder",)))
    assert busy.queues == {"default": 2, "other": 1}
    assert busy.agents == {"coder": 2}


def test_dependents(store: GroupCommit[Tx]) -> None:
    fill(store, task(1), task(2), task(3))
    links = [Dependency(task_id="2", on_id="1"), Dependency(task_id="3", on_id="1"), Dependency(task_id="3", on_id="2")]

    def body(tx: Tx) -> None:
        for link in links:
            tx[Dependencies].add(link)
        assert queries.dependents_of(tx, "1") == links[:2]
        tx[Tasks].delete("3")
        assert queries.dependents_of(tx, "1") == links[:1]
        tx[Tasks].delete("1")
        assert queries.dependents_of(tx, "1") == links[:1], "they outlive what they wait for"

    store.write(body)


def test_an_idempotency_key_is_taken_once_for_each_user(store: GroupCommit[Tx]) -> None:
    fill(store, task(1, created_by=7, idempotency_key="k"), task(2, created_by=8, idempotency_key="k"))
    fill(store, task(3, created_by=7), task(4, created_by=7))
    with pytest.raises(AlreadyExists):
        fill(store, task(5, created_by=7, idempotency_key="k"))
    found = store.write(lambda tx: queries.by_idempotency_key(tx, 8, "k"))
    assert found is not None
    assert found.id == "2"
    assert store.write(lambda tx: queries.by_idempotency_key(tx, 9, "k")) is None


def test_counts_are_of_our_tasks(store: GroupCommit[Tx]) -> None:
    fill(store, task(1), task(2), task(3, TaskStatus.DONE), task(4, owner="synthorg"))
    assert store.write(queries.count_by_status) == {TaskStatus.PENDING: 2, TaskStatus.DONE: 1}


def all_pages(store: GroupCommit[Tx], cursor: str = "after", **wanted: Any) -> list[list[str]]:
    found, at = [], 0 if cursor == "after" else 10**9
    while True:
        page = store.write(lambda tx: pages.page_of_tasks(tx, limit=2, **{cursor: at}, **wanted))
        found.append(ids(page.tasks))
        if page.next is None:
            return found
        at = page.next


def test_pages_of_tasks(store: GroupCommit[Tx]) -> None:
    done, failed, progress = TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.IN_PROGRESS
    fill(
        store,
        task(1, done, finished_at=NOW, labels={"a": "1", "b": "2"}),
        task(2, queue="other", labels={"a": "1"}),
        task(3, progress, project="p", labels={"a": "2"}),
        task(4, failed, finished_at=LATER, labels={"a": "1"}),
        task(5, owner="synthorg", labels={"a": "1"}),
        task(6, done, finished_at=LATER),
    )
    assert all_pages(store) == [["1", "2"], ["3", "4"], ["6"]]
    assert all_pages(store, statuses=[done, TaskStatus.PENDING]) == [["1", "2"], ["6"]]
    assert all_pages(store, statuses=[progress], finished_since=LATER) == [["3", "4"], ["6"]]
    assert all_pages(store, statuses=[done], finished_since=NOW) == [["1", "4"], ["6"]]
    assert all_pages(store, statuses=[]) == [[]]
    assert all_pages(store, queue="other") == [["2"]]
    assert all_pages(store, project="p") == [["3"]]
    assert all_pages(store, labels={"a": "1"}) == [["1", "2"], ["4"]]
    assert all_pages(store, labels={"a": "1", "b": "2"}) == [["1"]]
    assert all_pages(store, labels={"a": "1"}, statuses=[failed]) == [["4"]]
    assert all_pages(store, "before") == [["6", "4"], ["3", "2"], ["1"]]
    assert all_pages(store, "before", statuses=[done, TaskStatus.PENDING]) == [["6", "2"], ["1"]]
    assert all_pages(store, "before", statuses=[progress], finished_since=LATER) == [["6", "4"], ["3"]]
    assert all_pages(store, "before", labels={"a": "1"}) == [["4", "2"], ["1"]]


def test_a_page_is_filled_past_what_is_left_out(store: GroupCommit[Tx]) -> None:
    wanted = {"label": "yes"}
    fill(store, *(task(seq, labels=wanted if seq % 20 == 0 else {}) for seq in range(10, 101, 10)))
    assert all_pages(store, labels=wanted) == [["20", "40"], ["60", "80"], ["100"]]
    assert all_pages(store, labels=wanted, statuses=[TaskStatus.PENDING]) == [["20", "40"], ["60", "80"], ["100"]]


def test_tasks_are_found_by_words_of_their_title(store: GroupCommit[Tx], monkeypatch: pytest.MonkeyPatch) -> None:
    titles = ["Build the Kernel", "kernel tests", "STRASSE", "build docs"]
    fill(store, *(task(seq, title=title) for seq, title in enumerate(titles, 1)))
    assert all_pages(store, text="build KERNEL") == [["1"]]
    assert all_pages(store, "before", text="kernel") == [["2", "1"], []]
    assert all_pages(store, text="straße") == [["3"]]
    assert all_pages(store, text="4") == [["4"]]
    assert all_pages(store, text=" ") == all_pages(store)
    fill(store, *(task(seq, title="x") for seq in range(5, 2105)))
    monkeypatch.setattr(pages, "MOST_SEARCHED", 1000)
    assert all_pages(store, text="docs") == [["4"], [], []]
    assert all_pages(store, "before", text="docs") == [[], [], ["4"]]


def append(store: GroupCommit[Tx], *kinds: str) -> None:
    def body(tx: Tx) -> None:
        for kind in kinds:
            tx.append(Events, Event(at=NOW, kind=kind, subject=f"{kind.split(':')[0]}/1", body={"n": 1}))

    store.write(body)


def test_pages_of_the_journal(store: GroupCommit[Tx]) -> None:
    def seqs(**wanted: Any) -> list[int]:
        return [event.seq for event in store.write(lambda tx: queries.page_of_journal(tx, **wanted))]

    assert (store.write(queries.first_seq), store.write(queries.last_seq)) == (None, 0)
    append(store, "task:created", "task:transition", "agent:spawned", "task:transition", "queue:paused")
    assert seqs() == [1, 2, 3, 4, 5]
    assert seqs(limit=2) == [4, 5]
    assert seqs(after=1, limit=2) == [2, 3]
    assert seqs(after=5) == []
    assert seqs(kinds=["task:*"]) == [1, 2, 4]
    assert seqs(after=1, kinds=["agent:*", "queue:paused"]) == [3, 5]
    assert seqs(subject="task/1", limit=1) == [4]
    assert seqs(after=1, subject="task/1", kinds=["*:transition"]) == [2, 4]
    store.write(lambda tx: tx[Events].delete_where(Events.seq.le(2)))
    assert (store.write(queries.first_seq), store.write(queries.last_seq)) == (3, 5)
    append(store, "task:created")
    assert store.write(queries.last_seq) == 6


def test_ids_are_never_used_again(store: GroupCommit[Tx]) -> None:
    def submit(tx: Tx) -> str:
        made = queries.next_task_id(tx)
        tx[Tasks].add(task(queries.next_task_seq(tx), id=made))
        return made

    assert [store.write(submit) for _ in range(3)] == ["1", "2", "3"]
    store.write(lambda tx: tx[Tasks].delete("3"))
    assert store.write(submit) == "4"
    assert [one.seq for one in store.write(lambda tx: tx[Tasks].find())] == [1, 2, 4]


@pytest.mark.parametrize(
    ("chosen", "following"),
    [("41", "42"), ("007", "8"), ("build", "1"), ("²", "1"), ("-5", "1"), ("9" * 5000, "1"), ("0", "1")],
)
def test_an_id_that_is_a_number_raises_the_counter(store: GroupCommit[Tx], chosen: str, following: str) -> None:
    store.write(lambda tx: queries.note_client_id(tx, chosen))
    store.write(lambda tx: queries.note_client_id(tx, "0"))
    assert store.write(queries.next_task_id) == following


def test_ids_in_use_are_skipped(store: GroupCommit[Tx]) -> None:
    fill(store, task(1), task(2))
    assert store.write(queries.next_task_id) == "3"


def test_equal_specs_are_stored_once(store: GroupCommit[Tx]) -> None:
    one = Spec(command=("make",), cwd="/", env={"A": "1", "B": "2"})
    same = Spec(command=("make",), cwd="/", env={"B": "2", "A": "1"})
    other = Spec(command=("make",), cwd="/", env={"A": "1"})
    kept = [store.write(lambda tx: queries.keep_spec(tx, spec)) for spec in (one, same, other)]
    assert kept[0] == kept[1] != kept[2]
    assert store.write(lambda tx: tx[Specs].count()) == 2
    assert store.write(lambda tx: tx[Specs].get(kept[0])) == stored_spec(one)


def test_a_spec_that_a_later_task_took_up_is_not_dropped(store: GroupCommit[Tx]) -> None:
    specs = [Spec(command=(name,), cwd="/") for name in ("taken", "unused", "used")]
    taken, unused, used = (store.write(lambda tx: queries.keep_spec(tx, spec)) for spec in specs)

    def body(tx: Tx) -> int:
        for spec_id in (taken, unused, used):
            queries.let_go_of_spec(tx, spec_id)
        tx[Tasks].add(task(8, spec_id=taken))
        return queries.drop_specs(tx, queries.loose_specs(tx), {taken, unused}, after=7)

    assert store.write(body) == 1
    assert {s.id for s in store.write(lambda tx: tx[Specs].find())} == {taken, used}
    assert store.write(queries.loose_specs) == set()


def test_a_record_that_does_not_decode_is_named(store: GroupCommit[Tx], db: Watched) -> None:
    """F10: never read as something else, never silently left out."""
    fill(store, task(1))
    db.execute("""UPDATE tasks SET doc = '{"id": "1", "seq": "one"}'""")
    with pytest.raises(Undecodable, match=r"tasks: .*\$\.seq") as met:
        store.write(lambda tx: tx[Tasks].find())
    assert (met.value.table, met.value.keys) == ("tasks", (("1",),))


FLAT: dict[str, Callable[[Tx], object]] = {
    "ready": lambda tx: queries.ready(tx, "default", 8),
    "next_wake": queries.next_wake,
    "due": lambda tx: queries.due(tx, NOW),
    "busy": lambda tx: queries.busy(tx, ("default",), ("coder",)),
    "dependents": lambda tx: queries.dependents_of(tx, "1"),
    "idempotency": lambda tx: queries.by_idempotency_key(tx, 0, "k"),
    "page": lambda tx: pages.page_of_tasks(tx, after=0, limit=20),
    "page of newest": lambda tx: pages.page_of_tasks(tx, before=STORED, limit=20),
    "page of statuses": lambda tx: pages.page_of_tasks(tx, limit=20, statuses=[TaskStatus.DONE, TaskStatus.FAILED]),
    "page of late": lambda tx: pages.page_of_tasks(tx, limit=20, statuses=[TaskStatus.PENDING], finished_since=LATER),
    "journal": lambda tx: queries.page_of_journal(tx, after=0, limit=20),
    "journal, last": lambda tx: queries.page_of_journal(tx, limit=20),
    "journal of a subject": lambda tx: queries.page_of_journal(tx, subject="task/1", limit=20),
    "first_seq": queries.first_seq,
    "last_seq": queries.last_seq,
    "next_task_id": queries.next_task_id,
    "next_task_seq": queries.next_task_seq,
    "next deadline": deadlines.next_look,
    "next schedule": schedules.first,
    "append": lambda tx: tx.append(Events, Event(at=NOW, kind="x", subject="y")),
    "add": lambda tx: tx[Tasks].add(task(STORED + 1)),
    "save": lambda tx: tx[Tasks].save(task(1, priority=3)),
}


def steps(store: GroupCommit[Tx], db: Connection, body: Callable[[Tx], object]) -> int:
    """How many instructions SQLite carries out for a body: time, without a clock."""
    count = 0

    def one() -> int:
        nonlocal count
        count += 1
        return 0

    class Undo(Exception):
        pass

    def undone(tx: Tx) -> None:
        body(tx)
        raise Undo

    db.set_progress_handler(one, 1)
    with pytest.raises(Undo):
        store.write(undone)
    db.set_progress_handler(None, 0)
    return count


def test_queries_stay_flat(store: GroupCommit[Tx], db: Watched) -> None:
    """Twenty of each kind of task, and then a hundred thousand that are done, held, blocked and delayed besides.

    W19.
    """

    def some(first: int) -> list[Task]:
        kinds: list[dict[str, Any]] = [
            {},
            {"status": TaskStatus.IN_PROGRESS},
            {"not_before": NOW},
            {"status": TaskStatus.DONE, "finished_at": NOW},
            {"status": TaskStatus.FAILED, "finished_at": LATER},
        ]
        return [task(first + n, **kinds[n % len(kinds)]) for n in range(20 * len(kinds))]

    def many(tx: Tx) -> None:
        kinds: list[dict[str, Any]] = [
            {"status": TaskStatus.DONE, "finished_at": NOW},
            {"hold": True},
            {"unmet": 1},
            {"not_before": LATER + timedelta(days=1)},
            {"queue": "paused"},
        ]
        for seq in range(101, STORED + 1):
            tx[Tasks].add(task(seq, **kinds[seq % len(kinds)]))
        for number in range(STORED):
            tx.append(Events, Event(at=NOW, kind="x", subject=f"task/{2 + number}"))

    fill(store, *some(1))
    append(store, *["task:created"] * 30)
    store.write(lambda tx: queries.note_client_id(tx, str(STORED)))
    before = {name: steps(store, db, body) for name, body in FLAT.items()}
    store.write(many)
    after = {name: steps(store, db, body) for name, body in FLAT.items()}
    grown = {name: (before[name], after[name]) for name in FLAT if after[name] > 1.2 * before[name] + 20}
    assert grown == {}


@pytest.mark.parametrize("stored", [0, 1000])
def test_queries_are_answered_from_indexes(store: GroupCommit[Tx], db: Watched, stored: int) -> None:
    fill(store, *(task(seq) for seq in range(1, stored + 1)))
    for body in FLAT.values():
        db.reads.clear()
        with pytest.raises(ZeroDivisionError):
            store.write(lambda tx: (body(tx), 1 // 0))
        for statement, values in db.reads.copy():
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not any("TEMP B-TREE" in line or line in ("SCAN tasks", "SCAN dependencies") for line in plan), plan


def test_the_partial_indexes_serve_bound_parameters(store: GroupCommit[Tx], db: Watched) -> None:
    def plan(body: Callable[[Tx], object]) -> str:
        db.reads.clear()
        store.write(body)
        ((statement, values),) = db.reads.copy()
        ((*_, line),) = db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        return str(line)

    assert plan(FLAT["ready"]) == "SEARCH tasks USING INDEX tasks_ready_queue_priority_seq_execution_id (ready_queue=?)"
    assert plan(FLAT["due"]) == "SEARCH tasks USING INDEX tasks_wake_at_seq (wake_at<?)"
    assert "tasks_wake_at_seq" in plan(FLAT["next_wake"])
    assert "tasks_busy_queue_seq (busy_queue=?)" in plan(lambda tx: queries.busy(tx, ["default"], ()))
    assert "tasks_busy_queue_seq" in plan(lambda tx: queries.busy(tx, (), ["coder"]))
    assert "tasks_created_by_idempotency_key (created_by=? AND idempotency_key=?)" in plan(FLAT["idempotency"])
