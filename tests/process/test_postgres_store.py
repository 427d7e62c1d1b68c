"""A task store in PostgreSQL: its schema, what it refuses to open, what its errors mean, and how its queries are planned."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from kit.earlier import OF_BEFORE
from kit.postgres import Server, Store, name, pg, store
from kit.samples import NOW, a_task

from polpod.errors import (
    AlreadyExists,
    BrokenReference,
    Damaged,
    DiskFull,
    PolpodError,
    StoreError,
    TooLarge,
    Unavailable,
    Undecodable,
)
from polpod.model.tasks import TaskStatus
from polpod.store import pages, queries, sql
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, Ticket, open_store
from polpod.store.location import Postgres, open_sessions
from polpod.store.migrate import Schema, released_scripts
from polpod.store.postgres import Connection, PostgresRows
from polpod.store.postgres_session import WRITER_PATIENCE, PostgresWriter
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.tables import Setting, Settings, Tasks

__all__ = ("name", "pg", "store")


# The schema.

SHAPE = {
    "columns": """
        SELECT table_name, column_name, data_type, collation_name, is_nullable
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'polpod_schema' ORDER BY 1, 2
    """,
    "indexes": """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'polpod_schema' ORDER BY 1
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
    """,
}


def shape(pg: Server, name: str) -> dict[str, list[tuple[Any, ...]]]:
    return {what: pg.execute(name, query) for what, query in SHAPE.items()}


def test_the_migrations_lead_to_the_declared_tables(pg: Server, name: str, store: Store) -> None:
    with pg.lent() as declared:
        pg.execute(declared, "; ".join(statement for table in TABLES for statement in sql.create(table, sql.POSTGRES)))
        assert shape(pg, name) == shape(pg, declared)
    assert len(shape(pg, name)["indexes"]) > len(TABLES)


def test_tasks_of_before_are_found_by_what_their_owner_calls_their_status(pg: Server, name: str) -> None:
    pg.execute(name, "; ".join(TASKS.schema.for_postgres[:5]))
    for n, (owner, doc) in enumerate(OF_BEFORE):
        pg.execute(name, f"INSERT INTO tasks (id, seq, owner, doc) VALUES ('{n}', {n}, '{owner}', '{doc}')")
    pg.execute(name, "CREATE TABLE polpod_schema (version INTEGER NOT NULL, mark BIGINT NOT NULL)")
    pg.execute(name, "INSERT INTO polpod_schema VALUES (5, 0)")
    with closing(open_store(Postgres(pg.url(name)), TASKS)) as store:
        rows = store.write(lambda tx: tx[Tasks].stored())
    assert [row.columns["other_status"] for row in rows] == ["blocked", *[None] * (len(OF_BEFORE) - 1)]


def test_a_table_that_was_filled_at_once_is_known_to_the_planner_from_the_next_start(
    pg: Server, name: str, store: Store
) -> None:
    """As by a copy or a restore: without its statistics a page of a list sorted half of the table."""
    known = "SELECT relname FROM pg_class WHERE relname IN ('tasks', 'events') AND reltuples > 0"
    pg.execute(
        name,
        "ALTER TABLE tasks SET (autovacuum_enabled = off);"
        "INSERT INTO tasks (id, seq, owner, doc) SELECT n, n, 'polpod', repeat('x', 200) FROM generate_series(1, 9000) n",
    )
    assert pg.execute(name, known) == []
    store.close()
    with closing(open_store(Postgres(pg.url(name)), TASKS)):
        assert pg.execute(name, known) == [("tasks",)]


def test_both_databases_take_the_same_steps() -> None:
    assert len(released_scripts("postgres")) == len(released_scripts("sqlite"))


ONE = "CREATE TABLE events (seq BIGINT); CREATE TABLE a (x TEXT); INSERT INTO a VALUES ('kept')"
TWO = "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = 'new'"
WRONG = "CREATE TABLE b (x TEXT); CREATE TABLE c (x NO_SUCH_TYPE)"


def opened(pg: Server, name: str, *scripts: str, more: str = "") -> None:
    sessions = open_sessions(Postgres(pg.url(name, more=more)), Schema("test store", (), scripts))
    for session in (sessions.writer, *sessions.readers):
        session.close()


def test_the_steps_that_are_missing_are_taken_whole_or_not_at_all(pg: Server, name: str) -> None:
    opened(pg, name, ONE)
    with pytest.raises(StoreError, match="no_such_type"):
        opened(pg, name, ONE, TWO, WRONG)
    assert pg.execute(name, "SELECT * FROM a") == [("kept",)]
    assert pg.execute(name, "SELECT version FROM polpod_schema") == [(1,)]
    opened(pg, name, ONE, TWO)
    opened(pg, name, ONE, TWO)
    assert pg.execute(name, "SELECT * FROM a") == [("kept", "new")]
    assert pg.execute(name, "SELECT version FROM polpod_schema") == [(2,)]


def test_tables_of_others_are_left_alone(pg: Server, name: str) -> None:
    pg.execute(name, "CREATE TABLE invoices (id INT); INSERT INTO invoices VALUES (1)")
    opened(pg, name, ONE)
    assert pg.execute(name, "SELECT * FROM invoices") == [(1,)]


def test_a_table_of_another_program_in_the_way_is_refused_and_nothing_is_touched(pg: Server, name: str) -> None:
    pg.execute(name, "CREATE TABLE a (id INT); INSERT INTO a VALUES (1)")
    before = shape(pg, name)
    with pytest.raises(StoreError, match=f'/{name}: relation "a" already exists, and is not polpod\'s'):
        opened(pg, name, ONE)
    assert shape(pg, name) == before
    assert pg.execute(name, "SELECT to_regclass('polpod_schema')") == [(None,)]
    assert pg.execute(name, "SELECT * FROM a") == [(1,)]


def test_a_schema_of_the_database_is_a_store_of_its_own(pg: Server, name: str) -> None:
    pg.execute(name, "CREATE SCHEMA mine")
    with closing(open_store(Postgres(pg.url(name)), TASKS)) as one:
        with closing(open_store(Postgres(pg.url(name, more="&options=-csearch_path%3Dmine")), TASKS)) as other:
            one.write(lambda tx: tx[Settings].add(Setting("a", "public")))
            other.write(lambda tx: tx[Settings].add(Setting("a", "mine")))
    assert pg.execute(name, "SELECT doc::json ->> 'value' FROM public.settings") == [("public",)]
    assert pg.execute(name, "SELECT doc::json ->> 'value' FROM mine.settings") == [("mine",)]


def test_a_schema_that_is_not_there_is_named(pg: Server, name: str) -> None:
    with pytest.raises(StoreError, match="search_path"):
        opened(pg, name, ONE, more="&options=-csearch_path%3Dnobodys")


def test_a_database_in_another_encoding_is_refused(pg: Server) -> None:
    pg.execute("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc TEMPLATE template0")
    with pytest.raises(StoreError, match="UTF8, not LATIN1"):
        opened(pg, "latin", ONE)


def test_a_database_that_is_not_there_is_named(pg: Server) -> None:
    with pytest.raises(Unavailable, match=r'/nobodys: .*"nobodys" does not exist'):
        opened(pg, "nobodys", ONE)


# What the server raises, told by its code alone.


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("23503", BrokenReference),
        ("23505", AlreadyExists),
        ("53100", DiskFull),
        ("53300", Unavailable),
        ("40001", Unavailable),
        ("54000", TooLarge),
        ("55P03", Unavailable),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("08006", Unavailable),
        ("XX001", Damaged),
        ("XX000", StoreError),
        ("42P01", StoreError),
    ],
)
def test_an_error_of_the_server_has_its_meaning(store: Store, name: str, code: str, error: type[PolpodError]) -> None:
    def body(tx: Tx) -> None:
        assert isinstance(tx.rows, PostgresRows)
        tx.run(tx.rows.db.tell, f"DO $$ BEGIN RAISE 'planted' USING ERRCODE = '{code}'; END $$")

    with pytest.raises(error, match=f"/{name}: planted") as caught:
        store.write(body)
    assert type(caught.value) is error
    assert store.write(lambda tx: tx[Settings].count()) == 0, "and the next transaction is a new one"


@pytest.mark.parametrize(("code", "error"), [("53100", DiskFull), ("23514", Unavailable)])
def test_a_commit_that_the_server_refuses_has_not_happened(
    pg: Server, name: str, store: Store, code: str, error: type[PolpodError]
) -> None:
    pg.execute(
        name,
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'planted' USING ERRCODE = '{code}'; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON settings DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
    )
    with pytest.raises(error, match="planted"):
        store.write(lambda tx: tx[Settings].add(Setting("a", "v")))
    pg.execute(name, "DROP TRIGGER late ON settings")
    assert store.write(lambda tx: tx[Settings].count()) == 0
    store.write(lambda tx: tx[Settings].add(Setting("b", "v")))
    assert pg.execute(name, "SELECT name FROM settings") == [("b",)]


def test_a_statement_has_an_end(store: Store) -> None:
    def body(tx: Tx) -> None:
        assert isinstance(tx.rows, PostgresRows)
        tx.run(tx.rows.db.tell, "SET LOCAL statement_timeout = 10")
        tx.run(tx.rows.db.tell, "SELECT pg_sleep(30)")

    with pytest.raises(Unavailable, match="statement timeout"):
        store.write(body)
    assert int(WRITER_PATIENCE) * 1000 > int(store.write(_statement_timeout)) > 0


def _statement_timeout(tx: Tx) -> str:
    assert isinstance(tx.rows, PostgresRows)
    row = tx.rows.db.tell("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'").fetchone()
    assert row is not None
    return str(row[0])


def test_every_commit_waits_for_the_disk(pg: Server, name: str) -> None:
    pg.execute("postgres", f"ALTER DATABASE {name} SET synchronous_commit = off")
    seen: list[Any] = []

    def body(tx: Tx) -> None:
        assert isinstance(tx.rows, PostgresRows)
        seen.append(tx.rows.db.tell("SHOW synchronous_commit").fetchone())

    with closing(open_store(Postgres(pg.url(name)), TASKS)) as store:
        for durable in (True, False):
            store.write(body, durable=durable)
    assert seen == [("on",), ("on",)]


def test_a_reader_cannot_write(pg: Server, name: str) -> None:
    sessions = open_sessions(Postgres(pg.url(name)), TASKS.schema)
    reader = sessions.readers[0]
    reader.begin_reading()
    with pytest.raises(StoreError, match="read-only"):
        Tx(reader.rows)[Settings].add(Setting("a", "v"))
    reader.rollback()
    for session in (sessions.writer, *sessions.readers):
        session.close()


def test_a_reader_sees_one_state_throughout(pg: Server, name: str) -> None:
    sessions = open_sessions(Postgres(pg.url(name)), TASKS.schema)
    engine, reader = GroupCommit(sessions.writer, TASKS), sessions.readers[0]
    reader.begin_reading()
    tx = Tx(reader.rows)
    assert tx[Settings].count() == 0
    engine.write(lambda tx: tx[Settings].add(Setting("a", "v")))
    assert tx[Settings].count() == 0
    reader.rollback()
    reader.begin_reading()
    assert Tx(reader.rows)[Settings].count() == 1
    for session in (sessions.writer, *sessions.readers):
        session.close()


def test_what_is_closed_stays_closed(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write(lambda tx: tx[Settings].count())


# Round trips and plans.


def test_a_body_that_asks_nothing_costs_one_round_trip_to_begin_and_one_to_end(store: Store) -> None:
    store.write(lambda tx: None)
    told = _watched(store)
    store.write(lambda tx: None)
    assert told == ["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", "ROLLBACK"]


def test_parts_are_sent_with_what_is_done_in_them(store: Store) -> None:
    told = _watched(store)
    for key in "abc":
        store.submit(Ticket(partial(_put, key), durable=True))
    store.drain()
    assert told[1:] == ["SAVEPOINT part1", "RELEASE part1; SAVEPOINT part2", "RELEASE part2; SAVEPOINT part3", "COMMIT"]


def _put(name: str, tx: Tx) -> None:
    tx[Settings].add(Setting(name, "v"))


def _watched(store: Store) -> list[str]:
    """What is told to the server from here on, beside the rows."""
    db = _connection(store)
    told: list[str] = []
    tell = db.tell

    def watched(text: str) -> Any:
        told.append(text)
        return tell(text)

    db.tell = watched  # type: ignore[method-assign]
    return told


def _connection(store: Store) -> Connection:
    store.write(lambda tx: None)
    assert isinstance(store.session, PostgresWriter)
    return store.session.rows.db


FILL = """
INSERT INTO tasks (id, seq, status, queue, priority, ready_queue, wake_at, finished_at, doc)
SELECT n::text, n, CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'done' END, 'q' || n % 3, n % 5,
       CASE WHEN n % 10 = 0 THEN 'q' || n % 3 END, CASE WHEN n % 100 = 0 THEN '2026-01-01T' || n END,
       CASE WHEN n % 10 <> 0 THEN '2026-01-01T' || n END, '{}'
FROM generate_series(1, 20000) AS n;
ANALYZE tasks
"""

ASKED: dict[str, Callable[[Tx], object]] = {
    "ready": lambda tx: queries.ready(tx, "q1", 10),
    "next_wake": queries.next_wake,
    "page of all": lambda tx: pages.page_of_tasks(tx, after=10_000, limit=50),
    "page of a status": lambda tx: pages.page_of_tasks(tx, after=10_000, limit=50, statuses=[TaskStatus.PENDING]),
    "finished lately": lambda tx: pages.page_of_tasks(tx, finished_since=NOW - timedelta(days=365), limit=50),
    "occupying": queries.occupying,
    "ready before": lambda tx: queries.ready_before(tx, a_task(id="1", seq=100, queue="q1")),
    "one": lambda tx: tx[Tasks].get("77"),
}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_all_the_time_is_looked_up_in_an_index(
    pg: Server, name: str, store: Store, what: str, mode: str
) -> None:
    """Rule 3 of table.py, whose order of NULL is not PostgreSQL's own; F58."""
    pg.execute(name, FILL)
    db = _connection(store)
    asked: list[sql.Statement] = []

    def noted(text: str, values: Any) -> Any:
        asked.append((text, values))
        return Connection.ask(db, text, values)

    db.ask = noted  # type: ignore[method-assign]
    with suppress(Undecodable):  # the rows have no documents
        store.write(ASKED[what])
    plans = [_plan(db, mode, *statement) for statement in asked]
    assert plans
    for plan in plans:
        assert "Index" in plan
        assert "Seq Scan" not in plan
        assert "Sort" not in plan


def _plan(db: Connection, mode: str, text: str, values: Sequence[Any]) -> str:
    """As of a statement that the server keeps prepared."""
    numbered = re.sub("%s", lambda _, n=count(1): f"${next(n)}", text)  # type: ignore[misc]
    given = ", ".join(f"'{value}'" for value in values)
    db.tell(f"SET plan_cache_mode = {mode}; PREPARE asked AS {numbered}")
    rows = db.tell(f"EXPLAIN EXECUTE asked{f'({given})' if given else ''}").fetchall()
    db.tell("DEALLOCATE asked; RESET plan_cache_mode")
    return "\n".join(line for (line,) in rows)


# psycopg is there, or is not.


def test_psycopg_is_imported_where_a_store_is_in_postgresql_only() -> None:
    script = "import sys, polpod.daemon, polpod.maintenance.verbs; print('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_without_psycopg_it_says_what_to_install() -> None:
    script = """
import sys
sys.modules["psycopg"] = None
from polpod.errors import StoreError
from polpod.store.location import Postgres, open_sessions
from polpod.store.migrate import Schema
try:
    open_sessions(Postgres("postgresql://ann:hunter2@host/jobs"), Schema("test store", ()))
except StoreError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout.startswith("PostgreSQL needs psycopg and libpq: pip install 'polpod[postgres]', apt")
    assert "hunter2" not in ended.stdout
