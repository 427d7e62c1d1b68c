"""Single rows of state.db that mean nothing: set aside and kept, and the daemon goes on without them (F10)."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.fault import fault
from kit.host import Host
from kit.waiting import until


def poison(host: Host, table: str, key: str, doc: str | bytes | None = None, **fields: object) -> str:
    """Write what no polpod would write into the document of a row: `fields` into it, or `doc` in its place."""
    column = {"tasks": "id", "specs": "id", "queues": "name", "settings": "name", "events": "seq"}[table]
    with closing(sqlite3.connect(host.paths.tasks_db, timeout=60, isolation_level=None)) as db:
        ((good,),) = db.execute(f"SELECT doc FROM {table} WHERE {column} = ?", (key,)).fetchall()
        bad = json.dumps(json.loads(good) | fields) if doc is None else doc
        db.execute(f"UPDATE {table} SET doc = CAST(? AS TEXT) WHERE {column} = ?", (bad, key))
    return bad if isinstance(bad, str) else bad.decode(errors="backslashreplace")


def kept(host: Host) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        return [json.loads(doc) for (doc,) in db.execute("SELECT doc FROM quarantine ORDER BY seq")]


def events(host: Host, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.call("event.list", after=0, kinds=[kind])["events"]
    return found


def said(host: Host, what: str) -> None:
    """The log has one line about it, which says where it is kept, and no defect."""
    (line,) = [line for line in host.log().splitlines() if f"{what} does not decode" in line]
    assert "state.db" in line
    assert "the table quarantine" in line
    assert "Traceback" not in host.log(), host.log()


@pytest.mark.parametrize(
    ("doc", "fields"),
    [
        (None, {"status": "exploded"}),
        (None, {"priority": "high"}),
        (None, {"created_at": "2026-01-01T00:00:00"}),
        ("{broken", {}),
        ("[]", {}),
        ("", {}),
        (b'{"id":"\xff"}', {}),
        (b"\xff\xfe\x00", {}),
    ],
    ids=["status", "type", "no zone", "text", "list", "empty", "no UTF-8 in it", "no UTF-8"],
)
@fault(
    10,
    "a single row that cannot be read crashes every start",
    promise="It is set aside as it was found, with an event and a line in the log; everything else starts.",
    injected="eight kinds of garbage written into the row of a task between two daemons",
    seen_failing="rows that are decoded without quarantine",
)
def test_f10_a_task_that_means_nothing_is_quarantined_and_the_others_go_on(
    host: Host, doc: str | bytes | None, fields: dict[str, object]
) -> None:
    host.configure(maxConcurrency=1)
    host.start()
    first = host.submit(shell="exit 4")
    host.finished(first)
    host.call("queue.set", name="default", paused=True)
    bad, ready = host.submit("true", priority=5, env={"SECRET": "hush"}), host.submit(shell="exit 5")
    assert host.stop() == 0
    found = poison(host, "tasks", bad, doc, **fields)

    host.start()
    host.call("queue.set", name="default", paused=False)
    assert host.finished(ready)["result"]["exit_code"] == 5
    (event,) = events(host, "task:quarantined")
    assert event["subject"] == f"task/{bad}"
    assert event["body"]["problem"]
    assert [t["id"] for t in host.call("task.list")["tasks"]] == [first, ready]
    assert host.finished(host.submit("true"))["status"] == "done"
    until(lambda: host.call("daemon.status")["tasks"] == {"done": 1, "failed": 2}, "it has counted what its rows say")
    (row,) = kept(host)
    assert (row["seq"], row["table"], row["doc"]) == (event["body"]["quarantine"], "tasks", found)
    assert (row["columns"]["id"], row["columns"]["status"]) == (bad, "pending")
    said(host, f"task/{bad}")
    assert "hush" not in host.log()


def test_a_quarantined_task_is_named_so_wherever_it_is_asked_for(host: Host) -> None:
    host.start()
    bad = host.submit("true", hold=True, idempotency_key="k")
    assert host.call("daemon.status")["quarantined"] == 0
    poison(host, "tasks", bad, "{broken")
    with host.client() as client:
        for method, params in (
            ("task.get", {"id": bad}),
            ("task.why", {"id": bad}),
            ("task.wait", {"ids": [bad]}),
            ("task.list", {"select": {"ids": [bad]}}),
            ("task.submit", {"command": ["true"], "depends_on": [bad]}),
        ):
            with pytest.raises(Refused, match=f"task {bad} is quarantined") as refused:
                client.call(method, **params)
            assert refused.value.word == "not_found"
        (result,) = client.call("task.cancel", select={"ids": [bad]})["results"]
        assert f"task {bad} is quarantined" in result["error"]["message"]
        assert client.error("task.submit", command=["true"], idempotency_key="k") == "conflict"
        assert client.error("task.get", id="77") == "not_found"
    shown = subprocess.run(
        [sys.executable, "-m", "polpoctl", "--socket", host.socket, "show", bad],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 3
    assert "is quarantined" in shown.stderr
    assert host.call("daemon.status")["quarantined"] == 1
    (told,) = (one for one in json.loads(host.maintain("--json", "doctor").stdout) if one["name"] == "quarantine")
    advised = subprocess.run(
        [sys.executable, "-m", *shlex.split(told["next"])], capture_output=True, text=True, check=True
    )
    assert f"task/{bad}" in advised.stdout
    said(host, f"task/{bad}")


def test_what_depends_on_a_quarantined_task_is_blocked_by_it(host: Host) -> None:
    """§13.168."""
    host.start()
    bad = host.submit("true", hold=True)
    waiting = host.submit("true", depends_on=[bad])
    last = host.submit("true", depends_on=[waiting])
    poison(host, "tasks", bad, "{broken")
    assert [t["state"] for t in host.call("task.list")["tasks"]] == ["blocked", "waiting"]
    assert host.task(waiting)["state"] == "blocked"
    because = host.call("task.why", id=waiting)
    assert f"task {bad} is quarantined" in because["sentences"][0]
    for task_id in (waiting, last):
        (seen,) = host.call("task.wait", ids=[task_id])["tasks"]
        assert (seen["outcome"], seen["message"]) == ("blocked", f"task {bad}, which it waits for, is quarantined")
    host.call("task.update", id=waiting, depends_on=[])
    assert host.finished(last)["status"] == "done"


def test_what_a_quarantined_task_depended_on_is_kept_with_it(host: Host) -> None:
    host.start()
    first = host.submit("true", hold=True)
    bad = host.submit("true", depends_on=[first])
    poison(host, "tasks", bad, "{broken")
    host.call("task.list")
    assert [(k["subject"], k["problem"][:7]) for k in kept(host)][1:] == [
        (f"dependency/{bad}/{first}", "it went"),
    ]
    host.call("task.release", select={"ids": [first]})
    assert host.finished(first)["status"] == "done"
    said(host, f"task/{bad}")


@pytest.mark.parametrize("how", ["running", "killed", "stopped"])
def test_the_run_of_a_quarantined_task_goes_on_and_is_collected(host: Host, how: str) -> None:
    """The row goes bad under a running daemon, between two daemons, or both."""
    host.configure(maxConcurrency=2, onShutdown="keep")
    host.start()
    gate = Path(host.root, "go")
    os.mkfifo(gate)
    bad = host.submit(shell=f"read line < {gate}; exit 7")
    run = host.running(bad)
    if how == "killed":
        host.kill()
    if how == "stopped":
        assert host.stop() == 0
    poison(host, "tasks", bad, status="exploded")
    if how != "running":
        host.start()
        until(lambda: host.call("daemon.status")["state"] == "running", "it has recovered")
    assert host.call("run.get", id=run["id"])["run"]["status"] == "running"
    gate.write_text("go\n")
    until(lambda: host.call("run.get", id=run["id"])["run"]["status"] == "failed", "the run is over")
    until(lambda: events(host, "run:late"), "it is collected")
    assert host.call("run.get", id=run["id"])["run"]["exit_code"] == 7
    assert host.finished(host.submit(shell="exit 5"))["result"]["exit_code"] == 5
    until(lambda: not os.path.exists(host.paths.run(run["id"]).path), "its directory is removed")
    assert len(events(host, "task:quarantined")) == 1
    said(host, f"task/{bad}")


def test_a_task_whose_spec_means_nothing_fails_and_lets_the_others_start(host: Host) -> None:
    host.configure(maxConcurrency=1)
    host.start()
    host.call("queue.set", name="default", paused=True)
    bad, ready = host.submit(shell="exit 4", env={"SECRET": "hush"}), host.submit(shell="exit 5")
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        ((spec_id,),) = db.execute("SELECT id FROM specs WHERE doc LIKE '%hush%'").fetchall()
    poison(host, "specs", spec_id, spec={"cwd": 1, "env": {"SECRET": "hush"}})
    host.call("queue.set", name="default", paused=False)
    assert host.finished(ready)["result"]["exit_code"] == 5
    task = host.finished(bad)
    assert (task["status"], task["result"]["reason"], task["attempts"]) == ("failed", "spawn_failed", 0)
    assert "could not be executed" in host.call("task.why", id=bad)["sentences"][0]
    (event,) = events(host, "spec:quarantined")
    assert event["subject"] == f"spec/{spec_id}"
    said(host, f"spec/{spec_id}")
    assert "hush" not in host.log() + json.dumps(host.call("event.list", after=0))
    again = host.submit(shell="exit 4", env={"SECRET": "hush"})
    assert host.finished(again)["result"]["exit_code"] == 4


def test_a_queue_that_means_nothing_is_paused_until_somebody_sets_it(host: Host) -> None:
    host.start()
    host.call("queue.set", name="q", slots=1, paused=True)
    task_id = host.submit(shell="exit 5", queue="q")
    poison(host, "queues", "q", slots="many")
    host.finished(host.submit("true"))
    (queue,) = [q for q in host.call("queue.list")["queues"] if q["name"] == "q"]
    assert queue["paused"]
    assert events(host, "queue:quarantined")[0]["subject"] == "queue/q"
    host.call("queue.set", name="q", paused=False)
    assert host.finished(task_id)["result"]["exit_code"] == 5
    said(host, "queue/q")


def test_an_event_that_means_nothing_keeps_its_place_in_the_journal(host: Host) -> None:
    host.start()
    for _ in range(3):
        host.submit("true", hold=True)
    last = host.call("event.list")["events"][-1]["seq"]
    for seq in (last - 1, last):
        poison(host, "events", str(seq), at="once upon a time")
    host.kill()

    host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    journal = host.call("event.list", after=0)["events"]
    assert [e["seq"] for e in journal] == list(range(1, len(journal) + 1))
    assert [e["seq"] for e in journal if e["kind"] == "event:quarantined"] == [last - 1, last]
    assert [k["subject"] for k in kept(host)] == [f"event/{last - 1}", f"event/{last}"]
    said(host, f"event/{last}")


@pytest.mark.parametrize("value", [{"doc": "{broken"}, {"value": "many"}], ids=["text", "number"])
@pytest.mark.parametrize("names", [["tasks.last_id"], ["tasks.last_seq"], ["runs.last_id"]], ids=lambda n: n[0])
def test_a_counter_that_means_nothing_goes_on_where_it_was(host: Host, names: list[str], value: dict[str, Any]) -> None:
    host.start()
    host.finished(host.submit("true"))
    host.submit("true", hold=True)
    host.call("task.remove", select={"ids": [host.submit("true", hold=True)]})
    assert host.stop() == 0
    for name in names:
        poison(host, "settings", name, **value)
    host.start()
    task_id = host.submit("true")
    assert task_id == "4"
    assert [r["id"] for r in host.runs(host.finished(task_id)["id"])] == [2]
    assert "Traceback" not in host.log(), host.log()


def test_a_hundred_bad_tasks_are_set_aside_together(host: Host) -> None:
    host.start()
    bad = [host.submit("true", hold=True) for _ in range(150)]
    good = host.submit("true", hold=True)
    with closing(sqlite3.connect(host.paths.tasks_db, timeout=60, isolation_level=None)) as db:
        db.execute("UPDATE tasks SET doc = '{broken' WHERE id <> ?", (good,))
    assert [t["id"] for t in host.call("task.list")["tasks"]] == [good]
    assert {
        e["subject"] for e in host.call("event.list", after=0, kinds=["task:quarantined"], limit=1000)["events"]
    } == {f"task/{i}" for i in bad}
    until(lambda: host.call("daemon.status")["tasks"] == {"pending": 1}, "it has counted what its rows say")
