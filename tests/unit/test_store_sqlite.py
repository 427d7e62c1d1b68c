"""Opening databases: settings, refusals, migrations, backups; and keeping the WAL short (DESIGN §8, F53, F56, F59)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit.earlier import OF_BEFORE
from msgspec.structs import replace

from polpod.errors import DiskFull, SchemaTooNew, StoreError, Unavailable
from polpod.model.deadlines import AT_ONCE
from polpod.runner import contract
from polpod.store import sql, wal
from polpod.store.databases import RUNS, TASKS
from polpod.store.group import GroupCommit
from polpod.store.migrate import Schema, statements, version_of
from polpod.store.schema import TABLES
from polpod.store.sqlite import BUSY_TIMEOUT, Connection, open_reader, open_writer
from polpod.store.sqlite_session import SqliteWriter
from polpod.store.table import scalar
from polpod.store.tables import Setting, Settings

ONE = Schema("test store", ("CREATE TABLE a (x TEXT) STRICT;\nINSERT INTO a VALUES ('kept');\n",))
TWO = replace(
    ONE, scripts=(*ONE.scripts, "ALTER TABLE a ADD COLUMN y TEXT;\nUPDATE a SET y = 'new';\nCREATE TABLE b (z TEXT);\n")
)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def settings_of(db: Connection) -> dict[str, Any]:
    names = ("journal_mode", "busy_timeout", "foreign_keys", "journal_size_limit", "wal_autocheckpoint", "synchronous")
    return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def test_every_connection_has_the_settings(tmp_path: Path) -> None:
    """W21."""
    path = str(tmp_path / "a state?.db")
    writer = open_writer(path, TASKS.schema)
    reader = open_reader(path)
    for db in (writer, reader):
        assert settings_of(db) == {
            "journal_mode": "wal",
            "busy_timeout": 5000,
            "foreign_keys": 1,
            "journal_size_limit": 64 * 2**20,
            "wal_autocheckpoint": 0,
            "synchronous": 2,
        }
        db.close()
    assert BUSY_TIMEOUT == contract.BUSY_TIMEOUT


class Deaf(Connection):
    """Does not hear one of the settings."""

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        return super().execute("SELECT 1" if statement == "PRAGMA foreign_keys = 1" else statement, values)


def test_a_setting_that_was_not_taken_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="foreign_keys = 0"):
        open_writer(str(tmp_path / "state.db"), TASKS.schema, factory=Deaf)


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(8192))


def torn(path: Path) -> None:
    """A header that is right, over a schema that is not."""
    make(path, ONE)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


def anothers(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE photos (x)")
    db.close()


def emptied(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 1")
    db.close()


def make(path: Path, schema: Schema) -> None:
    open_writer(str(path), schema).close()


@pytest.mark.parametrize("damage", [garbage, zeros, torn, anothers, emptied])
def test_what_is_not_ours_is_refused_and_left_as_it_is(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "state.db"
    damage(path)
    before = files(tmp_path)
    with pytest.raises(StoreError, match=r"state\.db"):
        make(path, ONE)
    assert files(tmp_path) == before


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """W21."""
    path = tmp_path / "state.db"
    make(path, TWO)
    before = files(tmp_path)
    with pytest.raises(SchemaTooNew, match=r"state\.db"):
        make(path, ONE)
    assert files(tmp_path) == before


def test_a_directory_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        make(tmp_path / "nowhere" / "state.db", ONE)


def test_a_reader_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"state\.db"):
        open_reader(str(tmp_path / "state.db"))
    assert files(tmp_path) == {}


def test_a_migration_keeps_what_was_there_and_a_copy_of_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make(path, ONE)
    assert sorted(files(tmp_path)) == ["state.db"], "there was nothing to copy"
    make(path, TWO)
    assert sorted(files(tmp_path)) == ["state.db", "state.db.v1.bak"]
    db = open_writer(str(path), TWO)
    assert db.execute("SELECT * FROM a").fetchall() == [("kept", "new")]
    assert version_of(db) == 2
    db.close()
    copy = open_writer(str(tmp_path / "state.db.v1.bak"), ONE)
    assert copy.execute("SELECT * FROM a").fetchall() == [("kept",)]
    copy.close()


def test_the_copy_holds_what_only_the_wal_has(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    old = open_writer(path, ONE)
    old.execute("INSERT INTO a VALUES ('in the wal')")
    open_writer(path, TWO).close()
    old.close()
    copy = open_writer(f"{path}.v1.bak", ONE)
    assert copy.execute("SELECT * FROM a").fetchall() == [("kept",), ("in the wal",)]
    copy.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make(path, ONE)
    broken = replace(ONE, scripts=(*ONE.scripts, "CREATE TABLE b (z TEXT);\nINSERT INTO nowhere VALUES (1);\n"))
    with pytest.raises(StoreError, match="nowhere"):
        make(path, broken)
    db = open_writer(str(path), ONE)
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
    db.close()


def test_a_script_is_split_into_its_statements() -> None:
    script = "-- one; two\nCREATE TABLE a (x);\nCREATE TRIGGER t AFTER INSERT ON a\nBEGIN SELECT ';';\nEND;\n"
    assert [s.split()[-1] for s in statements(script)] == ["(x);", "END;"]
    assert len(list(statements(contract.MIGRATIONS[0]))) == 5
    with pytest.raises(StoreError, match="CREATE TABLE b"):
        list(statements("CREATE TABLE a (x);\nCREATE TABLE b ("))


def shape(db: sqlite3.Connection) -> dict[str, object]:
    """A schema without its wording: columns, references, indexes."""
    found: dict[str, object] = {}
    for name, statement in db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall():
        columns = {row[1:] for row in db.execute(f'PRAGMA table_xinfo("{name}")')}
        references = {row[2:] for row in db.execute(f'PRAGMA foreign_key_list("{name}")')}
        indexes = set()
        for _, index, unique, _, partial in db.execute(f'PRAGMA index_list("{name}")').fetchall():
            keys = tuple(row[2:5] for row in db.execute(f'PRAGMA index_xinfo("{index}")') if row[5])
            (text,) = db.execute("SELECT coalesce(sql, '') FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
            indexes.add((index, unique, partial, keys, text.partition("WHERE")[2].strip()))
        found[name] = columns, references, indexes, statement.rstrip().endswith("STRICT")
    return found


def test_the_migrations_lead_to_the_declared_tables(tmp_path: Path) -> None:
    """W21."""
    declared = sqlite3.connect(":memory:")
    for table in TABLES:
        for statement in sql.create(table):
            declared.execute(statement)
    migrated = open_writer(str(tmp_path / "state.db"), TASKS.schema)
    assert shape(migrated) == shape(declared)
    migrated.close()
    declared.close()


def test_tasks_of_before_are_found_by_what_their_owner_calls_their_status(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with closing(sqlite3.connect(path)) as old:
        for script in TASKS.schema.scripts[:5]:
            old.executescript(script)
        rows = [(str(n), n, owner, doc) for n, (owner, doc) in enumerate(OF_BEFORE)]
        old.executemany("INSERT INTO tasks (id, seq, owner, doc) VALUES (?, ?, ?, ?)", rows)
        old.execute("PRAGMA user_version = 5")
        old.commit()
    with closing(open_writer(path, TASKS.schema)) as db:
        found = [status for (status,) in db.execute("SELECT other_status FROM tasks ORDER BY seq")]
    assert found == ["blocked", *[None] * (len(OF_BEFORE) - 1)]


def test_deadlines_of_before_are_looked_at(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with closing(sqlite3.connect(path)) as old:
        for script in TASKS.schema.scripts[:8]:
            old.executescript(script)
        rows = [
            ("pending", '{"deadline": "2026-03-01T12:00:00Z"}'),
            ("done", '{"deadline": "2026-03-01T12:00:00Z"}'),
            ("failed", '{"deadline": "2026-03-01T12:00:00Z"}'),
            ("pending", '{"deadline": null}'),
            ("pending", "{}"),
            ("pending", "damaged"),
            (None, '{"deadline": "2026-03-01T12:00:00Z"}'),
        ]
        numbered = [(str(n), n, *row) for n, row in enumerate(rows)]
        old.executemany("INSERT INTO tasks (id, seq, status, doc) VALUES (?, ?, ?, ?)", numbered)
        old.execute("PRAGMA user_version = 8")
        old.commit()
    with closing(open_writer(path, TASKS.schema)) as db:
        found = [at for (at,) in db.execute("SELECT sla_at FROM tasks ORDER BY seq")]
    assert found == [scalar(AT_ONCE), scalar(AT_ONCE), *[None] * 5]


def test_the_run_store_is_as_the_contract_says(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    db = open_writer(path, RUNS.schema)
    assert version_of(db) == len(contract.MIGRATIONS)
    runner = contract.connect(path)
    assert runner.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    runner.close()
    db.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [(sqlite3.SQLITE_FULL, DiskFull), (sqlite3.SQLITE_BUSY, Unavailable), (sqlite3.SQLITE_IOERR, StoreError)],
)
def test_what_goes_wrong_in_opening_has_a_name(tmp_path: Path, code: int, error: type[Exception]) -> None:
    class Failing(Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            if statement.startswith("PRAGMA user_version ="):
                planted = sqlite3.OperationalError("planted")
                planted.sqlite_errorcode = code
                raise planted
            return super().execute(statement, values)

    path = tmp_path / "state.db"
    with pytest.raises(error, match=r"state\.db"):
        open_writer(str(path), ONE, factory=Failing)
    make(path, ONE)


# The WAL.


class Counting(Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.checkpoints: list[str] = []
        self.patience: list[int] = []
        """Milliseconds that each checkpoint would have waited for others."""

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        if "wal_checkpoint" in statement:
            self.checkpoints.append(statement)
            self.patience += super().execute("PRAGMA busy_timeout").fetchone()
        return super().execute(statement, values)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    db = open_writer(str(tmp_path / "state.db"), TASKS.schema, factory=Counting)
    assert isinstance(db, Counting)
    return db


def write_pages(engine: GroupCommit[Any], number: int) -> None:
    """As many commits, of a frame each."""
    for turn in range(number):
        engine.write(lambda tx: tx[Settings].save(Setting("page", str(turn % 10) * 4000)), durable=False)


def test_a_wal_is_checkpointed_again_and_again_and_does_not_grow(counting: Counting) -> None:
    """W22."""
    engine = GroupCommit(SqliteWriter(counting), TASKS)
    write_pages(engine, 5 * wal.PAGES)
    assert 4 <= len(counting.checkpoints) <= 6, counting.checkpoints
    assert set(counting.checkpoints) == {"PRAGMA wal_checkpoint(PASSIVE)"}
    assert os.path.getsize(f"{counting.path}-wal") < 1.2 * wal.PAGES * 4120
    engine.close()


def test_a_reader_that_pins_the_wal_does_not_cost_a_checkpoint_a_group(counting: Counting) -> None:
    engine = GroupCommit(SqliteWriter(counting), TASKS)
    reader = open_reader(counting.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM settings").fetchall()
    write_pages(engine, 3 * wal.PAGES)
    assert 2 <= len(counting.checkpoints) <= 4, counting.checkpoints
    assert not engine.truncate()
    assert counting.patience[-1] == 0, "it would keep all writers waiting with it"
    reader.execute("COMMIT")
    assert engine.truncate()
    assert os.path.getsize(f"{counting.path}-wal") == 0
    assert settings_of(counting)["busy_timeout"] == 5000
    write_pages(engine, 1)
    reader.close()
    engine.close()


def test_frames_of_another_process_count(counting: Counting) -> None:
    """As a runner appends to runs.db."""
    engine = GroupCommit(SqliteWriter(counting), TASKS)
    other = open_writer(counting.path, TASKS.schema)
    for _ in range(wal.PAGES):
        other.execute("INSERT INTO settings VALUES ('n', '{}') ON CONFLICT DO UPDATE SET doc = doc || ' '")
    assert counting.checkpoints == []
    write_pages(engine, 1)
    assert len(counting.checkpoints) == 1
    other.close()
    engine.close()


def test_a_checkpoint_that_fails_does_no_harm(tmp_path: Path) -> None:
    class NoSpace(Counting):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            if "wal_checkpoint" in statement:
                self.checkpoints.append(statement)
                error = sqlite3.OperationalError("planted")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(statement, values)

    db = open_writer(str(tmp_path / "state.db"), TASKS.schema, factory=NoSpace)
    engine = GroupCommit(SqliteWriter(db), TASKS)
    write_pages(engine, 3 * wal.PAGES // 2)
    assert isinstance(db, NoSpace)
    assert len(db.checkpoints) == 1, "it is tried again after as many frames, not at each group"
    assert engine.broken is None
    engine.close()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a first try of the example of SynthOrg's page, whose path is relative."""
    monkeypatch.chdir(tmp_path)
    for opened in (lambda: open_writer("data/a.db", TASKS.schema), lambda: open_reader("data/a.db")):
        with pytest.raises(StoreError, match=r"data/a\.db: there is no directory data$"):
            opened()
    with pytest.raises(StoreError, match="unable to open"):
        open_reader("a.db")
