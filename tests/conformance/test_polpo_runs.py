"""Recorded runs, by the numbers of the list of behaviours (§13.4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from polpo_stores import Polpo, lasting, polpo
from store_makers import Maker

from polpod.errors import InvalidRequest
from polpod.model.polpo.runs import RecordedStatus, RunRecord, RunResult
from polpod.model.polpo.state import AgentActivity
from polpod.store.schema import TABLES

__all__ = ("lasting", "polpo")

WHEN = datetime(2030, 1, 1, tzinfo=UTC)
DONE = RunResult(exit_code=0, stdout="out", stderr="", duration=1.5, assessment={"passed": True})
RUN: dict[str, Any] = {
    "id": "r1", "task_id": "7", "pid": 42, "agent_name": "fixer", "started_at": WHEN, "config_path": "/c.json",
    "activity": {"tool_calls": 2, "session_id": "s1"}, "outcomes": [{"id": "o"}], "config": {"a": [1]},
}  # fmt: skip


def test_a_run_is_recorded_as_given(polpo: Polpo) -> None:
    """Polpo 37: running unless said; the session of its activity is its own."""
    run = polpo.runs.upsert_run(RUN)
    assert polpo.runs.get_run("r1") == run
    assert (run.task_id, run.pid, run.agent_name, run.status, run.started_at) == ("7", 42, "fixer", "running", WHEN)
    assert (run.session_id, run.activity) == ("s1", AgentActivity(tool_calls=2, session_id="s1"))
    assert (run.outcomes, run.config, run.result) == (({"id": "o"},), {"a": [1]}, None)
    bare = polpo.runs.upsert_run(id="r2", task_id="7", agent_name="x")
    assert (bare.pid, bare.config_path, bare.started_at) == (0, "", bare.updated_at)


def test_a_second_record_of_a_run_changes_what_may_change(polpo: Polpo) -> None:
    """Polpo 37: pid, session, status, activity, result, outcomes, config; the rest is as it was recorded first."""
    first = polpo.runs.upsert_run(RUN)
    again = {"id": "r1", "task_id": "8", "pid": 43, "agent_name": "other", "started_at": WHEN + timedelta(1),
             "config_path": "/d", "status": "failed", "result": DONE, "outcomes": [], "config": None}  # fmt: skip
    run = polpo.runs.upsert_run(again)
    kept = {"task_id": "7", "agent_name": "fixer", "started_at": WHEN, "config_path": "/c.json", "seq": first.seq}
    assert run == structs.replace(RunRecord(**again), **kept, updated_at=run.updated_at) == polpo.runs.get_run("r1")


@pytest.mark.parametrize("status", ["completed", "failed", "killed"])
def test_what_is_over_stays_as_it_ended(polpo: Polpo, status: str) -> None:
    """Polpo 41, defect P10: the first terminal write wins, and a late record does not bring a run back to life.

    W10.
    """
    polpo.runs.upsert_run(RUN)
    polpo.runs.complete_run("r1", status, DONE)
    ended = polpo.runs.get_run("r1")
    assert ended is not None
    assert (ended.status, ended.result, ended.over) == (status, DONE, True)
    assert polpo.runs.upsert_run(RUN) == ended
    for late in ("completed", "failed", "killed"):
        polpo.runs.complete_run("r1", late, RunResult(exit_code=9))
    assert polpo.runs.get_run("r1") == ended
    assert polpo.runs.get_active_runs() == []
    polpo.runs.upsert_run(id="r2", task_id="7", agent_name="x", status=status, result=DONE)
    assert polpo.runs.upsert_run(id="r2", task_id="7", agent_name="x").status == status


def test_a_run_ends_in_one_of_three_ways(polpo: Polpo) -> None:
    polpo.runs.upsert_run(RUN)
    for wrong in ("running", "asleep"):
        with pytest.raises(InvalidRequest, match="status"):
            polpo.runs.complete_run("r1", wrong)
    with pytest.raises(InvalidRequest, match="duration"):
        polpo.runs.complete_run("r1", "failed", {"duration": -1})
    polpo.runs.complete_run("r1", "failed", {"exit_code": 3})
    found = polpo.runs.get_run("r1")
    assert found is not None
    assert found.result == RunResult(exit_code=3)


def test_the_run_of_a_task_is_the_one_that_started_last(polpo: Polpo) -> None:
    """Polpo 38, defect P22: on every backend; of two that started at one instant, the one recorded last."""
    assert polpo.runs.get_run_by_task_id("7") is None
    for name, started in (("b", WHEN), ("a", WHEN - timedelta(1)), ("c", WHEN), ("d", WHEN - timedelta(2))):
        polpo.runs.upsert_run(RUN | {"id": name, "started_at": started})
    polpo.runs.upsert_run(RUN | {"id": "z", "task_id": "8", "started_at": WHEN + timedelta(1)})
    newest = polpo.runs.get_run_by_task_id("7")
    assert newest is not None
    assert newest.id == "c"


def test_runs_are_listed_by_whether_they_are_over(polpo: Polpo) -> None:
    """Polpo 39, 40, 44: in the order in which they were recorded."""
    assert (polpo.runs.get_active_runs(), polpo.runs.get_terminal_runs()) == ([], [])
    for status in RecordedStatus:
        for name in "ba":
            polpo.runs.upsert_run(RUN | {"id": name + status, "status": status})
    assert [run.id for run in polpo.runs.get_active_runs()] == ["brunning", "arunning"]
    assert [run.id for run in polpo.runs.get_terminal_runs()] == [
        "bcompleted", "acompleted", "bfailed", "afailed", "bkilled", "akilled",
    ]  # fmt: skip


def test_activity_and_outcomes_are_noted(polpo: Polpo) -> None:
    """Polpo 42: the session is lifted to the record; also of a run that is over; nothing else changes."""
    run = polpo.runs.upsert_run(RUN)
    polpo.runs.complete_run("r1", "completed", DONE)
    polpo.runs.update_activity("r1", {"last_tool": "bash", "session_id": "s2"})
    polpo.runs.update_outcomes("r1", [{"id": "p"}, {"id": "q"}])
    noted = polpo.runs.get_run("r1")
    assert noted is not None
    expected = {"activity": AgentActivity(last_tool="bash", session_id="s2"), "session_id": "s2", "result": DONE}
    expected |= {"outcomes": ({"id": "p"}, {"id": "q"}), "status": RecordedStatus.COMPLETED}
    assert noted == structs.replace(run, **expected, updated_at=noted.updated_at)
    polpo.runs.update_activity("r1", AgentActivity())
    kept = polpo.runs.get_run("r1")
    assert kept is not None
    assert kept.session_id == "s2"


def test_a_run_that_is_not_known(polpo: Polpo) -> None:
    """Polpo 44: no error to note something of it, to end or to delete it, and nothing is made by that."""
    polpo.runs.update_activity("x", AgentActivity())
    polpo.runs.update_outcomes("x", [])
    polpo.runs.complete_run("x", "failed", DONE)
    polpo.runs.delete_run("x")
    assert polpo.runs.get_run("x") is None
    assert polpo.runs.get_terminal_runs() == []


def test_a_deleted_run_is_gone(polpo: Polpo) -> None:
    """Polpo 43."""
    polpo.runs.upsert_run(RUN)
    polpo.runs.delete_run("r1")
    assert (polpo.runs.get_run("r1"), polpo.runs.get_run_by_task_id("7")) == (None, None)


def test_recorded_runs_are_there_for_another_that_opens_the_store(lasting: Maker, tmp_path: Path) -> None:
    """Polpo 44."""
    stores = Polpo(lasting(tmp_path, TABLES))
    run = stores.runs.upsert_run(RUN)
    stores.close()
    again = Polpo(lasting(tmp_path, TABLES))
    kept = again.runs.get_active_runs()
    again.close()
    assert kept == [run]


def test_what_is_wrong_with_a_run_is_named(polpo: Polpo) -> None:
    wrongs: list[dict[str, Any]] = [{"id": ""}, {"pid": -1}, {"status": "lost"}, {"seq": "x"}, {"nonce": "n"}]
    for wrong in wrongs:
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            polpo.runs.upsert_run(RUN | wrong)
