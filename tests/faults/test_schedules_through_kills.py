"""Missions that are carried out by the clock, on a real daemon that is killed, away at the time, or has its clock set.

The clock of the daemon is shifted, which it notices at the next thing that happens to a mission (or within a minute).
"""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from kit.client import Refused
from kit.clock import Clock
from kit.fault import fault
from kit.host import Host
from kit.invariants import settle
from kit.jobs import POLPOCTL, waits_for
from kit.waiting import until

from polpod import crash
from polpod.taskstore import open_stores

HOUR = 3600.0
TRUE = {"title": "a", "command": ["true"]}


@pytest.fixture
def clock(host: Host) -> Clock:
    return Clock(host.root / "clock")


def create(host: Host, name: str, *tasks: dict[str, Any], **values: Any) -> str:
    text = json.dumps({"tasks": tasks or [TRUE | {"cwd": str(host.root)}]})
    return str(host.call("mission.create", document=text, name=name, **values)["id"])


def hourly() -> str:
    """Half an hour from now, and every hour after that."""
    return f"{(datetime.now(UTC).minute + 30) % 60} * * * *"


def soon(seconds: float = 0.5) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def schedule(host: Host, mission: str) -> dict[str, Any]:
    found: dict[str, Any] = host.surely("schedule.get", id=mission)["schedule"]
    return found


def executions(host: Host, mission: str, number: int, *, over: bool = True) -> list[dict[str, Any]]:
    """The oldest first, once there are so many, and they are over."""

    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = host.surely("mission.executions", id=mission)["executions"][::-1]
        return len(found) >= number and (not over or all(x["finished_at"] for x in found))

    until(there, f"{number} executions of {mission}")
    assert len(found) == number
    return found


def events(host: Host, mission: str, *kinds: str) -> list[dict[str, Any]]:
    mission_id = host.call("mission.get", id=mission)["mission"]["id"]
    listed = host.call(
        "event.list", after=0, kinds=kinds or ["schedule:*"], subject=f"mission/{mission_id}", limit=1000
    )
    return list(listed["events"])


def kinds(host: Host, mission: str) -> list[str]:
    return [event["kind"].removeprefix("schedule:") for event in events(host, mission)]


def status(host: Host, mission: str) -> str:
    return str(host.call("mission.get", id=mission)["mission"]["status"])


def notice(host: Host) -> None:
    """Something happens to a mission, so that the daemon looks at its clock."""
    create(host, f"notice-{datetime.now(UTC).timestamp()}")


def test_missions_recur_through_kills_and_what_was_missed_or_waits_is_as_was_said(host: Host, clock: Clock) -> None:
    """§13.194 to §13.197; W32: what was set is there after a restart; W33: the misfire policies; W34."""
    host.configure(maxConcurrency=8)
    host.start(under=clock.under)
    gate = host.root / "gate"
    policies: tuple[tuple[str, dict[str, str]], ...] = (
        ("m", {}),
        ("none", {"misfire": "skip"}),
        ("all", {"misfire": "all"}),
        ("queue", {"overlap": "queue"}),
    )
    expression = hourly()
    for name, policy in policies:
        create(host, name, {"title": "a", "shell": waits_for(gate)} if name == "queue" else TRUE)
        host.call("schedule.set", id=name, expression=expression, timezone="UTC", **policy)
        assert status(host, name) == "recurring"
    create(host, "once")
    host.call("schedule.set", id="once", expression=soon(600))
    first = schedule(host, "m")
    assert (first["recurring"], first["misfire"], first["overlap"]) == (True, "once", "skip")
    assert {m["next_at"] for m in host.call("mission.list")["missions"]} == {
        first["next_at"],
        schedule(host, "once")["next_at"],
    }
    host.call("mission.execute", id="queue")
    host.kill()

    clock.shift(3 * HOUR)
    host.start(under=clock.under)
    for name, number in (("m", 1), ("all", 3), ("once", 1), ("none", 0)):
        executions(host, name, number)
    (skipped,) = events(host, "none", "schedule:skipped")
    assert skipped["body"]["times"] == 3
    one_after_another = pairwise(executions(host, "all", 3))
    assert all(a["finished_at"] <= b["started_at"] for a, b in one_after_another)
    until(lambda: schedule(host, "queue")["owed"] == 1, "one waits for the one by hand")
    host.kill()
    gate.touch()
    host.start(under=clock.under)
    assert [x["trigger"] for x in executions(host, "queue", 2)] == ["manual", "schedule"]

    clock.shift(4 * HOUR)  # while it runs
    notice(host)
    last = executions(host, "m", 2)[-1]
    executions(host, "none", 0)  # half an hour late
    until(lambda: status(host, "m") == "recurring", "it waits for the next time")
    now = schedule(host, "m")
    assert (now["last_execution"], now["last_outcome"]) == (last["id"], "completed")
    assert datetime.fromisoformat(now["next_at"]) == datetime.fromisoformat(first["next_at"]) + timedelta(hours=4)
    assert kinds(host, "m") == ["created", *["triggered", "completed"] * 2]
    assert (status(host, "once"), kinds(host, "once")) == ("completed", ["created", "triggered", "completed"])
    settle(host)


@pytest.mark.parametrize("point", [p for p in crash.POINTS if p.startswith("schedule.")])
def test_death_at_any_instruction_of_a_time_that_has_come(point: str, host: Host, clock: Clock) -> None:
    """W34: execution, next time and events are one transaction."""
    died = host.root / "died"
    daemon = host.start(under=clock.under, POLPOD_CRASH_AT=point, POLPOD_CRASH_ONCE=str(died))
    create(host, "m")
    host.call("schedule.set", id="m", expression=soon(600))
    clock.shift(HOUR)
    with suppress(OSError, EOFError):  # it may die before it answers
        notice(host)
    until(lambda: daemon.poll() is not None, "it dies")
    host.start(under=clock.under)
    executions(host, "m", 1)
    until(lambda: status(host, "m") == "completed", "it is over")
    assert died.exists()
    assert kinds(host, "m") == ["created", "triggered", "completed"]
    assert (schedule(host, "m")["enabled"], schedule(host, "m")["next_at"]) == (False, None)
    settle(host)


def test_polpo_json_holds_all_schedules_and_those_that_a_library_set_are_taken_up(host: Host, clock: Clock) -> None:
    """§13.200: what is scheduled or recurring is, a draft is not; a bad expression stops nothing."""
    with open_stores(str(host.root)) as stores:
        said = {"data": json.dumps({"tasks": [TRUE]}), "schedule": "0 3 * * *"}
        for name, more in (
            ("again", {"status": "recurring"}),
            ("draft", {"status": "draft"}),
            ("bad", {"status": "recurring", "schedule": "*/0 * * * *"}),
        ):
            stores.tasks.save_mission(said | {"name": name} | more)
    host.configure(enableScheduler=False)
    host.start(under=clock.under)
    create(host, "m")
    host.call("schedule.set", id="m", expression=soon(600))
    clock.shift(HOUR)
    notice(host)
    assert [(s["mission"], s["held"]) for s in host.call("schedule.list")["schedules"]] == [("m", True)]
    assert host.finished(host.submit("sleep", "0.2"))["status"] == "done"
    executions(host, "m", 0)
    host.stop()
    host.configure()
    host.start(under=clock.under)
    executions(host, "m", 1)
    assert [(s["mission"], s["expression"]) for s in host.call("schedule.list")["schedules"]][:1] == [
        ("again", "0 3 * * *")
    ]
    assert "a step is within" in events(host, "bad", "schedule:failed")[0]["body"]["reason"]
    settle(host)


def test_polpoctl_sets_schedules_and_what_cannot_be_one_is_refused_with_its_field(host: Host) -> None:
    """W33; W40: the command asks the daemon, and what it set stays."""
    host.start()
    create(host, "m")
    for wrong, path in (
        ({"expression": "*/0 * * * *"}, "$.expression"),
        ({"expression": "99 * * * *"}, "$.expression"),
        ({"expression": " "}, "$.expression"),
        ({"expression": "\0"}, "$.expression"),
        ({"expression": "* " * 150}, "$.expression"),
        ({"expression": 5}, "$.expression"),
        ({"expression": "2020-01-01T00:00:00Z"}, "$.expression"),
        ({"expression": "2999-01-01", "recurring": True}, "$.expression"),
        ({"expression": "* * * * *", "timezone": "Europe/Nowhere"}, "$.timezone"),
        ({"expression": "* * * * *", "timezone": "../../etc/passwd"}, "$.timezone"),
        ({"expression": "* * * * *", "timezone": "Europe"}, "$.timezone"),
        ({"expression": "* * * * *", "timezone": "\0"}, "$.timezone"),
        ({"expression": "* * * * *", "end_date": "2020-01-01T00:00:00Z"}, "$.end_date"),
        ({"expression": "* * * * *", "end_date": "0001-01-01T00:00:00+14:00"}, "$.end_date"),
        ({"expression": "0 0 1 1 *", "end_date": soon()}, "$.end_date"),
        ({"expression": "* * * * *", "misfire": "never"}, "$.misfire"),
        ({"expression": "* * * * *", "overlap": None}, "$.overlap"),
    ):
        with pytest.raises(Refused) as refused:
            host.call("schedule.set", id="m", **wrong)
        assert (refused.value.code, refused.value.data["path"]) == (-32602, path), wrong
    assert (status(host, "m"), host.call("schedule.list")["schedules"]) == ("draft", [])
    with pytest.raises(Refused, match="there is no mission"):
        host.call("schedule.set", id="nothing", expression="* * * * *")

    def polpoctl(*words: str, code: int = 0) -> str:
        ran = subprocess.run(
            [*shlex.split(POLPOCTL), "schedule", *words, "--socket", host.socket],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout or ran.stderr

    ends = ("--end-date", "2999-01-01T00:00:00Z", "--misfire", "all", "--overlap", "queue")
    polpoctl("set", "m", "30 2 29 2 *", "--timezone", "Europe/Berlin", *ends)
    assert polpoctl("next", "m", "-n", "2").splitlines() == ["2028-02-29T02:30:00+01:00", "2032-02-29T02:30:00+01:00"]
    assert polpoctl("list").split("\t")[:4] == ["m", "2028-02-29T01:30:00Z", "30 2 29 2 *", "Europe/Berlin"]
    assert "misfire\tall" in polpoctl("show", "m")
    polpoctl("disable", "m")
    assert polpoctl("list").split("\t")[:2] == ["m", "disabled"]
    assert polpoctl("next", "m") == ""
    polpoctl("enable", "m")
    assert json.loads(polpoctl("show", "m", "--json"))["enabled"] is True
    polpoctl("set", "m", "30", "2", "29", "2", "mon", "--once")
    assert len(polpoctl("next", "m").splitlines()) == 1
    assert "never comes" in polpoctl("set", "m", "0 0 30 2 *", code=2)
    polpoctl("remove", "m")
    assert polpoctl("list") == ""
    assert "has no schedule" in polpoctl("show", "m", code=3)
    assert "usage" in polpoctl("set", "m", code=2)
    assert "not allowed with" in polpoctl("set", "m", "* * * * *", "--once", "--recurring", code=2)
    settle(host)


@fault(
    66,
    "the clock changes to summer time and back: a time of day that is left out or repeated is missed, or kept twice",
    promise="Schedules name their time zone. What the clock leaves out comes as it goes on, what it repeats comes once; what "
    "comes every hour comes by the time that passes.",
    injected="the clock of a daemon is set to the evening before each change, and then past it",
    seen_failing="expressions that are read in UTC, whatever the time zone",
)
def test_f66_summer_time_comes_and_goes(host: Host, clock: Clock) -> None:
    nights = (
        (datetime(2027, 3, 27, 20, tzinfo=UTC), ["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"]),
        (datetime(2027, 10, 30, 20, tzinfo=UTC), ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]),
    )
    host.start(under=clock.under)
    host.call("store.prune")  # the first pass believes the clock, which is right still
    for evening, local in nights:
        name = local[0]
        clock.shift((evening - datetime.now(UTC)).total_seconds())
        create(host, name)
        host.call("schedule.set", id=name, expression="30 2 * * *", timezone="Europe/Berlin")
        assert host.call("schedule.next", id=name, limit=2)["local"] == local
        clock.shift((evening + timedelta(hours=12) - datetime.now(UTC)).total_seconds())
        notice(host)
        executions(host, name, 1)
        assert host.call("schedule.next", id=name, limit=1)["local"] == local[1:]
        host.call("schedule.remove", id=name)
    settle(host)
