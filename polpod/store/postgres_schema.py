"""Bringing a PostgreSQL database to the schema that this code knows (DESIGN §8), and keeping it for one polpod at a time.

Rules:

1. `polpod_schema` has one row: the version, which says how many scripts were carried out, and the mark of the last
   commit (postgres_session.py).  All missing steps are one transaction.
2. Names are not qualified: `search_path` says which schema of the database is meant.  Other programs may have tables
   there; where one has a name of ours, nothing is touched.
3. Who writes holds a lock for as long as its connection lives.
"""

from __future__ import annotations

from psycopg.errors import DuplicateTable, LockNotAvailable

from polpod.errors import SchemaTooNew, StoreError, Unavailable
from polpod.store.migrate import Schema
from polpod.store.postgres import Connection
from polpod.store.schema import TABLES

LOCK_TIMEOUT = 1.0
"""Seconds that are waited for one whose connection is just ending."""

MUCH = 2**20
"""Bytes of a table from which on its statistics matter."""

_LOCK = """
    SET lock_timeout = {milliseconds};
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = '{name}' AND usename = current_user AND pid <> pg_backend_pid();
    SELECT pg_advisory_lock(hashtextextended('polpod/' || coalesce(
        (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('polpod_schema')),
        current_schema()), 0));
    RESET lock_timeout
"""


def lock(db: Connection, name: str) -> None:
    """Take the lock (rule 3), if need be from an older connection of this `name`, of which we do not know the end.

    Raises Unavailable: another polpod has it.
    """
    try:
        db.tell(_LOCK.format(milliseconds=int(LOCK_TIMEOUT * 1000), name=name))
    except Unavailable as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise Unavailable(f"{db.where}: another polpod uses this database") from error
        raise


def prepare(db: Connection, schema: Schema) -> None:
    """Check the version, and take every step that is missing.  `db` has the lock; where it fails, it has to be closed.

    Raises SchemaTooNew, StoreError (another program's tables are in the way), DiskFull, Unavailable.
    """
    row = db.tell("SELECT current_schema(), to_regclass('polpod_schema') IS NOT NULL").fetchone()
    assert row is not None
    current, ours = row
    if current is None:
        raise StoreError(f"{db.where}: its search_path names no schema that is there for this user")
    version = _version(db) if ours else None
    newest = len(schema.for_postgres)
    if version == newest:
        return
    if version is not None and version > newest:
        raise SchemaTooNew(f"{db.where}: written by a later polpod: schema {version}, and this one knows {newest}")
    patience, db.patience = db.patience, None
    try:
        _migrate(db, schema, version)
    except StoreError as error:
        if isinstance(error.__cause__, DuplicateTable):
            raise StoreError(
                f"{error}, and is not polpod's; nothing was changed: give polpod a database of its own, or a schema"
                " (?options=-csearch_path=NAME)"
            ) from error
        raise
    db.patience = patience


_UNSEEN = f"""
    SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
    WHERE oid IN ({", ".join(f"to_regclass('{table.name}')" for table in TABLES)})
        AND reltuples <= 0 AND pg_relation_size(oid) > {MUCH}
"""


def survey(db: Connection) -> None:
    """Have the server look at tables that it knows nothing of, as after a copy or a restore: until it did by itself, in a
    minute or never, it would sort half a table for each page of a list.  Raises Unavailable, StoreError.
    """
    ((unseen,),) = db.tell(_UNSEEN).fetchall()
    if unseen is None:
        return
    patience, db.patience = db.patience, None
    for step in ("BEGIN", "SET LOCAL statement_timeout = 0", f"ANALYZE (SKIP_LOCKED) {unseen}", "COMMIT"):
        db.tell(step)
    db.patience = patience


def _version(db: Connection) -> int:
    rows = db.tell("SELECT version FROM polpod_schema").fetchall()
    if len(rows) != 1:
        raise StoreError(f"{db.where}: not a task store: polpod_schema has {len(rows)} rows")
    return int(rows[0][0])


def _migrate(db: Connection, schema: Schema, version: int | None) -> None:
    steps = ["BEGIN", "SET LOCAL statement_timeout = 0"]
    if version is None:
        steps += [
            "CREATE TABLE polpod_schema (version INTEGER NOT NULL, mark BIGINT NOT NULL)",
            "INSERT INTO polpod_schema VALUES (0, 0)",
        ]
    steps += schema.for_postgres[version or 0 :]
    steps += [f"UPDATE polpod_schema SET version = {len(schema.for_postgres)}", "COMMIT"]
    for step in steps:
        db.tell(step)
