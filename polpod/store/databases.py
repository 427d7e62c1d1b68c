"""The two databases of a state directory, as their users see them.

`open_gate(location, TASKS)` and `open_gate(Sqlite(path), RUNS)` open them.
"""

from __future__ import annotations

from polpod.model.events import Event
from polpod.store.group import Kind
from polpod.store.migrate import Schema, released_scripts
from polpod.store.quarantine import set_aside
from polpod.store.records import Tx
from polpod.store.runs import SCRIPTS, RunTx
from polpod.store.schema import TABLES
from polpod.store.session import Session
from polpod.store.sqlite_session import SqliteSession


def _begin(session: Session) -> Tx:
    return Tx(session.rows)


def _begin_runs(session: SqliteSession) -> RunTx:
    return RunTx(session.db)


def _end(tx: Tx) -> tuple[Event, ...]:
    tx.close()
    return tuple(entry for entry in tx.appended if isinstance(entry, Event))


def _end_of_runs(tx: RunTx) -> tuple[Event, ...]:
    return ()


TASKS: Kind[Tx] = Kind(
    Schema("task store", released_scripts("sqlite"), released_scripts("postgres"), TABLES), _begin, _end, set_aside
)
RUNS: Kind[RunTx] = Kind(Schema("run store", SCRIPTS), _begin_runs, _end_of_runs)
