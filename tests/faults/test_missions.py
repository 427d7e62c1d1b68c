"""Missions on a real daemon that is killed in the middle: what each task did, it did as often as the rules say."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.invariants import Ledger
from kit.waiting import until

from polpod import crash

KILLS = 8
LONGEST_LIFE = 0.3
OVER = ("completed", "failed", "cancelled")


def document(host: Host, layers: int, width: int, **parts: Any) -> dict[str, Any]:
    """Layers of tasks, each of which waits for all of the layer before; all leave a trace, some fail once or twice."""
    tasks = []
    for layer in range(layers):
        for n in range(width):
            title = f"t{layer}-{n}"
            failures = 2 if n == 1 else 0
            tasks.append(
                {
                    "title": title,
                    "cwd": str(host.root),
                    "shell": f"echo {title} >> trace; [ $(grep -cx {title} trace) -gt {failures} ]",
                    "dependsOn": [f"t{layer - 1}-{m}" for m in range(width)] if layer else [],
                    "maxRetries": 2,
                    "retryDelay": 20,
                }
            )
    return {"tasks": tasks, **parts}


def barrier(name: str, after: list[str], blocks: list[str], **more: Any) -> dict[str, Any]:
    return {"name": name, "afterTasks": after, "blocksTasks": blocks, **more}


def create(host: Host, text: dict[str, Any], name: str = "m") -> str:
    return str(host.call("mission.create", document=json.dumps(text), name=name)["id"])


def executed(host: Host, mission: str = "m") -> dict[str, Any]:
    """Its last execution, whatever became of the daemon."""
    found: dict[str, Any] = host.surely("mission.get", id=mission)["execution"]
    return found


def once(events: list[dict[str, Any]], kind: str, **body: Any) -> None:
    found = [e for e in events if e["kind"] == kind and body.items() <= e["body"].items()]
    assert len(found) == 1, (kind, body, found)


def journal(host: Host) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while page := host.call("event.list", after=events[-1]["seq"] if events else 0, limit=1000)["events"]:
        events += page
    return events


def test_a_mission_goes_on_through_kills_of_the_daemon(host: Host) -> None:
    """W12, W32: gates, checkpoints and delays are rows; every step is one transaction.  §13.181."""
    rng = random.Random(6)
    layers, width = 4, 4
    layer = [[f"t{n}-{m}" for m in range(width)] for n in range(layers)]
    host.configure(maxConcurrency=4)
    host.start()
    ledger = Ledger(host.paths)
    create(
        host,
        document(
            host, layers, width,
            qualityGates=[barrier("good", layer[0], layer[1], requireAllPassed=True)],
            delays=[barrier("later", layer[1], layer[2], duration="PT0.2S")],
            checkpoints=[barrier("look", layer[2], layer[3])],
        ),
    )  # fmt: skip
    host.call("mission.execute", id="m")
    moment = threading.Event()
    for _ in range(KILLS):
        moment.wait(rng.uniform(0, LONGEST_LIFE))  # never set: the kill comes at a random moment of the work
        host.kill()
        ledger.look()
        host.start(wait=rng.random() < 0.7)
    until(lambda: executed(host)["status"] == "paused", "the checkpoint is reached")
    resumed = host.surely("mission.resume", id="m")
    assert resumed["opened"] == ["look"]
    until(lambda: executed(host)["status"] in OVER, "it is over")

    execution = executed(host)
    assert (execution["status"], execution["report"]["by_status"]) == ("completed", {"done": layers * width})
    expected = Counter({f"t{n}-{m}": 3 if m == 1 else 1 for n in range(layers) for m in range(width)})
    assert Counter((host.root / "trace").read_text().split()) == expected
    events = journal(host)
    for kind, name in (("quality:gate:passed", "good"), ("delay:started", "later"), ("delay:expired", "later")):
        once(events, kind, name=name)
    for kind in ("checkpoint:reached", "checkpoint:resumed", "mission:executed", "mission:completed"):
        once(events, kind)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert host.stop() == 0
    ledger.settled()


@pytest.mark.parametrize("point", [p for p in crash.POINTS if p.startswith("mission.")])
def test_death_at_any_instruction_of_a_mission(point: str, host: Host) -> None:
    died = host.root / "died"
    host.start(POLPOD_CRASH_AT=point, POLPOD_CRASH_ONCE=str(died))
    text = document(host, 2, 2, checkpoints=[barrier("look", ["t0-0"], ["t1-0"])])
    create(host, text)
    with host.client() as client:
        client.send("mission.execute", id="m")
        until(lambda: died.exists() or host.surely("mission.get", id="m")["execution"], "it goes on")
    until(lambda: executed(host)["status"] == "paused", "the checkpoint is reached")
    host.surely("mission.resume", id="m")
    until(lambda: executed(host)["status"] in OVER, "it is over")
    assert died.exists(), f"{point} was not passed"
    assert executed(host)["status"] == "completed"
    assert Counter((host.root / "trace").read_text().split()) == {"t0-0": 1, "t0-1": 3, "t1-0": 1, "t1-1": 3}


def test_an_aborted_mission_ends_its_jobs_through_a_kill(host: Host) -> None:
    """W37."""
    host.start()
    shell = f"echo started >> {host.root}/trace; exec sleep 1000"
    create(
        host, {"tasks": [{"title": "long", "shell": shell}, {"title": "next", "shell": "true", "dependsOn": ["long"]}]}
    )
    host.call("mission.execute", id="m")
    until((host.root / "trace").exists, "its job runs")
    (run,) = host.call("mission.abort", id="m")["runs"]
    host.kill()
    host.start()
    until(lambda: executed(host)["status"] == "cancelled", "it is over")
    statuses = {task["title"]: task["status"] for task in host.call("mission.get", id="m")["tasks"]}
    assert statuses == {"long": "cancelled", "next": "cancelled"}
    assert host.call("run.get", id=run)["run"]["reason"] == "cancelled"


def test_a_paused_mission_starts_nothing_over_a_restart_and_says_why(host: Host) -> None:
    host.start()
    gate = host.root / "gate"
    hold = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    create(host, {"tasks": [{"title": "a", "shell": hold}, {"title": "b", "shell": "true", "dependsOn": ["a"]}]})
    host.call("mission.execute", id="m")
    first, second = host.call("mission.get", id="m")["tasks"]
    host.running(first["id"])
    host.call("mission.pause", id="m")
    host.kill()
    gate.touch()
    host.start()
    assert host.finished(first["id"])["status"] == "done"
    other = host.submit("true")
    assert host.finished(other)["status"] == "done"  # others go on
    because = host.call("task.why", id=second["id"])
    assert because["sentences"] == ["Mission 1 is paused: paused by uid 0."]
    assert because["next"] == ["polpoctl mission resume 1"]
    assert (host.task(second["id"])["status"], host.task(second["id"])["state"]) == ("pending", "paused")
    host.call("mission.resume", id="m")
    assert host.finished(second["id"])["status"] == "done"


def test_what_cannot_be_carried_out_leaves_nothing_behind(host: Host) -> None:
    """W12 (P24): half a mission stayed behind; W30 (P23).  §13.162."""
    host.start()
    good = {"title": "a", "command": ["true"]}
    for text, path in (
        ({"tasks": []}, "$.tasks"),
        ({"tasks": [good, {"title": "b", "command": ["true"], "dependsOn": ["c"]}]}, "$.tasks[1].dependsOn[0]"),
        ({"tasks": [good, {"title": "b"}]}, "$.tasks[1].command"),
        ({"tasks": [good | {"cwd": "relative"}]}, "$.tasks[0].cwd"),
        ({"tasks": [good | {"assignTo": "nobody"}]}, "$.tasks[0].assignTo"),
        ({"tasks": [good | {"maxDuration": -1}]}, "$.tasks[0].maxDuration"),
        ({"tasks": [good | {"title": " "}]}, "$.tasks[0].title"),
        ({"tasks": [good], "delays": [barrier("d", ["a"], ["a"], duration="1h")]}, "$.delays[0].duration"),
        ({"tasks": [good], "unknown": 1}, "$.unknown"),
    ):
        with pytest.raises(Refused) as refused:
            create(host, text)
        assert (refused.value.code, refused.value.data["path"]) == (-32602, path)
    assert host.call("mission.list")["missions"] == []
    with pytest.raises(Refused, match="there is no mission m"):
        host.call("mission.execute", id="m")
    create(host, {"tasks": [good, good | {"title": "b", "cwd": "/nowhere"}]})
    with pytest.raises(Refused, match="No such file"):
        host.call("mission.execute", id="m")
    mission = host.call("mission.get", id="m")
    assert (mission["mission"]["status"], mission["mission"]["execution_count"]) == ("draft", 0)
    assert host.call("task.list", all=True)["tasks"] == []


def test_an_execution_that_cannot_be_read_keeps_nobody_from_looking_at_the_others(host: Host) -> None:
    """F10: the list of missions, and of what waits for its barriers why they do."""
    host.start()
    create(host, {"tasks": [{"title": "a", "shell": "true"}]}, "other")
    later = barrier("later", ["a"], ["b"], duration="PT1H")
    create(host, {"tasks": [{"title": t, "shell": "true"} for t in "ab"], "delays": [later]})
    host.call("mission.execute", id="m")
    until(lambda: host.call("mission.get", id="m")["barriers"][0]["state"] == "holding", "its delay begins")
    host.kill()
    with closing(sqlite3.connect(host.paths.tasks_db, isolation_level=None)) as db:
        db.execute("UPDATE executions SET doc = '{}'")
    host.start()
    assert [mission["name"] for mission in host.call("mission.list")["missions"]] == ["m", "other"]
    assert [mission["name"] for mission in host.call("mission.list")["missions"]] == ["m", "other"]
    assert host.call("mission.get", id="m")["execution"] is None
    with pytest.raises(Refused, match="has no execution any more"):
        host.call("mission.abort", id="m")
    (why,) = host.call("task.why", id="2")["sentences"]
    assert why == "Task 2 is blocked: barrier 2.1/delay/later is quarantined, since its record cannot be read."
    assert "Traceback" not in host.log()
