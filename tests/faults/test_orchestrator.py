"""A whole piece of work, carried out by the clock, while the daemon is killed thirty times, on every backend that lasts.

Sixty tasks in eight layers: a gate, a checkpoint, a delay, tasks that fail twice, one that a person has to approve.  What
each task did, it did as often as the rules say; every event is in the journal once; the report is right.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit.backends import LASTING, settings_of
from kit.client import Refused
from kit.host import Host
from kit.waiting import until

LAYERS = (8, 8, 8, 8, 7, 7, 7, 7)
FLAKY = {f"t{layer}-1" for layer in (1, 3, 5)}
"""They fail twice, and then pass."""
APPROVED = "t2-0"
KILLS = 30
LONGEST_LIFE = 0.4
OVER = ("completed", "failed", "cancelled")


@pytest.fixture(params=LASTING)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host(**settings_of(str(request.param)), maxConcurrency=6) as made:
        yield made


def document(host: Host) -> dict[str, Any]:
    layer = [[f"t{n}-{m}" for m in range(width)] for n, width in enumerate(LAYERS)]

    def task(title: str, before: list[str]) -> dict[str, Any]:
        done = f"echo {title} >> trace"
        work = f"{done}; [ $(grep -cx {title} trace) -gt 2 ]" if title in FLAKY else done
        return {
            "title": title, "shell": work, "cwd": str(host.root), "dependsOn": before, "maxRetries": 2, "retryDelay": 20,
            "needsApproval": title == APPROVED,
        }  # fmt: skip

    return {
        "tasks": [task(title, layer[n - 1] if n else []) for n, titles in enumerate(layer) for title in titles],
        "qualityGates": [
            {"name": "good", "afterTasks": layer[1], "blocksTasks": layer[2], "requireAllPassed": True}
        ],
        "delays": [{"name": "later", "afterTasks": layer[3], "blocksTasks": layer[4], "duration": "PT0.3S"}],
        "checkpoints": [{"name": "look", "afterTasks": layer[5], "blocksTasks": layer[6]}],
    }  # fmt: skip


def scheduled(host: Host) -> bool:
    """Set it for a second from now; False: that was over when the daemon looked."""
    try:
        host.call("schedule.set", id="m", expression=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    except Refused as refused:
        if "has passed" not in str(refused):
            raise
        return False
    return True


class Person:
    """Who approves and resumes what waits for a person, between deaths of the daemon."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def look(self) -> None:
        for request in self._host.call("approval.list")["approvals"]:
            self._host.call("approval.approve", id=request["id"])
        if (execution := self.execution()) is not None and execution["status"] == "paused":
            self._host.call("mission.resume", id="m")

    def execution(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._host.call("mission.get", id="m", limit=1)["execution"]
        return found

    def over(self) -> dict[str, Any] | None:
        self.look()
        execution = self.execution()
        return execution if execution is not None and execution["status"] in OVER else None


def test_it_comes_to_its_end_with_everything_done_as_often_as_it_has_to_be(host: Host) -> None:
    """W12, W32, W34, W36: every step is one transaction, and everything that changes what comes later is a row."""
    rng, person, moment = random.Random(60), Person(host), threading.Event()
    host.start()
    host.call("mission.create", document=json.dumps(document(host)), name="m")
    until(lambda: scheduled(host), "a time is set before it has passed")
    for number in range(KILLS):
        moment.wait(rng.uniform(0, LONGEST_LIFE))  # never set: the kill comes at a random moment of the work
        host.kill()
        answers = number == KILLS - 1 or rng.random() < 0.8
        host.start(wait=answers)
        if answers and rng.random() < 0.5:
            person.look()
    execution = until(person.over, "it is over", 120)

    assert (execution["status"], execution["trigger"], execution["number"]) == ("completed", "schedule", 1)
    report = execution["report"]
    assert (report["tasks"], report["by_status"], report["not_done"]) == (60, {"done": 60}, [])
    assert report["retries"] == 2 * len(FLAKY)
    titles = {f"t{n}-{m}" for n, width in enumerate(LAYERS) for m in range(width)}
    assert Counter((host.root / "trace").read_text().split()) == Counter({t: 3 if t in FLAKY else 1 for t in titles})
    check_journal(host)
    assert host.stop() == 0
    checked = host.maintain("check")
    assert checked.returncode == 0, checked.stdout


def check_journal(host: Host) -> None:
    events: list[dict[str, Any]] = []
    while page := host.call("event.list", after=events[-1]["seq"] if events else 0, limit=1000)["events"]:
        events += page
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    once = (
        "mission:saved", "schedule:triggered", "schedule:completed", "mission:executed", "mission:completed",
        "quality:gate:passed", "delay:started", "delay:expired", "checkpoint:reached", "checkpoint:resumed",
        "approval:requested", "approval:resolved",
    )  # fmt: skip
    kinds = Counter(event["kind"] for event in events)
    assert {kind: kinds[kind] for kind in once} == dict.fromkeys(once, 1)
    ended = Counter(e["body"]["run_id"] for e in events if e["kind"] == "agent:finished")
    assert set(ended.values()) == {1}
    status: dict[str, str] = {}
    for event in events:
        if event["kind"] == "task:created":
            status[event["subject"]] = event["body"]["status"]
        elif event["kind"] == "task:transition":
            assert status[event["subject"]] == event["body"]["from"], event
            status[event["subject"]] = event["body"]["to"]
    assert Counter(status.values()) == {"done": 60}
