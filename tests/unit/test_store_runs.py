"""The RunStore: compare-and-sets, lists, and rows that do not decode (DESIGN §6, F10)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from polpod.errors import AlreadyExists, StoreError
from polpod.model.runs import Reason, Run, RunStatus
from polpod.runner import contract
from polpod.store.databases import RUNS
from polpod.store.group import GroupCommit
from polpod.store.runs import NewRun, Place, RunTx
from polpod.store.sqlite import Connection, open_writer
from polpod.store.sqlite_session import SqliteWriter

AT = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-01T00:05:00.000000Z"
NEW = NewRun(
    task_id="1",
    attempt=1,
    queue="default",
    nonce="secret",
    token_hash="hash",
    created_at=AT,
    boot_id="boot",
    claim_until_mono=30_000_000_000,
    containment="session",
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    made = open_writer(str(tmp_path / "runs.db"), RUNS.schema)
    yield made
    made.close()


@pytest.fixture
def store(db: Connection) -> GroupCommit[RunTx]:
    return GroupCommit(SqliteWriter(db), RUNS)


def place(run_id: int) -> Place:
    return Place(f"logs/{run_id}.log", f"/sys/fs/cgroup/run-{run_id}")


def insert(store: GroupCommit[RunTx], task_id: str = "1", **values: Any) -> int:
    return store.write(lambda tx: tx.insert(replace(NEW, task_id=task_id, **values), place))


def claim(db: Connection, run_id: int, nonce: str = "secret") -> bool:
    values = dict.fromkeys(contract.IDENTITY, 7) | {"started_at": AT, "id": run_id, "nonce": nonce}
    return db.execute(contract.CLAIM, values).rowcount == 1


def outcome(run_id: int, **values: Any) -> dict[str, Any]:
    ended = {"status": "completed", "reason": "exited", "exit_code": 0, "ended_at": AT, "duration": 1.5, "leftovers": 0}
    return {**dict.fromkeys(contract.OUTCOME), **ended, "id": run_id, "nonce": "secret", **values}


def finished(store: GroupCommit[RunTx], db: Connection, task_id: str = "1", **values: Any) -> int:
    run_id = insert(store, task_id)
    assert claim(db, run_id)
    assert store.write(lambda tx: tx.finish(outcome(run_id, **values)))
    return run_id


def get(store: GroupCommit[RunTx], run_id: int) -> Run:
    run = store.write(lambda tx: tx.get(run_id))
    assert run is not None
    return run


def ids(store: GroupCommit[RunTx], read: Callable[[RunTx], list[Run]]) -> list[int]:
    return [run.id for run in store.write(read)]


def test_a_new_run_has_files_named_by_its_id(store: GroupCommit[RunTx]) -> None:
    run = get(store, insert(store))
    assert run == Run(
        id=1, status=RunStatus.STARTING, log_path="logs/1.log", cgroup="/sys/fs/cgroup/run-1", **asdict(NEW)
    )
    assert store.write(lambda tx: tx.get(2)) is None


def test_a_task_has_one_live_run(store: GroupCommit[RunTx]) -> None:
    """W8."""
    first = insert(store)
    with pytest.raises(AlreadyExists):
        insert(store)
    assert store.write(lambda tx: tx.never_started(first, "refused", AT))
    assert insert(store) == 2


def test_an_id_is_never_used_again(store: GroupCommit[RunTx], db: Connection) -> None:
    insert(store, "1")
    insert(store, "2")
    db.execute("DELETE FROM runs")
    assert insert(store, "3") == 3
    db.execute(
        "INSERT INTO runs (task_id, attempt, queue, nonce, token_hash, status, created_at, boot_id,"
        " claim_until_mono, containment, log_path) VALUES ('4', 1, 'q', 'n', 'h', 'starting', 'c', 'b', 1, 'session', 'l')"
    )
    assert insert(store, "5") == 5


def test_a_rolled_back_insert_leaves_no_run(store: GroupCommit[RunTx]) -> None:
    def body(tx: RunTx) -> None:
        tx.insert(NEW, place)
        raise KeyError

    with pytest.raises(KeyError):
        store.write(body)
    assert ids(store, RunTx.live) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_new_run_comes_back(store: GroupCommit[RunTx], db: Connection, data: st.DataObject) -> None:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    number = st.integers(0, 2**53)
    seconds = st.none() | st.floats(0, 1e9)
    new = data.draw(
        st.builds(
            NewRun,
            task_id=text,
            attempt=number,
            queue=text,
            agent=st.none() | text,
            nonce=text,
            token_hash=text,
            created_at=st.floats(0, 4e9).map(contract.timestamp),
            boot_id=text,
            claim_until_mono=number,
            containment=st.sampled_from(["cgroup", "session"]),
            max_duration=seconds,
            stale_threshold=seconds,
        )
    )
    where = data.draw(st.builds(Place, text, st.none() | text))
    run_id = store.write(lambda tx: tx.insert(new, lambda _: where))
    assert get(store, run_id) == Run(id=run_id, status=RunStatus.STARTING, **asdict(new), **asdict(where))
    db.execute("DELETE FROM runs")


def test_whoever_decides_first_wins(store: GroupCommit[RunTx], db: Connection) -> None:
    run_id = insert(store)
    assert claim(db, run_id)
    assert not store.write(lambda tx: tx.never_started(run_id, "too late", AT))
    assert not store.write(lambda tx: tx.finish(outcome(run_id, nonce="guess")))
    assert store.write(lambda tx: tx.finish(outcome(run_id, exit_code=3, status="failed")))
    assert not store.write(lambda tx: tx.finish(outcome(run_id)))
    assert not store.write(lambda tx: tx.lost(run_id, "too late", AT))
    run = get(store, run_id)
    assert (run.status, run.reason, run.exit_code, run.duration) == (RunStatus.FAILED, Reason.EXITED, 3, 1.5)
    assert run.error is None


def test_a_run_nobody_claimed_and_a_run_nobody_knows(store: GroupCommit[RunTx], db: Connection) -> None:
    first, second = insert(store, "1"), insert(store, "2")
    assert store.write(lambda tx: tx.never_started(first, "no reply", AT))
    assert not claim(db, first)
    assert claim(db, second)
    assert store.write(lambda tx: tx.lost(second, "runner gone", LATER))
    runs = [get(store, run_id) for run_id in (first, second)]
    assert [run.status for run in runs] == [RunStatus.LOST, RunStatus.LOST]
    assert [run.reason for run in runs] == [Reason.NEVER_STARTED, Reason.LOST]
    assert [(run.error, run.ended_at) for run in runs] == [("no reply", AT), ("runner gone", LATER)]


def test_an_outcome_that_no_run_can_have_is_refused(store: GroupCommit[RunTx], db: Connection) -> None:
    run_id = insert(store)
    claim(db, run_id)
    for values in ({"status": "happy"}, {"reason": None}, {"exit_code": "zero"}):
        with pytest.raises(StoreError):
            store.write(lambda tx: tx.finish(outcome(run_id, **values)))
    assert get(store, run_id).status is RunStatus.RUNNING


def test_the_first_kill_stands(store: GroupCommit[RunTx], db: Connection) -> None:
    def kill(reason: str, run_id: int) -> bool:
        return store.write(
            lambda tx: tx.request_kill(run_id, reason=reason, by="uid 7", at=AT, mono=5, boot="boot", grace=2.5)
        )

    run_id = insert(store)
    assert kill("cancelled", run_id)
    assert not kill("shutdown", run_id)
    run = get(store, run_id)
    assert (run.kill_reason, run.kill_by, run.kill_at, run.kill_mono, run.kill_boot, run.kill_grace) == (
        *("cancelled", "uid 7", AT, 5, "boot", 2.5),
    )
    assert not kill("cancelled", finished(store, db, "2")), "it has ended"


def test_lists(store: GroupCommit[RunTx], db: Connection) -> None:
    for _ in range(2):
        finished(store, db, "1")  # 1, 2
    insert(store, "1")  # 3
    insert(store, "2")  # 4
    claim(db, 4)
    finished(store, db, "3")  # 5
    assert ids(store, RunTx.live) == [3, 4]
    assert ids(store, RunTx.uncollected) == [1, 2, 5]
    assert ids(store, lambda tx: tx.of_task("1")) == [1, 2, 3]
    assert ids(store, lambda tx: tx.of_task("9")) == []
    newest = store.write(lambda tx: tx.newest("1"))
    assert newest is not None
    assert newest.id == 3
    assert store.write(lambda tx: tx.newest("9")) is None
    assert store.write(RunTx.count_collected) == {}
    assert ids(store, RunTx.page) == [5, 4, 3, 2, 1]
    assert ids(store, lambda tx: tx.page(limit=2)) == [5, 4]
    assert ids(store, lambda tx: tx.page(limit=2, before=4)) == [3, 2]
    assert ids(store, lambda tx: tx.page(task_id="1", before=3)) == [2, 1]
    assert ids(store, lambda tx: tx.page(statuses=[RunStatus.COMPLETED, RunStatus.RUNNING])) == [5, 4, 2, 1]
    assert ids(store, lambda tx: tx.page(statuses=[])) == []
    assert [run.live for run in store.write(RunTx.page)] == [False, True, True, False, False]


def test_marks(store: GroupCommit[RunTx], db: Connection) -> None:
    done, live = finished(store, db, "1"), insert(store, "2")

    def mark(tx: RunTx) -> None:
        tx.mark_seen([done], AT)
        tx.mark_collected([done, live], LATER)
        tx.heartbeat([done, live], LATER)

    store.write(mark)
    one, two = get(store, done), get(store, live)
    assert (one.seen_at, one.collected_at, one.heartbeat_at) == (AT, LATER, None)
    assert (two.seen_at, two.collected_at, two.heartbeat_at, two.activity_at) == (None, None, LATER, LATER)
    assert ids(store, RunTx.uncollected) == []
    store.write(lambda tx: tx.mark_seen([], AT))


def test_seeing_a_run_again_changes_bytes(store: GroupCommit[RunTx], db: Connection) -> None:
    """Else the commit would sync nothing (B1)."""
    done = finished(store, db)
    store.write(lambda tx: tx.mark_seen([done], AT))
    store.write(lambda tx: tx.mark_seen([done], LATER))
    assert get(store, done).seen_at == LATER


def poison(db: Connection, run_id: int) -> None:
    """What no statement of ours can write: the checks are off."""
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute("DROP TRIGGER runs_outcome_is_final")
    db.execute("UPDATE runs SET reason = 'sunspots' WHERE id = ?", (run_id,))


@pytest.mark.parametrize("read", [RunTx.live, RunTx.page])
def test_a_poisoned_row_hurts_no_other(
    store: GroupCommit[RunTx], db: Connection, read: Callable[[RunTx], list[Run]]
) -> None:
    for task_id in "123":
        insert(store, task_id)
    poison(db, 2)

    def body(tx: RunTx) -> list[tuple[int, str]]:
        assert sorted(run.id for run in read(tx)) == [1, 3]
        return tx.quarantined

    ((bad, error),) = store.write(body)
    assert bad == 2
    assert "sunspots" in error
    with pytest.raises(StoreError, match=r"run 2.*sunspots"):
        get(store, 2)


def test_a_row_of_no_known_status_is_quarantined(store: GroupCommit[RunTx], db: Connection) -> None:
    first, second = finished(store, db, "1"), finished(store, db, "2")
    poison(db, first)
    db.execute("UPDATE runs SET status = 'melted' WHERE id = ?", (first,))

    def body(tx: RunTx) -> tuple[list[int], list[int]]:
        return [run.id for run in tx.uncollected()], [bad for bad, _ in tx.quarantined]

    assert store.write(body) == ([second], [first])


def test_lists_of_what_goes_on_do_not_read_the_history(store: GroupCommit[RunTx], db: Connection) -> None:
    def steps(read: Callable[[RunTx], object]) -> int:
        count = 0

        def one() -> int:
            nonlocal count
            count += 1
            return 0

        db.set_progress_handler(one, 1)
        store.write(read)
        db.set_progress_handler(None, 0)
        return count

    reads: list[Callable[[RunTx], object]] = [
        RunTx.live,
        RunTx.uncollected,
        lambda tx: tx.of_task("1"),
        lambda tx: tx.newest("1"),
        lambda tx: tx.page(limit=5),
        lambda tx: tx.mark_seen([1], LATER),
    ]
    for number in range(1, 11):
        finished(store, db, str(number))
    before = [steps(read) for read in reads]
    columns = [name for (_, name, *_) in db.execute("PRAGMA table_info(runs)") if name != "id"]
    copied = ", ".join({"task_id": "'t' || value", "collected_at": "'now'"}.get(c, c) for c in columns)
    db.execute(
        f"INSERT INTO runs ({', '.join(columns)}) SELECT {copied} FROM runs, json_each(?) WHERE runs.id = 1",
        (str(list(range(20_000))),),
    )
    after = [steps(read) for read in reads]
    assert [a <= 1.2 * b + 20 for a, b in zip(after, before, strict=True)] == [True] * len(reads), (before, after)


def test_a_runner_and_the_daemon_share_the_file(store: GroupCommit[RunTx], db: Connection) -> None:
    run_id = insert(store)
    runner = contract.connect(db.path)
    values = dict.fromkeys(contract.IDENTITY, 7) | {"started_at": AT, "id": run_id, "nonce": "secret"}
    assert runner.execute(contract.CLAIM, values).rowcount == 1
    assert runner.execute(contract.FINISH, outcome(run_id)).rowcount == 1
    with pytest.raises(sqlite3.IntegrityError, match="final"):
        runner.execute("UPDATE runs SET exit_code = 1")
    runner.close()
    assert ids(store, RunTx.uncollected) == [run_id]
