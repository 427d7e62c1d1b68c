"""Recorded runs: functions of a transaction.

Rule: the first terminal write wins.  A run that is over stays as it ended, whoever comes late (P10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from polpod.contracts.taskstore import said
from polpod.errors import InvalidRequest
from polpod.model.entity import types_of
from polpod.model.polpo.runs import TERMINAL, RecordedStatus, RunRecord, RunResult
from polpod.model.polpo.state import AgentActivity
from polpod.store.polpo import RecordedRuns, next_number
from polpod.store.records import Tx

_KEPT = ("id", "task_id", "agent_name", "started_at", "config_path", "seq")
"""What a later `upsert_run` does not change."""


def upsert_run(tx: Tx, /, run: RunRecord | Mapping[str, object] | None = None, **fields: object) -> RunRecord:
    """Record a run, or what became of it; the record as it stands now.

    Of one that is known, `task_id`, `agent_name`, `started_at` and `config_path` stay; one that is over stays as it ended.
    Raises InvalidRequest, naming the field.
    """
    new = said.entity(RunRecord, said.fields(run, fields))
    known, at = tx[RecordedRuns].get(new.id), said.now()
    session_id = new.session_id or new.activity.session_id
    if known is None:
        started_at = new.started_at or at
        seq = next_number(tx, RecordedRuns, RecordedRuns.seq)
        new = structs.replace(new, started_at=started_at, updated_at=at, session_id=session_id, seq=seq)
    elif known.over:
        return known
    else:
        kept = {name: getattr(known, name) for name in _KEPT}
        new = structs.replace(new, **kept, updated_at=at, session_id=session_id)
    tx[RecordedRuns].save(new)
    return new


def update_activity(tx: Tx, run_id: str, activity: AgentActivity | Mapping[str, object]) -> None:
    """Note what the agent does, and its session where that says so; nothing for a run that is not known."""
    seen = said.entity(AgentActivity, said.fields(activity, {}))
    run = tx[RecordedRuns].get(run_id)
    if run is not None:
        _change(tx, run, activity=seen, session_id=seen.session_id or run.session_id)


def update_outcomes(tx: Tx, run_id: str, outcomes: Sequence[Mapping[str, object]]) -> None:
    """Replace what the run has made; nothing for a run that is not known."""
    made = said.value("outcomes", outcomes, types_of(RunRecord)["outcomes"])
    run = tx[RecordedRuns].get(run_id)
    if run is not None:
        _change(tx, run, outcomes=made)


def complete_run(tx: Tx, run_id: str, status: str, result: RunResult | Mapping[str, object] | None = None) -> None:
    """The run is over: completed, failed or killed.  Nothing for one that is over already, or not known."""
    ended = said.value("status", status, RecordedStatus)
    if ended not in TERMINAL:
        raise InvalidRequest(f"status: a run does not end as {status}", "$.status")
    how = None if result is None else said.entity(RunResult, said.fields(result, {}))
    run = tx[RecordedRuns].get(run_id)
    if run is not None and not run.over:
        _change(tx, run, status=ended, result=how)


def get_run(tx: Tx, run_id: str) -> RunRecord | None:
    """The run; None: there is none of that id."""
    return tx[RecordedRuns].get(run_id)


def get_run_by_task_id(tx: Tx, task_id: str) -> RunRecord | None:
    """The run of the task that started last; of those that started at one instant, the one recorded last."""
    newest = (RecordedRuns.started_at.desc(), RecordedRuns.seq.desc())
    found = tx[RecordedRuns].find(RecordedRuns.task_id.eq(task_id), order_by=newest, limit=1)
    return found[0] if found else None


def get_active_runs(tx: Tx) -> list[RunRecord]:
    """Those that are running, in the order in which they were recorded."""
    return tx[RecordedRuns].find(RecordedRuns.status.eq(RecordedStatus.RUNNING))


def get_terminal_runs(tx: Tx) -> list[RunRecord]:
    """Those that are over, in the order in which they were recorded."""
    return tx[RecordedRuns].find(RecordedRuns.status.is_in(sorted(TERMINAL)))


def delete_run(tx: Tx, run_id: str) -> None:
    """Forget the run, if it is known."""
    tx[RecordedRuns].delete(run_id)


def _change(tx: Tx, run: RunRecord, **values: Any) -> None:
    at: datetime = said.now()
    tx[RecordedRuns].save(structs.replace(run, **values, updated_at=at))
