"""Missions, and where their checkpoints and delays stand, by the numbers of the list of behaviours (§13.2, §13.3, §13.8)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import UNSET, structs
from polpo_stores import Polpo, polpo

from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.polpo.missions import (
    ActiveCheckpoint,
    ActiveDelay,
    Checkpoint,
    CheckpointState,
    Delay,
    DelayState,
    Mission,
    MissionStatus,
)
from polpod.store.polpo import Missions

__all__ = ("polpo",)

WHEN = datetime(2030, 1, 1, tzinfo=UTC)
DATA = '{"tasks": [{"title": "a"}]}'


def test_a_mission_is_stored_as_given(polpo: Polpo) -> None:
    """Polpo 27, 29: id and times are made; draft and without a prompt unless said.  §13.160."""
    saved = polpo.tasks.save_mission({"name": "release", "data": DATA}, prompt="go", quality_threshold=4)
    assert (saved.name, saved.data, saved.prompt, saved.quality_threshold) == ("release", DATA, "go", 4.0)
    assert (saved.status, saved.execution_count, saved.created_at) == (MissionStatus.DRAFT, 0, saved.updated_at)
    assert polpo.tasks.get_mission(saved.id) == saved == polpo.tasks.get_mission_by_name("release")
    assert polpo.tasks.save_mission(name="other", data=DATA, status="scheduled").prompt is None
    first = polpo.events()[0]
    assert (first.kind, first.subject) == ("mission:saved", f"mission/{saved.id}")
    assert first.body == {"name": "release", "status": "draft", "by": "TaskStore"}


def test_names_of_missions_are_unique(polpo: Polpo) -> None:
    """Polpo 30: on every backend (defect P4b), at saving and at renaming."""
    first = polpo.tasks.save_mission(name="a", data=DATA)
    second = polpo.tasks.save_mission(name="b", data=DATA)
    for refused in (
        lambda: polpo.tasks.save_mission(name="a", data=DATA),
        lambda: polpo.tasks.update_mission(second.id, name="a"),
    ):
        with pytest.raises(Conflict, match=f"mission {first.id} has the name 'a' already"):
            refused()
    assert polpo.tasks.get_all_missions() == [second, first]
    assert polpo.tasks.update_mission(first.id, name="a", data="{}").data == "{}"


def test_a_mission_that_is_not_there(polpo: Polpo) -> None:
    """Polpo 31, 33, 34."""
    assert polpo.tasks.get_mission("1") is None
    assert polpo.tasks.get_mission_by_name("x") is None
    assert polpo.tasks.delete_mission("1") is False
    with pytest.raises(NotFound, match="not found"):
        polpo.tasks.update_mission("1", name="x")


def test_all_missions_come_newest_first(polpo: Polpo) -> None:
    """Polpo 32: also those that were made at one instant."""
    saved = [polpo.tasks.save_mission(data=DATA) for _ in range(12)]

    def same_instant(tx: Any) -> None:
        for mission in saved:
            tx[Missions].save(structs.replace(mission, created_at=WHEN, updated_at=WHEN))

    polpo.write(same_instant)
    assert [mission.id for mission in polpo.tasks.get_all_missions()] == [mission.id for mission in saved][::-1]


FIELDS: dict[str, Any] = {
    "prompt": "p", "status": MissionStatus.ACTIVE, "deadline": WHEN, "schedule": "0 4 * * *", "end_date": WHEN,
    "quality_threshold": 4.5, "notifications": {"rules": [{"id": "r"}]}, "execution_count": 3, "created_by": 1000, "workflow_id": "w",
}  # fmt: skip


@pytest.mark.parametrize("unset", [None, UNSET])
def test_every_field_of_a_mission_is_changed_and_cleared(polpo: Polpo, unset: Any) -> None:
    """Polpo 33, defect P5 (a schedule could not be cleared)."""
    for field, sample in FIELDS.items():
        mission = polpo.tasks.save_mission(name=field, data=DATA)
        changed = polpo.tasks.update_mission(mission.id, {field: sample})
        expected = {field: sample, "version": 2, "updated_at": changed.updated_at}
        assert changed == structs.replace(mission, **expected) == polpo.tasks.get_mission(mission.id)
        cleared = polpo.tasks.update_mission(mission.id, {field: unset})
        assert getattr(cleared, field) == getattr(mission, field) != sample


def test_there_is_a_sample_of_each_field_of_a_mission() -> None:
    made = {"id", "seq", "version", "created_at", "updated_at", "name", "data"}
    assert set(FIELDS) == set(Mission.__struct_fields__) - made


def test_what_is_wrong_with_a_mission_is_named(polpo: Polpo) -> None:
    mission = polpo.tasks.save_mission(name="a", data=DATA)
    wrongs: list[dict[str, Any]] = [
        {"id": "2"}, {"seq": 1}, {"colour": 1}, {"name": ""}, {"data": None}, {"status": "asleep"}
    ]  # fmt: skip
    for wrong in wrongs:
        for refused in (
            lambda: polpo.tasks.update_mission(mission.id, wrong),
            lambda: polpo.tasks.save_mission({"name": "b", "data": DATA} | wrong),
        ):
            with pytest.raises(InvalidRequest, match=next(iter(wrong))):
                refused()
    assert polpo.tasks.get_all_missions() == [mission]


def test_a_deleted_mission_is_gone(polpo: Polpo) -> None:
    """Polpo 34: its tasks stay, and its id is not given again."""
    mission = polpo.tasks.save_mission(name="a", data=DATA)
    task = polpo.tasks.add_task(title="t", mission_id=mission.id)
    assert polpo.tasks.delete_mission(mission.id) is True
    assert polpo.tasks.delete_mission(mission.id) is False
    assert (polpo.tasks.get_all_missions(), polpo.tasks.get_all_tasks()) == ([], [task])
    assert polpo.tasks.save_mission(name="a", data=DATA).id != mission.id
    assert polpo.kinds() == ["mission:saved", "task:created", "mission:deleted", "mission:saved"]


def test_the_next_name_is_one_past_the_highest(polpo: Polpo) -> None:
    """Polpo 28, 35: also after one was deleted, where a count would collide."""
    assert polpo.tasks.next_mission_name() == "mission-1"
    assert polpo.tasks.save_mission(data=DATA).name == "mission-1"
    fifth = polpo.tasks.save_mission(name="mission-5", data=DATA)
    for name in ("mission-x", "mission-", "a mission-9", "mission-7 b"):
        polpo.tasks.save_mission(name=name, data=DATA)
    assert polpo.tasks.next_mission_name() == "mission-6"
    polpo.tasks.delete_mission(fifth.id)
    assert polpo.tasks.next_mission_name() == "mission-2"


@pytest.mark.parametrize("way", [("active", "completed"), ("active", "failed"), ("active", "cancelled")])
def test_what_becomes_of_a_mission_is_stored(polpo: Polpo, way: tuple[str, ...]) -> None:
    """Polpo 36: with the journal row of each change."""
    mission = polpo.tasks.save_mission(name="a", data=DATA)
    for status in way:
        assert polpo.tasks.update_mission(mission.id, status=status).status == status
    moves = [(e.body["from"], e.body["to"]) for e in polpo.events() if e.kind == "mission:updated"]
    assert moves == [("draft", "active"), ("active", way[1])]


# Checkpoints and delays.

STOP = Checkpoint(name="stop", after_tasks=("a",), blocks_tasks=("b",), message="look", notify_channels=("ops",))
PAUSE = Delay(name="pause", after_tasks=("a",), blocks_tasks=("b",), duration="PT2H")
CHECKPOINTS = CheckpointState(
    definitions={"a": (STOP,), "a:b": (STOP,)},
    active={"a": {"stop": ActiveCheckpoint(checkpoint=STOP, reached_at=WHEN)}, "a:b": {}},
    resumed={"a": ("stop",), "a:b": ("stop",)},
)
DELAYS = DelayState(
    definitions={"a": (PAUSE,), "a:b": (PAUSE,)},
    active={"a:b": {"pause": ActiveDelay(delay=PAUSE, started_at=WHEN, expires_at=WHEN)}},
    expired={"a": ("pause",)},
)


def test_nothing_stands_before_anything_was_saved(polpo: Polpo) -> None:
    """Polpo 73."""
    assert polpo.checkpoints.load() == CheckpointState(definitions={}, active={}, resumed={})
    assert polpo.delays.load() == DelayState(definitions={}, active={}, expired={})


def test_where_checkpoints_and_delays_stand_is_kept(polpo: Polpo) -> None:
    """Polpo 74; W32: on every backend, where Polpo's file backend kept them in memory alone (P18)."""
    polpo.checkpoints.save(CHECKPOINTS)
    polpo.delays.save(DELAYS)
    assert (polpo.checkpoints.load(), polpo.delays.load()) == (CHECKPOINTS, DELAYS)
    polpo.checkpoints.save(CheckpointState())
    assert (polpo.checkpoints.load(), polpo.delays.load()) == (CheckpointState(), DELAYS)


def test_a_group_goes_and_no_other_that_begins_like_it(polpo: Polpo) -> None:
    """Polpo 75."""
    polpo.checkpoints.save(CHECKPOINTS)
    polpo.delays.save(DELAYS)
    left = polpo.checkpoints.remove_group("a")
    assert left == CheckpointState(definitions={"a:b": (STOP,)}, active={"a:b": {}}, resumed={"a:b": ("stop",)})
    assert polpo.checkpoints.load() == left == polpo.checkpoints.remove_group("c")
    assert polpo.delays.remove_group("a") == DelayState(definitions={"a:b": (PAUSE,)}, active=DELAYS.active)
    assert polpo.delays.remove_group("a:b") == DelayState() == polpo.delays.load()
