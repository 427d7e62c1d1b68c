"""The RunStore as the daemon sees it: the rows of runs.db, by the frozen statements of runner/contract.py.

Rules:

1. What a runner may do too is spelled in the contract and nowhere else; here are the daemon's own statements.
2. Each change of a live row is one compare-and-set; False says that somebody else decided first.
3. A row that does not decode is left out of a list and named in `quarantined`; the others are not hurt (F10).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from polpod.errors import StoreError
from polpod.model.runs import Phase, Run, RunStatus
from polpod.runner import contract
from polpod.store.sqlite import Connection, translated

SCRIPTS = contract.MIGRATIONS

_FIELDS = Run.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM runs"

_LIVE = "status IN ('starting','running')"
_BY_LIVE = f"INDEXED BY runs_one_live WHERE {_LIVE}"
"""SQLite would read the whole table to get the order of ids for nothing."""
_ENDED = f"NOT {_LIVE}"
_IN = "id IN (SELECT value FROM json_each(:ids))"


class NewRun(Struct, frozen=True, kw_only=True):
    """What the launcher knows of a run before it has an id; the fields are those of model.runs.Run."""

    task_id: str
    attempt: int
    phase: Phase = Phase.EXECUTION
    queue: str
    agent: str | None = None
    nonce: str
    token_hash: str
    created_at: str
    boot_id: str
    claim_until_mono: int
    containment: str
    max_duration: float | None = None
    stale_threshold: float | None = None


class Place(Struct, frozen=True):
    """What is named by a run's id."""

    log_path: str
    cgroup: str | None = None
    command: str | None = None


_NEW = ("id", *NewRun.__struct_fields__, *Place.__struct_fields__)
_INSERT = f"INSERT INTO runs (status, {', '.join(_NEW)}) VALUES ('starting', {', '.join(f':{name}' for name in _NEW)})"


class RunTx:
    """One transaction on runs.db.  Raises StoreError, DiskFull, Unavailable."""

    def __init__(self, db: Connection) -> None:
        self.quarantined: list[tuple[int, str]] = []
        """Rows that were left out of a list: id, and what is wrong."""
        self._db = db

    def insert(self, new: NewRun, place: Callable[[int], Place]) -> int:
        """Store a run in status starting; `place` names its files by its id, which is returned and never used again.

        Raises AlreadyExists if its task has a live run.
        """
        (last,) = self._execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'runs'").fetchone()
        run_id = (last or 0) + 1
        values = {"id": run_id, **msgspec.structs.asdict(new), **msgspec.structs.asdict(place(run_id))}
        self._execute(_INSERT, values)
        return run_id

    def never_below(self, run_id: int) -> None:
        """New runs get ids above this one, whatever the table has been through (an older backup, a power cut)."""
        if (
            self._execute("UPDATE sqlite_sequence SET seq = max(seq, :id) WHERE name = 'runs'", {"id": run_id}).rowcount
            == 0
        ):
            self._execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', :id)", {"id": run_id})

    def get(self, run_id: int) -> Run | None:
        """Raises StoreError if the row does not decode."""
        row = self._execute(f"{_SELECT} WHERE id = :id", {"id": run_id}).fetchone()
        return None if row is None else _decode(row)

    def many(self, run_ids: Iterable[int]) -> list[Run]:
        """Those of the runs that are there, in the order of their ids."""
        return self._list(f"WHERE {_IN} ORDER BY id", {"ids": json.dumps(list(run_ids))})

    def of_task(self, task_id: str) -> list[Run]:
        """Oldest first."""
        return self._list("WHERE task_id = :task_id ORDER BY id", {"task_id": task_id})

    def newest(self, task_id: str) -> Run | None:
        """Raises StoreError if the row does not decode."""
        row = self._execute(
            f"{_SELECT} WHERE task_id = :task_id ORDER BY id DESC LIMIT 1", {"task_id": task_id}
        ).fetchone()
        return None if row is None else _decode(row)

    def newest_of(self, task_id: str, phase: Phase) -> Run | None:
        """The task's newest run that carried this out."""
        rest = "WHERE task_id = :task_id AND phase = :phase ORDER BY id DESC LIMIT 1"
        return next(iter(self._list(rest, {"task_id": task_id, "phase": phase})), None)

    def next_of(self, task_id: str, after: int) -> Run | None:
        """The task's oldest run later than the run `after`."""
        rest = "WHERE task_id = :task_id AND id > :after ORDER BY id LIMIT 1"
        return next(iter(self._list(rest, {"task_id": task_id, "after": after})), None)

    def awaits_collection(self, task_id: str, after: int) -> bool:
        """Whether a run of the task, later than the run `after`, is over and its outcome perhaps not applied yet."""
        query = f"SELECT 1 FROM runs WHERE task_id = :task_id AND id > :after AND collected_at IS NULL AND {_ENDED}"
        return self._execute(f"{query} LIMIT 1", {"task_id": task_id, "after": after}).fetchone() is not None

    def live(self) -> list[Run]:
        return self._list(f"{_BY_LIVE} ORDER BY id")

    def newest_open(self) -> int:
        """The last run that lives, or waits for its collection; 0 if none does."""
        return max((run.id for run in (*self.live(), *self.uncollected())), default=0)

    def uncollected(self) -> list[Run]:
        """Runs that ended and whose outcome is perhaps not applied yet."""
        return self._list(f"WHERE collected_at IS NULL AND {_ENDED} ORDER BY id")

    def page(
        self,
        *,
        task_id: str | None = None,
        statuses: Iterable[RunStatus] | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Newest first, from the run before the id `before`; of a task, or in one of these statuses, where given."""
        terms: list[str] = []
        values: dict[str, object] = {"limit": limit}
        if task_id is not None:
            terms.append("task_id = :task_id")
            values["task_id"] = task_id
        if statuses is not None:
            # The unary plus keeps to the order of ids: a page is read from its end, whatever the statuses.
            terms.append("+status IN (SELECT value FROM json_each(:statuses))")
            values["statuses"] = json.dumps(list(statuses))
        if before is not None:
            terms.append("id < :before")
            values["before"] = before
        where = f"WHERE {' AND '.join(terms)} " if terms else ""
        return self._list(f"{where}ORDER BY id DESC LIMIT :limit", values)

    def last_task_id(self) -> str:
        """The largest number that is the id of a task with a run; reads an index: for the start of the daemon."""
        query = (
            "SELECT max(CAST(task_id AS INTEGER)) FROM runs"
            " WHERE task_id GLOB '[1-9]*' AND NOT task_id GLOB '*[^0-9]*' AND length(task_id) <= 18"
        )
        (number,) = self._execute(query).fetchone()
        return str(number or 0)

    def count(self) -> int:
        (number,) = self._execute("SELECT count(*) FROM runs").fetchone()
        return int(number)

    def collected_after(self, after: int, limit: int) -> list[Run]:
        """Runs that are over and applied, past the id `after`, oldest first."""
        rest = "WHERE id > :after AND collected_at IS NOT NULL ORDER BY id LIMIT :limit"
        return self._list(rest, {"after": after, "limit": limit})

    def with_open_runs(self, task_ids: Iterable[str]) -> set[str]:
        """Those of the tasks that have a run which is live, or whose outcome is not applied."""
        query = "SELECT task_id FROM runs WHERE task_id IN (SELECT value FROM json_each(:ids)) AND collected_at IS NULL"
        return {task_id for (task_id,) in self._found(query, {"ids": json.dumps(list(task_ids))})}

    def forget(self, run_ids: Iterable[int]) -> Counter[str]:
        """Remove rows of runs that are collected.  Returns how many went, by status."""
        statement = f"DELETE FROM runs WHERE {_IN} AND collected_at IS NOT NULL RETURNING status"
        rows = self._found(statement, {"ids": json.dumps(list(run_ids))})
        return Counter(status for (status,) in rows)

    def count_collected(self) -> Counter[str]:
        """Runs that are over and applied, by status.  Reads the whole table: for the start of the daemon."""
        query = "SELECT status, count(*) FROM runs WHERE collected_at IS NOT NULL GROUP BY status"
        return Counter(dict(self._found(query)))

    def never_started(self, run_id: int, error: str, at: str) -> bool:
        """starting → lost: from now on no runner can claim it."""
        return self._set(contract.NEVER_STARTED, {"id": run_id, "error": error, "ended_at": at})

    def lost(self, run_id: int, error: str, at: str) -> bool:
        """running → lost; only after its runner's death was proven and both witnesses were read again (DESIGN §6)."""
        return self._set(contract.LOST, {"id": run_id, "error": error, "ended_at": at})

    def finish(self, payload: Mapping[str, Any]) -> bool:
        """running → the outcome in `payload` (`id`, `nonce` and contract.OUTCOME), if the nonce is the run's."""
        return self._set(contract.FINISH, payload)

    def request_kill(self, run_id: int, *, reason: str, by: str, at: str, mono: int, boot: str, grace: float) -> bool:
        """Write the kill row of a live run; the first wins.  `mono` is nanoseconds in boot `boot`, `grace` seconds."""
        values = {
            "id": run_id,
            "kill_reason": reason,
            "kill_by": by,
            "kill_at": at,
            "kill_mono": mono,
            "kill_boot": boot,
            "kill_grace": grace,
        }
        return self._set(contract.REQUEST_KILL, values)

    def heartbeat(self, run_ids: Iterable[int], at: str) -> None:
        """The runs did something lately: the daemon's word for them, `at` being when it looked."""
        self._mark(f"UPDATE runs SET heartbeat_at = :at, activity_at = :at WHERE {_IN} AND {_LIVE}", run_ids, at)

    def mark_seen(self, run_ids: Iterable[int], at: str) -> None:
        """A write that changes bytes, so that at FULL it makes the runners' own records durable (DESIGN §6, step 5)."""
        self._mark(f"UPDATE runs SET seen_at = :at WHERE {_IN}", run_ids, at)

    def mark_collected(self, run_ids: Iterable[int], at: str) -> Counter[str]:
        """The outcomes are applied.  Returns how many runs this is new for, by status."""
        statement = (
            f"UPDATE runs SET collected_at = :at WHERE {_IN} AND {_ENDED} AND collected_at IS NULL RETURNING status"
        )
        rows = self._found(statement, {"ids": json.dumps(list(run_ids)), "at": at})
        return Counter(status for (status,) in rows)

    def _mark(self, statement: str, run_ids: Iterable[int], at: str) -> None:
        self._execute(statement, {"ids": json.dumps(list(run_ids)), "at": at})

    def _set(self, statement: str, values: Mapping[str, Any]) -> bool:
        return self._execute(statement, values).rowcount == 1

    def _list(self, rest: str, values: Mapping[str, object] = {}) -> list[Run]:
        runs = []
        for row in self._found(f"{_SELECT} {rest}", values):
            try:
                runs.append(_decode(row))
            except StoreError as error:
                self.quarantined.append((row[0], str(error)))
        return runs

    def _execute(self, statement: str, values: Mapping[str, Any] = {}) -> sqlite3.Cursor:
        with translated(self._db.path):
            return self._db.execute(statement, values)

    def _found(self, statement: str, values: Mapping[str, Any] = {}) -> list[Any]:
        with translated(self._db.path):  # a damaged page is met at the row that lies on it (F53)
            return self._db.execute(statement, values).fetchall()


def _decode(row: tuple[object, ...]) -> Run:
    try:
        run = msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Run)
        for instant in (run.created_at, run.started_at, run.ended_at):
            if instant is not None:
                contract.require_timestamp(instant)
    except (msgspec.ValidationError, ValueError) as error:
        raise StoreError(f"run {row[0]} does not decode: {error}") from error
    return run
