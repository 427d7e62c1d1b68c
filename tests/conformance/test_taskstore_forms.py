"""How the methods of Polpo's stores may be called, and what they refuse on every backend."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from polpo_stores import Polpo, polpo

from polpod.errors import InvalidRequest, StoreError
from polpod.taskstore import open_task_store

__all__ = ("polpo",)


def test_arguments_may_be_named_as_the_page_names_them(polpo: Polpo) -> None:
    store = polpo.tasks
    task = store.add_task(task={"title": "a"})
    assert store.update_task(task_id=task.id, updates={"title": "b"}).title == "b"
    assert store.transition(task_id=task.id, new_status="in_progress" if task.status == "assigned" else "assigned")
    assert store.unsafe_set_status(task_id=task.id, new_status="pending", reason="r").status == "pending"
    assert store.remove_tasks(filter=lambda task: task.title == "b") == 1
    store.set_state(partial={"project": "p"})
    assert store.get_state().project == "p"
    mission = store.save_mission(mission={"data": "{}", "prompt": "p"})
    assert store.update_mission(mission_id=mission.id, updates={"prompt": "q"}).prompt == "q"
    run = polpo.runs.upsert_run(run={"id": "r", "task_id": "1", "pid": 1, "agent_name": "a"})
    assert polpo.runs.get_run(run_id=run.id) == run


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"], ids=["nul", "surrogate"])
@pytest.mark.parametrize(
    "asked",
    [
        "tasks.get_task",
        "tasks.remove_task",
        "tasks.get_mission_by_name",
        "tasks.delete_mission",
        "runs.get_run_by_task_id",
        "sessions.get_messages",
        "memory.get",
        "logs.get_session_entries",
        "notifications.list_by_channel",
        "approvals.list_by_task",
    ],
)
def test_an_id_that_no_store_can_have_is_invalid(polpo: Polpo, asked: str, bad: str) -> None:
    with pytest.raises(InvalidRequest):
        attrgetter(asked)(polpo)(bad)


@pytest.mark.parametrize("number", [-1, 2**70])
def test_any_number_of_records_may_be_wanted(polpo: Polpo, number: int) -> None:
    polpo.notifications.append({"channel": "c", "rule_id": "r", "status": "sent"})
    listed = [] if number < 0 else ["c"]
    assert [record.channel for record in polpo.notifications.list(number)] == listed
    assert polpo.notifications.prune(number) == 1 - len(listed)
    assert polpo.sessions.get_recent_messages("1", number) == []


def test_a_filter_that_uses_the_store_is_told_so_and_waits_for_nobody(tmp_path: Path) -> None:
    with open_task_store(tmp_path) as store:
        task = store.add_task(title="a")
        with pytest.raises(StoreError, match="must not use the store"):
            store.remove_tasks(lambda task: store.get_task(task.id) is not None)
        assert store.get_all_tasks() == [task]


@pytest.mark.parametrize("bad", [None, 5, {"active": 1}])
def test_what_is_no_state_is_not_stored_in_its_place(polpo: Polpo, bad: Any) -> None:
    for store in (polpo.checkpoints, polpo.delays):
        before = store.load()
        with pytest.raises(InvalidRequest):
            store.save(bad)
        assert store.load() == before
