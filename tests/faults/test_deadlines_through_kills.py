"""Deadlines on a real daemon: what is told, once, and what is ended, though the daemon is killed in between."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from kit.clock import Clock
from kit.host import Host
from kit.invariants import settle
from kit.jobs import waits_for
from kit.processes import alive
from kit.waiting import until

DAY = 86400.0


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def told(host: Host, subject: str) -> list[str]:
    found = host.call("event.list", after=0, kinds=["sla:*"], subject=subject)["events"]
    return [event["kind"].removeprefix("sla:") for event in found]


def notice(host: Host) -> None:
    """Something happens to what has a deadline, so that the daemon looks at its clock."""
    host.submit("true", deadline=soon(DAY))


def test_at_its_deadline_a_task_fails_with_its_run_though_the_daemon_dies_there(host: Host) -> None:
    """W37: Polpo failed the task, and left its runner running; W32: nothing is told twice."""
    host.configure(maxConcurrency=4, sla={"violationAction": "fail", "warningThreshold": 0.5})
    clock, died, go = Clock(host.root / "clock"), host.root / "died", host.root / "go"
    daemon = host.start(under=clock.under, POLPOD_CRASH_AT="deadline.failed", POLPOD_CRASH_ONCE=str(died))
    quick = host.submit("true", deadline=soon(DAY))
    text = json.dumps({"tasks": [{"title": "a", "shell": waits_for(go), "cwd": str(host.root)}]})
    host.call("mission.create", document=text, name="m", deadline=soon(600))
    host.call("mission.execute", id="m")
    held = host.submit("true", hold=True, deadline=soon(600))
    long = host.submit("sleep", "1000", max_retries=5, deadline=soon(600))
    check = {"type": "test", "command": "sleep 1000"}
    checked = host.submit("true", expectations=[check], max_retries=5, deadline=soon(600))
    run = host.running(long)
    until(lambda: [r["status"] for r in host.runs(checked)] == ["completed", "running"], "it is being checked")
    late = (f"task/{long}", f"task/{held}", "mission/1")
    clock.shift(400)
    notice(host)
    until(lambda: all(told(host, subject) == ["warning"] for subject in late), "their deadlines are close")
    clock.shift(800)
    with suppress(OSError, EOFError):  # it may die before it answers
        notice(host)
    until(lambda: daemon.poll() is not None, "it dies")
    assert died.exists()
    host.start(under=clock.under)
    go.touch()
    assert host.finished(long)["status"] == "failed"
    (ended,) = host.runs(long)
    assert (ended["kill_reason"], ended["kill_by"]) == ("timeout", "its deadline")
    assert not alive(run["job_pid"])
    assert not alive(run["pid"])
    assert host.finished(held)["status"] == host.finished(checked)["status"] == "failed"
    assert all(run["ended_at"] for run in host.runs(checked))
    for task_id in (long, held, checked):
        (why,) = host.call("task.why", id=task_id)["sentences"]
        assert why == f"Task {task_id} failed: its deadline had passed."
    assert host.finished(quick)["status"] == "done"
    until(lambda: told(host, f"task/{quick}") == ["met"], "it is told that it met its deadline")
    assert host.task(quick)["sla"]["state"] == "met"
    until(
        lambda: host.call("mission.get", id="m")["mission"]["status"] == "completed", "what it does is done, too late"
    )
    assert [told(host, subject) for subject in late] == [["warning", "violated"]] * 3
    settle(host)


def test_a_deadline_that_is_set_or_moved_later_is_looked_at(host: Host) -> None:
    """§13.191; without settings.sla nothing fails."""
    host.start()
    task_id = host.submit("true", hold=True)
    host.call("task.update", id=task_id, deadline=soon(600))
    until(lambda: host.task(task_id)["sla"], "it was looked at")
    host.call("task.update", id=task_id, deadline=soon(0.2))
    until(lambda: "violated" in told(host, f"task/{task_id}"), "it has passed")
    assert host.task(task_id)["status"] == "pending"
    host.call("task.update", id=task_id, deadline=None)
    host.call("task.release", select={"ids": [task_id]})
    assert host.finished(task_id)["status"] == "done"
    assert "met" not in told(host, f"task/{task_id}")
    settle(host)
