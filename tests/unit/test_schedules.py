"""Schedules as rows: what is stored when a time comes, when an execution ends, and when somebody changes something."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kit.samples import task_store

from polpod.config import Config
from polpod.contracts.taskstore import missions as contract
from polpod.errors import Conflict, InvalidRequest, NotFound, RequestError
from polpod.model.events import Event
from polpod.model.executions import Execution
from polpod.model.polpo.missions import Mission
from polpod.model.schedules import Schedule
from polpod.model.tasks import TaskStatus
from polpod.rules.tasks import walk
from polpod.services import timezones
from polpod.services.missions import control, firing, scheduling, settling
from polpod.services.missions.executing import execute
from polpod.services.missions.planning import checked, plan
from polpod.services.missions.preparing import Prepared
from polpod.services.missions.scheduling import Wanted
from polpod.store import changes, schedules
from polpod.store.group import GroupCommit
from polpod.store.missions import Executions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.schedules import Schedules
from polpod.store.tables import Events, Tasks

X = TypeVar("X")
S = TaskStatus
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=1)
NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + 24 * HOUR
"""Of some day; schedules are set an hour and a half before."""
DOCUMENT = json.dumps({"tasks": [{"title": "a", "command": ["true"]}]})
HOURLY = "0 * * * *"


class Stored:
    """A mission in a store, and what happens to it; each call is one transaction."""

    def __init__(self, store: GroupCommit[Tx]) -> None:
        self._store = store
        self.write(lambda tx: contract.save_mission(tx, name="m", data=DOCUMENT))

    def write(self, body: Callable[[Tx], X]) -> X:
        return self._store.write(body)

    @property
    def mission(self) -> Mission:
        (mission,) = self.write(lambda tx: tx[Missions].find())
        return mission

    @property
    def schedule(self) -> Schedule:
        found = self.write(lambda tx: tx[Schedules].get("1"))
        assert found is not None
        return found

    @property
    def executions(self) -> list[Execution]:
        return self.write(lambda tx: tx[Executions].find())

    def put(self, expression: str = HOURLY, **wanted: Any) -> Schedule:
        wanted = {"timezone": "UTC"} | wanted
        asked, at = Wanted(expression=expression, **wanted), NOON - HOUR * 1.5
        return self.write(lambda tx: scheduling.put(tx, self.in_(tx), asked, at, "me"))

    @staticmethod
    def in_(tx: Tx) -> Mission:
        (mission,) = tx[Missions].find()
        return mission

    def fire(self, at: datetime, *, refused: str | None = None) -> None:
        prepared = RequestError(refused) if refused else self.prepared()
        schedule, mission = self.schedule, self.mission
        self.write(lambda tx: firing.fire(tx, schedule, mission, prepared, Config(), at))

    def prepared(self) -> Prepared:
        document = checked(DOCUMENT)
        return Prepared(document, plan(document, {}, Config(), "/"))

    def execute(self) -> None:
        """By hand."""
        document, planned = self.prepared()
        self.write(lambda tx: execute(tx, self.in_(tx), document, planned, Config(), 0, NOON - HOUR, "me"))

    def finish(self, *path: TaskStatus) -> None:
        """All that goes on ends: well, unless the path says otherwise."""

        def body(tx: Tx) -> None:
            for task in tx[Tasks].find(Tasks.stage.eq("moving")):
                way = (S.ASSIGNED, S.IN_PROGRESS, *(path or (S.REVIEW, S.DONE)))
                changes.apply(tx, walk(task, NOON, *way))
            settling.settle(tx, NOON)

        self.write(body)

    def events(self) -> list[Event]:
        found = self.write(lambda tx: tx[Events].find(Events.kind.glob("schedule:*")))
        assert {event.subject for event in found} <= {"mission/1"}
        return found

    def kinds(self) -> list[str]:
        return [event.kind.removeprefix("schedule:") for event in self.events()]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    with task_store(tmp_path) as store:
        yield Stored(store)


def test_a_mission_that_is_set_to_recur_does(stored: Stored) -> None:
    """§13.194, §13.195, §13.196, §13.197"""
    assert stored.put().next_at == NOON - HOUR
    assert (stored.mission.status, stored.mission.schedule) == ("recurring", HOURLY)
    stored.fire(NOON - HOUR + SOON)
    (execution,) = stored.executions
    assert (stored.mission.status, execution.trigger, execution.started_by) == ("active", "schedule", "schedule")
    assert (stored.schedule.last_execution, stored.schedule.last_outcome) == (execution.id, "active")
    stored.finish()
    assert (stored.mission.status, stored.schedule.last_outcome, stored.schedule.next_at) == (
        "recurring", "completed", NOON,
    )  # fmt: skip
    stored.fire(NOON)
    stored.finish(S.FAILED)
    assert (stored.mission.status, stored.schedule.last_outcome) == ("recurring", "failed")
    assert stored.schedule.last_reason is not None
    assert stored.kinds() == ["created", *["triggered", "completed"] * 2]


@pytest.mark.parametrize(("path", "status"), [((), "completed"), ((S.FAILED,), "failed")])
def test_a_mission_that_is_set_to_be_carried_out_once_is(stored: Stored, path: Any, status: str) -> None:
    """§13.194, §13.196"""
    stored.put(NOON.isoformat())
    assert stored.mission.status == "scheduled"
    stored.fire(NOON)
    stored.finish(*path)
    assert (stored.mission.status, stored.schedule.enabled, stored.schedule.wake_at) == (status, False, None)
    stored.fire(NOON + HOUR)
    assert len(stored.executions) == 1
    assert stored.put().enabled  # it may be set again


def test_a_time_is_carried_out_once_however_often_it_is_tried(stored: Stored) -> None:
    """W34: whoever finds the schedule changed does nothing."""
    stored.put()
    schedule, mission, prepared = stored.schedule, stored.mission, stored.prepared()
    for _ in range(3):
        stored.write(lambda tx: firing.fire(tx, schedule, mission, prepared, Config(), NOON))
    assert (len(stored.executions), stored.kinds()) == (1, ["created", "triggered"])


def test_who_disables_it_at_the_last_moment_is_obeyed(stored: Stored) -> None:
    stored.put()
    schedule, mission, prepared = stored.schedule, stored.mission, stored.prepared()
    stored.write(lambda tx: scheduling.disable(tx, stored.in_(tx), NOON, "me", "disabled by me"))
    stored.write(lambda tx: firing.fire(tx, schedule, mission, prepared, Config(), NOON))
    assert (stored.executions, stored.schedule.enabled) == ([], False)


def test_a_mission_that_was_carried_out_by_hand_still_waits_for_its_time(stored: Stored) -> None:
    stored.put(NOON.isoformat())
    stored.execute()
    stored.finish()
    assert (stored.mission.status, stored.schedule.next_at) == ("scheduled", NOON)
    stored.fire(NOON)
    stored.finish()
    assert [x.trigger for x in stored.executions] == ["manual", "schedule"]
    assert stored.mission.status == "completed"


@pytest.mark.parametrize(("misfire", "number", "skipped"), [("skip", 0, [4]), ("once", 1, []), ("all", 4, [])])
def test_times_at_which_no_daemon_was_there(stored: Stored, misfire: Any, number: int, skipped: list[int]) -> None:
    """W33"""
    stored.put(misfire=misfire)
    at = NOON + 2.5 * HOUR
    stored.fire(at)
    assert [event.body["times"] for event in stored.events() if event.kind == "schedule:skipped"] == skipped
    for n in range(1, number + 1):
        assert len(stored.executions) == n
        stored.finish()
        woken = stored.schedule.owed_at is not None
        assert woken is (n < number)
        if woken:
            stored.fire(at)
    assert (len(stored.executions), stored.schedule.owed, stored.schedule.next_at) == (number, 0, NOON + 3 * HOUR)


@pytest.mark.parametrize(("overlap", "at_once", "in_the_end"), [("skip", 1, 1), ("queue", 1, 2), ("allow", 2, 2)])
def test_a_time_at_which_it_is_being_carried_out(stored: Stored, overlap: Any, at_once: int, in_the_end: int) -> None:
    """W34"""
    stored.put(overlap=overlap)
    stored.execute()
    stored.fire(NOON - HOUR)
    assert len(stored.executions) == at_once
    assert ("skipped" in stored.kinds()) is (overlap == "skip")
    stored.finish()
    wakes = stored.write(schedules.first)
    assert wakes is not None
    if wakes.owed_at is not None:
        stored.fire(NOON - HOUR + SOON)
        stored.finish()
    assert (len(stored.executions), stored.mission.status) == (in_the_end, "recurring")


def test_what_cannot_be_carried_out_is_kept_with_its_reason(stored: Stored) -> None:
    """W34: the schedule goes on, with all that is left of it; Polpo took what failed for a run."""
    stored.put(misfire="all")
    stored.fire(NOON, refused="there is no agent x")
    after = stored.schedule
    assert (after.last_outcome, after.last_reason, after.last_at) == ("refused", "there is no agent x", NOON)
    assert (after.next_at, after.owed, stored.executions) == (NOON + HOUR, 0, [])
    assert stored.mission.status == "recurring"
    failed = stored.events()[-1]
    assert (failed.kind, failed.body["reason"]) == ("schedule:failed", "there is no agent x")
    stored.fire(NOON + HOUR)
    assert len(stored.executions) == 1


def test_what_was_to_come_once_and_could_not_is_a_draft_again(stored: Stored) -> None:
    stored.put(NOON.isoformat())
    stored.fire(NOON, refused="no")
    assert (stored.mission.status, stored.schedule.enabled) == ("draft", False)


def test_an_execution_that_fails_half_way_leaves_nothing_but_its_reason(stored: Stored) -> None:
    """W12, W34: in the same transaction, undone to its beginning."""
    stored.put()
    document = checked(DOCUMENT)
    (one,) = stored.prepared().planned
    schedule, mission = stored.schedule, stored.mission
    never = datetime.fromisoformat("9999-12-31T23:59:59-14:00")
    broken = Prepared(document, [one, one._replace(submission=_with_deadline(one.submission, never))])
    stored.write(lambda tx: firing.fire(tx, schedule, mission, broken, Config(), NOON))
    assert (stored.executions, stored.write(lambda tx: tx[Tasks].find())) == ([], [])
    assert stored.schedule.last_outcome == "refused"
    assert (stored.mission.status, stored.mission.execution_count) == ("recurring", 0)


def _with_deadline(submission: Any, deadline: datetime) -> Any:
    from msgspec import structs

    return structs.replace(submission, deadline=deadline)


@pytest.mark.parametrize("live", [False, True])
def test_at_its_end_date_the_mission_is_completed(stored: Stored, live: bool) -> None:
    """§13.201: at once, or when what goes on has ended."""
    stored.put(end_date=NOON + SOON)
    if live:
        stored.fire(NOON)
    assert stored.schedule.wake_at == (NOON + SOON if live else NOON - HOUR)
    stored.fire(NOON + HOUR)
    assert (stored.schedule.enabled, stored.schedule.reason) == (False, "its end date has come")
    assert stored.kinds()[-1] == "expired"
    if live:
        assert stored.mission.status == "active"
        stored.finish()
    assert (stored.mission.status, len(stored.executions)) == ("completed", int(live))


def test_a_mission_that_somebody_took_back_is_not_carried_out(stored: Stored) -> None:
    """§13.198: a draft is none that waits for its time."""
    stored.put()
    stored.write(lambda tx: contract.update_mission(tx, "1", {"status": "draft"}))
    stored.fire(NOON)
    assert (stored.executions, stored.events()[-1].body["reason"]) == ([], "the mission is draft")
    assert stored.schedule.next_at == NOON + HOUR


def test_disabled_it_keeps_its_place_and_enabled_it_goes_on_from_then(stored: Stored) -> None:
    """§13.199; W32: it is a row."""
    stored.put()
    stored.write(lambda tx: scheduling.disable(tx, stored.in_(tx), NOON, "me", "disabled by me"))
    assert (stored.schedule.wake_at, stored.write(schedules.first)) == (None, None)
    stored.write(lambda tx: scheduling.enable(tx, stored.in_(tx), NOON + 5.5 * HOUR, "me"))
    assert (stored.schedule.next_at, stored.schedule.reason) == (NOON + 6 * HOUR, None)
    assert stored.kinds() == ["created", "disabled", "enabled"]


def test_who_aborts_an_execution_does_not_want_the_next(stored: Stored) -> None:
    stored.put()
    stored.fire(NOON)
    stored.write(lambda tx: control.abort(tx, stored.in_(tx), NOON, "me"))
    stored.finish()
    assert (stored.mission.status, stored.schedule.reason) == ("cancelled", "an execution was aborted")
    stored.write(lambda tx: scheduling.enable(tx, stored.in_(tx), NOON, "me"))
    assert stored.mission.status == "recurring"


def test_enabling_what_has_passed_is_refused(stored: Stored) -> None:
    stored.put(NOON.isoformat())
    stored.fire(NOON, refused="no")
    with pytest.raises(Conflict, match="nothing of the schedule of m is to come"):
        stored.write(lambda tx: scheduling.enable(tx, stored.in_(tx), NOON, "me"))


@pytest.mark.parametrize("live", [False, True])
def test_without_its_schedule_a_mission_is_a_draft(stored: Stored, live: bool) -> None:
    """§13.199: now, or when what goes on has ended, as that says."""
    stored.put()
    if live:
        stored.fire(NOON)
    stored.write(lambda tx: scheduling.remove(tx, stored.in_(tx), NOON, "me"))
    assert (stored.mission.schedule, stored.mission.end_date) == (None, None)
    if live:
        assert stored.mission.status == "active"
        stored.finish()
    assert stored.mission.status == ("completed" if live else "draft")
    with pytest.raises(NotFound, match="has no schedule"):
        stored.write(lambda tx: scheduling.remove(tx, stored.in_(tx), NOON, "me"))


def test_set_while_it_is_carried_out_it_waits_for_its_time_after_that(stored: Stored) -> None:
    stored.execute()
    stored.put()
    assert stored.mission.status == "active"
    stored.finish()
    assert stored.mission.status == "recurring"


def test_it_goes_with_its_mission(stored: Stored) -> None:
    stored.put()
    stored.write(lambda tx: control.delete(tx, stored.in_(tx), NOON, "me"))
    assert stored.write(lambda tx: tx[Schedules].find()) == []


def test_schedules_that_a_library_set_are_taken_up(stored: Stored) -> None:
    """§13.200: what is scheduled or recurring, and no draft; a bad expression is said, and stops nothing."""

    def adopted(**said: Any) -> list[Schedule]:
        stored.write(lambda tx: contract.update_mission(tx, "1", said))
        stored.write(scheduling.adopt)
        return stored.write(lambda tx: tx[Schedules].find())

    assert adopted(schedule="0 3 * * *") == []
    (schedule,) = adopted(status="recurring")
    assert (schedule.expression, schedule.recurring, schedule.next_at is None) == ("0 3 * * *", True, False)
    assert adopted(prompt="other") == [schedule]  # nothing new: as it was
    (schedule,) = adopted(schedule="0 4 * * *")
    assert schedule.expression == "0 4 * * *"
    assert adopted(schedule="*/0 * * * *") == [schedule]
    assert "a step is within" in stored.events()[-1].body["reason"]
    assert adopted(schedule=None) == []


def test_times_that_a_wrong_clock_counted_are_counted_anew(stored: Stored) -> None:
    """F65: a clock that was ten years ahead does not keep a mission waiting for ten years."""
    stored.write(
        lambda tx: scheduling.put(
            tx, stored.in_(tx), Wanted(expression=HOURLY, timezone="UTC"), NOON + timedelta(days=3650), "me"
        )
    )
    stored.write(firing.recount)
    assert stored.schedule.next_at is not None
    assert stored.schedule.next_at < NOON


def test_a_time_zone_that_is_gone_is_said(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.put(timezone="Europe/Berlin")

    def gone(name: str) -> Any:
        raise ValueError(f"this host knows no time zone {name!r}")

    monkeypatch.setattr(timezones, "zone", gone)
    stored.fire(NOON)
    assert stored.schedule.reason == "this host knows no time zone 'Europe/Berlin'"
    assert not stored.schedule.enabled


def test_the_time_zone_of_the_host_is_named() -> None:
    assert timezones.zone(timezones.of_host()) is not None


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Nowhere", "../../etc/passwd", "/etc/localtime", "\0", "x" * 300, "\ud800"]
)
def test_what_is_no_time_zone_is_refused(name: str, stored: Stored) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        timezones.zone(name)
    if name:
        with pytest.raises(InvalidRequest, match="no time zone"):
            stored.put(timezone=name)


@pytest.mark.parametrize("tz", [":Europe/Berlin", "Europe/Berlin"])
def test_tz_says_where_the_host_is(tz: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", tz)
    assert timezones.of_host() == "Europe/Berlin"
