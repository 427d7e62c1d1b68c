"""Making a backup fit for the state directory that it is put into, which may have gone on since (F54).

Rules:

1. Ids that were given since the backup are not given again: each is the name of a log, of files, of somebody's memory.
2. A run that was live in the backup is still live only if its runner is, here.  Of any other nobody knows what it did:
   it gets a boot id that no host has, so recovery calls it lost and signals nobody, whatever has its pid by now.  One
   whose task was not in progress with it yet never started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from polpod.errors import StoreError
from polpod.runner import contract
from polpod.store import queries
from polpod.store.copy import forget_copy
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.store.sqlite import Connection, SqliteRows, open_reader, translated

OTHER_BOOT = "restored from a backup"

Counters = tuple[str, int, int]
"""As `queries.counters`."""


def live_runs(path: str) -> dict[int, str]:
    """The runs that are live in this runs.db, with their nonces.  Raises StoreError."""
    with closing(open_reader(path)) as db, translated(path):
        return dict(db.execute("SELECT id, nonce FROM runs WHERE status IN ('starting','running')"))


def counters(path: str) -> Counters | None:
    """What this state.db has given; None where it cannot say, since it is damaged or not there."""
    try:
        with closing(open_reader(path)) as db, translated(path):
            return queries.counters(Tx(SqliteRows(db)))
    except StoreError:
        return None


def occupying(path: str) -> set[int]:
    """The runs that tasks of this state.db are in progress with.  Raises StoreError."""
    with closing(open_reader(path)) as db, translated(path):
        return {run_id for (run_id,) in db.execute("SELECT live_run FROM tasks WHERE live_run IS NOT NULL")}


def adapt_runs(path: str, living: Mapping[int, Mapping[str, Any]], accepted: set[int], last_run: int) -> None:
    """`living`: by run id, what the locks of runners that live say of them; `accepted`: as of `occupying`.

    Raises StoreError.
    """
    with closing(_open(path)) as db, translated(path):
        db.execute("BEGIN IMMEDIATE")
        for run_id, nonce in db.execute("SELECT id, nonce FROM runs WHERE status IN ('starting','running')").fetchall():
            if run_id in living:
                # It may have claimed its run after the backup was made; where it had before, this changes nothing.
                marks = {name: living[run_id].get(name) for name in contract.IDENTITY}
                db.execute(contract.CLAIM, {"id": run_id, "nonce": nonce, **marks})
            else:
                db.execute(
                    "UPDATE runs SET boot_id = ?, containment = 'session', cgroup = NULL WHERE id = ?",
                    (OTHER_BOOT, run_id),
                )
                if run_id not in accepted:
                    never = {"id": run_id, "error": "restored as of before its start", "ended_at": contract.timestamp()}
                    db.execute(contract.NEVER_STARTED, never)
        RunTx(db).never_below(last_run)
        db.execute("COMMIT")


def adapt_tasks(path: str, known: Iterable[Counters]) -> None:
    """Raises StoreError."""
    with closing(_open(path)) as db, translated(path):
        db.execute("BEGIN IMMEDIATE")
        tx = Tx(SqliteRows(db))
        forget_copy(tx)  # whoever restores says what counts
        for counted in known:
            queries.raise_counters(tx, *counted)
        db.execute("COMMIT")


def _open(path: str) -> Connection:
    """The copy as it is: bringing it to today's schema is the daemon's business, which makes a copy first."""
    db = Connection(path, isolation_level=None)
    db.path = path
    return db
