"""`polpoctl store check`: each thing that can be wrong is planted, and told in a sentence with the command that helps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kit.earlier import bring_back
from kit.host import Host
from kit.starting import polpod
from kit.waiting import until

from polpod.paths import StateDirectory

PAGE = 4096


@pytest.fixture(scope="module")
def original() -> Iterator[Host]:
    """A state directory that was used and whose daemon has stopped."""
    with Host() as host:
        host.start()
        first = host.submit("true")
        assert host.finished(first)["status"] == "done"
        held = host.submit("true", hold=True)
        host.submit("true", depends_on=[held])
        assert host.stop() == 0
        yield host


@pytest.fixture
def used(original: Host) -> Iterator[Host]:
    with Host() as host:
        for name in ("state.db", "runs.db"):
            Path(host.paths.path, name).write_bytes(Path(original.paths.path, name).read_bytes())
        yield host


def sql(path: str, *statements: str) -> None:
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as db:
        for statement in statements:
            assert db.execute(statement).rowcount != 0, statement
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def tasks(*statements: str) -> Callable[[StateDirectory], None]:
    return lambda paths: sql(paths.tasks_db, *statements)


def runs(*statements: str) -> Callable[[StateDirectory], None]:
    return lambda paths: sql(paths.runs_db, *statements)


def set_in_doc(task: str, **values: str) -> str:
    changes = ", ".join(f"'$.{name}', {value}" for name, value in values.items())
    return f"UPDATE tasks SET doc = json_set(doc, {changes}) WHERE id = '{task}'"


def zero_page(paths: StateDirectory) -> None:
    """The root of the journal's table."""
    with closing(sqlite3.connect(paths.tasks_db)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    with open(paths.tasks_db, "r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


def no_document(paths: StateDirectory) -> None:
    """NULL where the schema forbids it, as a damaged page reads."""
    rewrite = "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'tasks'"
    strict, loose = "doc TEXT NOT NULL", "doc TEXT"
    with closing(sqlite3.connect(paths.tasks_db, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(rewrite, (strict, loose))
    with closing(sqlite3.connect(paths.tasks_db, isolation_level=None)) as db:
        db.execute("UPDATE tasks SET doc = NULL WHERE id = '2'")
        db.execute("PRAGMA writable_schema = ON")
        db.execute(rewrite, (loose, strict))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def empty(paths: StateDirectory) -> None:
    Path(paths.tasks_db).write_bytes(b"")


def gone(paths: StateDirectory) -> None:
    Path(paths.runs_db).unlink()


def foreign(paths: StateDirectory) -> None:
    Path(paths.runs_db).unlink()
    sql(paths.runs_db, "CREATE TABLE precious (x)")


IN_PROGRESS = (
    set_in_doc("1", status="'in_progress'", run_id="1"),
    "UPDATE tasks SET status = 'in_progress', busy_queue = 'default', live_run = 1, finished_at = NULL WHERE id = '1'",
    set_in_doc("1", finished_at="NULL", applied_run="NULL"),
)
NO_RUN = (
    *(s.replace("run_id', 1", "run_id', 9").replace("live_run = 1", "live_run = 9") for s in IN_PROGRESS),
    "UPDATE settings SET doc = json_set(doc, '$.value', '9') WHERE name = 'runs.last_id'",
)
LIVES = (
    "DROP TRIGGER runs_outcome_is_final",
    "UPDATE runs SET status = 'running', reason = NULL, collected_at = NULL",
    "CREATE TRIGGER runs_outcome_is_final BEFORE UPDATE OF\n"
    "        id, task_id, attempt, nonce, status, reason, exit_code, signal, error, ended_at, duration, cpu_seconds,\n"
    "        max_rss, leftovers, pid, start_ticks, job_pid, started_at, boot_id ON runs\n"
    "    WHEN OLD.status NOT IN ('starting','running')\n"
    "    BEGIN SELECT RAISE(ABORT, 'the outcome of a run is final'); END",
)

REPAIR = ("store restore BACKUP", "store salvage")

PLANTED = {
    "page": (zero_page, "state.db: damaged", REPAIR),
    "null": (no_document, "tasks 2 does not decode", REPAIR),
    "empty": (empty, "is empty", REPAIR),
    "gone": (gone, "runs.db is not there", REPAIR),
    "foreign": (foreign, "runs.db: ", ("store restore BACKUP",)),
    "newer": (tasks("PRAGMA user_version = 99"), "later polpod", ("store restore BACKUP",)),
    "column": (tasks("UPDATE tasks SET priority = 7 WHERE id = '2'"), "tasks 2: column priority differs", REPAIR),
    "document": (tasks("UPDATE tasks SET doc = '{}' WHERE id = '2'"), "tasks 2 does not decode", ("start",)),
    "index": (tasks("DROP INDEX tasks_status_seq_queue"), "index tasks_status_seq_queue is missing", REPAIR),
    "table": (tasks("CREATE TABLE other (x)"), "table other does not belong there", REPAIR),
    "trigger": (runs("DROP TRIGGER runs_outcome_is_final"), "trigger runs_outcome_is_final is missing", REPAIR),
    "gap": (tasks("DELETE FROM events WHERE seq = 3"), "the journal has gaps: 1 events", REPAIR),
    "reference": (
        tasks("INSERT INTO dependencies VALUES ('77', '1', '{\"task_id\":\"77\",\"on_id\":\"1\",\"met\":true}', NULL)"),
        "names a row of tasks that is not there",
        REPAIR,
    ),
    "run": (
        runs("PRAGMA ignore_check_constraints = ON", LIVES[0], "UPDATE runs SET reason = 'boredom'", LIVES[2]),
        "run 1 does not decode",
        REPAIR,
    ),
    "instant": (runs(LIVES[0], "UPDATE runs SET ended_at = 'x'", LIVES[2]), "run 1 does not decode", REPAIR),
    "unmet": (tasks(set_in_doc("3", unmet="0"), "UPDATE tasks SET ready_queue = 'default' WHERE id = '3'"), "does not wait, and has 1 unmet", REPAIR),
    "met": (
        tasks("UPDATE dependencies SET unmet = NULL, doc = json_set(doc, '$.met', json('true'))", set_in_doc("3", unmet="0"),
              "UPDATE tasks SET ready_queue = 'default' WHERE id = '3'"),
        "task 3 does not wait for task 2, which is pending",
        REPAIR,
    ),
    "spec": (tasks("DELETE FROM specs"), "what task 2 executes is lost", ("remove 2 3",)),
}  # fmt: skip

SETTLED = {
    "collected": (tasks(*IN_PROGRESS), "its run 1 was completed and collected"),
    "no run": (tasks(*NO_RUN), "with run 9, which runs.db does not have"),
    "live run": (runs(*LIVES), "run 1 is running, and its task 1 is done"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_told_with_what_helps(used: Host, name: str) -> None:
    plant, says, helps = PLANTED[name]
    plant(used.paths)
    before = {p.name: p.read_bytes() for p in Path(used.paths.path).glob("*.db")}
    done = used.maintain("check")
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert says in done.stdout
    for words in helps:
        assert f"next: polpoctl --root {used.root} {words}" in done.stdout
    if helps is not REPAIR:
        assert "salvage" not in done.stdout
    assert {p.name: p.read_bytes() for p in Path(used.paths.path).glob("*.db")} == before
    told = json.loads(used.maintain("--json", "check").stdout)
    assert not told["ok"]
    assert any(f["level"] == "problem" and says in f["says"] for f in told["findings"])


@pytest.mark.parametrize("name", SETTLED)
def test_what_a_start_settles_is_a_note_and_the_start_settles_it(used: Host, name: str) -> None:
    plant, says = SETTLED[name]
    plant(used.paths)
    done = used.maintain("check")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "note: " in done.stdout
    assert says in done.stdout
    assert f"next: polpoctl --root {used.root} start" in done.stdout
    used.start()
    until(lambda: used.call("daemon.status")["state"] == "running", "it has recovered")
    assert used.finished("1")["status"] == "done"
    until(lambda: used.maintain("check").stdout.startswith(f"{used.paths.path} is in order"), "all is in order again")


def test_a_bit_in_a_name_that_means_nothing_is_no_defect_of_the_check(used: Host) -> None:
    tail = b',"\xff":1}'.hex()
    doc = f"CAST(CAST(substr(doc, 1, length(doc) - 1) AS BLOB) || x'{tail}' AS TEXT)"
    sql(used.paths.tasks_db, f"UPDATE tasks SET doc = {doc}", f"UPDATE dependencies SET doc = {doc}")
    done = used.maintain("check")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_a_daemon_that_should_have_settled_it_is_to_be_restarted(host: Host) -> None:
    host.start()
    task_id = host.submit("true")
    assert host.finished(task_id)["status"] == "done"
    assert host.maintain("check").returncode == 0
    sql(host.paths.tasks_db, *IN_PROGRESS)
    done = host.maintain("check")
    assert done.returncode == 1, done.stdout
    assert f"next: polpoctl --root {host.root} stop and" in done.stdout


def test_a_busy_daemon_is_in_order_at_any_moment(host: Host) -> None:
    host.configure(maxConcurrency=8)
    host.start()
    with host.client() as client:
        for number in range(150):
            client.call("task.submit", command=["true"], cwd="/", depends_on=[str(number)] if number % 3 == 2 else [])
            if number % 15 == 0:
                done = host.maintain("check")
                assert (done.returncode, "in order" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("name", ["state.db", "runs.db"])
def test_a_database_whose_wal_was_removed_before_its_first_checkpoint_is_lost_and_not_new(
    host: Host, name: str
) -> None:
    host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    host.kill()
    for companion in ("", "-wal", "-shm"):
        Path(host.paths.path, f"{name}{companion}").unlink()
    with closing(sqlite3.connect(Path(host.paths.path, name))) as db:  # all that it is before the first checkpoint
        db.execute("PRAGMA journal_mode = WAL")
    before = Path(host.paths.path, name).read_bytes()
    done = host.maintain("check")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{name} is empty or not there, and the other database has been used with it" in done.stdout
    assert f"polpoctl --root {host.root} store salvage" in done.stdout
    assert f'problem", "name": "{name}"' in host.maintain("--json", "doctor").stdout
    status, output = polpod("--root", str(host.root))
    assert (status, "store salvage" in output) == (1, True), output
    assert Path(host.paths.path, name).read_bytes() == before


def test_a_backup_of_an_older_schema_is_checked_and_restored(used: Host) -> None:
    bring_back(used.paths.tasks_db, 1)
    done = used.maintain("check")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "state.db has schema 1" in done.stdout
    with Host() as other:
        restored = other.maintain("restore", used.paths.path)
        assert restored.returncode == 0, restored.stderr
        other.start()
        assert len(other.call("task.list", all=True)["tasks"]) == 3


def test_without_a_state_directory_there_is_nothing_to_check(tmp_path: Path) -> None:
    with Host() as host:
        done = host.command("--root", str(tmp_path), "--maintenance", "check")
    assert (done.returncode, str(tmp_path) in done.stderr) == (3, True)
    assert list(tmp_path.iterdir()) == []
