"""What the daemon writes down by itself: metrics, agents' states, lifecycles, heartbeats, the audit."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.invariants import read_runs
from kit.jobs import waits_for
from kit.other_user import NOBODY, call_as, let_in
from kit.waiting import until

SECRET = "canary-91aa"


def docs(host: Host, table: str) -> list[dict[str, Any]]:
    """What is stored of a table, in the order of its keys."""
    with closing(sqlite3.connect(f"file:{host.paths.tasks_db}?mode=ro", uri=True)) as db:
        return [json.loads(doc) for (doc,) in db.execute(f'SELECT doc FROM "{table}" ORDER BY 1')]


def with_agents(host: Host, *names: str) -> None:
    """Takes effect at the next start."""
    agents = [{"name": name, "command": ["sh", "-c", "{prompt}"]} for name in names]
    Path(host.paths.config).write_text(json.dumps({"settings": {"reserve": 0}, "agents": agents}))


def entries(host: Host, method: str) -> list[dict[str, Any]]:
    return [entry for entry in docs(host, "audit_entries") if entry["tool_name"] == method]


def test_metrics_say_what_the_rows_of_the_runs_say(host: Host) -> None:
    """§13.189."""
    host.start()
    ids = [
        host.submit(shell=shell) for shell in ("exit 0", "exit 3", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    ]
    retried = host.submit(shell="exit 1", max_retries=1)
    for task_id in (*ids, retried):
        host.finished(task_id)
    metrics = {metric["id"]: metric for metric in docs(host, "task_metrics")}
    rows = read_runs(host.paths)
    assert len(metrics) == len(rows) == 5
    for run_id, row in rows.items():
        metric = metrics[f"run-{run_id:015d}"]
        assert metric["task_id"] == row["task_id"]
        assert metric["is_success"] is (row["status"] == "completed")
        assert metric["duration_seconds"] == row["duration"]
        assert metric["cpu_seconds"] == row["cpu_seconds"]
        assert metric["max_rss"] == row["max_rss"]
        assert (metric["started_at"], metric["completed_at"]) == (row["started_at"], row["ended_at"])
        assert metric["agent_id"] == "polpod"


def test_a_run_has_one_metric_however_often_its_collection_is_done(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="collect.applied")
    task_id = host.submit("true")
    until(lambda: host.daemon is not None and host.daemon.poll() is not None, "it died after the outcome was applied")
    host.start()
    host.finished(task_id)
    assert len(docs(host, "task_metrics")) == 1


def test_what_never_started_is_not_measured(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="launch.assigned")
    with suppress(EOFError, OSError):  # it may die before it answers
        host.submit("true")
    until(lambda: host.daemon is not None and host.daemon.poll() is not None, "it died before it asked for a runner")
    host.start()
    assert host.finished("1")["status"] == "done"
    assert len(read_runs(host.paths)) == 2
    assert [metric["is_success"] for metric in docs(host, "task_metrics")] == [True]


def test_removing_a_task_takes_along_what_was_kept_of_it(host: Host) -> None:
    host.start()
    kept, gone = host.submit("true"), host.submit("true")
    host.finished(kept)
    host.finished(gone)
    assert host.call("task.remove", select={"ids": [gone]})["results"] == [{"id": gone, "status": "removed"}]
    assert [metric["task_id"] for metric in docs(host, "task_metrics")] == [kept]


def test_an_agent_is_at_work_while_its_run_is_and_idle_otherwise(host: Host) -> None:
    with_agents(host, "ann", "bob")
    host.start()
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    go = host.root / "go"
    task_id = host.submit(agent="ann", description=waits_for(go))
    run = host.running(task_id)
    ann, bob = docs(host, "agent_states")
    assert (ann["agent_id"], ann["status"], ann["task_id"]) == ("ann", "executing", task_id)
    assert ann["execution_id"] == str(run["id"])
    assert (bob["agent_id"], bob["status"], bob["execution_id"]) == ("bob", "idle", None)
    host.kill()  # the run goes on, and so does what is known of the agent
    host.start()
    assert docs(host, "agent_states")[0]["status"] == "executing"
    go.touch()
    host.finished(task_id)
    assert docs(host, "agent_states")[0]["status"] == "idle"
    (metric,) = docs(host, "task_metrics")
    assert metric["agent_id"] == "ann"


def test_an_agent_with_two_runs_is_at_work_until_both_are_over(host: Host) -> None:
    with_agents(host, "ann")
    host.start()
    goes = [host.root / "one", host.root / "two"]
    ids = [host.submit(agent="ann", description=waits_for(go)) for go in goes]
    for task_id in ids:
        host.running(task_id)
    goes[1].touch()
    host.finished(ids[1])
    (state,) = docs(host, "agent_states")
    assert (state["status"], state["task_id"]) == ("executing", ids[0])
    goes[0].touch()
    host.finished(ids[0])
    assert docs(host, "agent_states")[0]["status"] == "idle"


def test_agents_that_come_and_go_between_two_starts_are_hired_and_fired(host: Host) -> None:
    def told() -> list[tuple[str, str]]:
        events = [(event["event_type"], event["agent_id"]) for event in docs(host, "lifecycle_events")]
        return sorted(event for event in events if event[0] != "status_changed")

    def restart(*names: str) -> None:
        with_agents(host, *names)
        host.start()
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        assert host.stop() == 0

    restart("ann", "bob")
    assert told() == [("hired", "ann"), ("hired", "bob")]
    restart("ann", "bob")
    assert len(told()) == 2
    restart("bob", "cid")
    assert told() == [("fired", "ann"), ("hired", "ann"), ("hired", "bob"), ("hired", "cid")]
    assert [state["agent_id"] for state in docs(host, "agent_states")] == ["bob", "cid"]
    written = {s["key"]: s["value"] for s in docs(host, "namespaced_settings") if s["namespace"] == "polpod"}
    assert json.loads(written["agents"]) == ["bob", "cid"]
    assert written["version"] == host.command("--version").stdout.split()[-1]


def test_each_change_of_an_agents_state_is_a_lifecycle_event(host: Host) -> None:
    with_agents(host, "ann")
    host.start()
    task_id = host.submit(agent="ann", description="true")
    host.finished(task_id)
    changed = [event["metadata"] for event in docs(host, "lifecycle_events") if event["event_type"] == "status_changed"]
    assert sorted(changed, key=lambda m: m["from"], reverse=True) == [
        {"from": "idle", "to": "executing", "task_id": task_id},
        {"from": "executing", "to": "idle"},
    ]


def test_the_audit_knows_who_asked_for_what_and_what_was_refused(host: Host) -> None:
    host.start()
    let_in(host.paths.path, host.socket)
    params = {"shell": f"echo {SECRET}", "cwd": "/", "hold": True}
    task_id = host.submit(**params)
    with pytest.raises(Refused):
        host.call("task.update", id="999", title="x")
    member = NOBODY if os.geteuid() == 0 else os.geteuid()
    call_as(member, host.socket, [("queue.set", {"name": "default", "paused": False})])
    with pytest.raises(Refused):
        host.call("task.update", id="x" * 2**20, title="x")
    host.call("task.list")
    assert host.stop() == 0  # what was noted is stored before the end
    (submitted,) = entries(host, "task.submit")
    digest = hashlib.sha256(json.dumps(params, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert submitted["arguments_hash"] == digest
    assert (submitted["verdict"], submitted["task_id"], submitted["action_type"]) == ("allow", task_id, "task:submit")
    assert submitted["reason"] == f"uid {os.geteuid()}"
    updated, long = entries(host, "task.update")
    assert long["task_id"] is None
    assert (updated["verdict"], updated["reason"]) == ("allow", f"uid {os.geteuid()}: not_found")
    (paused,) = entries(host, "queue.set")
    refused = os.geteuid() == 0
    assert paused["verdict"] == ("deny" if refused else "allow")
    assert paused["agent_id"] == f"uid {member}"
    assert paused["reason"].endswith(": permission_denied") is refused
    assert entries(host, "task.list") == []
    assert SECRET not in json.dumps(docs(host, "audit_entries"))


def test_the_audit_survives_a_kill_once_it_is_stored(host: Host) -> None:
    host.start()
    host.submit("true")
    until(lambda: entries(host, "task.submit"), "it is stored")
    host.kill()
    host.start()
    assert len(entries(host, "task.submit")) == 1


def test_the_audit_is_listed_newest_last_and_for_the_owner_only(host: Host) -> None:
    host.start()
    let_in(host.paths.path, host.socket)
    for _ in range(3):
        host.submit("true")
    member = NOBODY if os.geteuid() == 0 else os.geteuid()
    (answer,) = call_as(member, host.socket, [("audit.list", {})])
    refused = os.geteuid() == 0
    assert ("error" in answer) is refused

    def listed(*options: str) -> list[dict[str, Any]]:
        argv = [sys.executable, "-m", "polpoctl", "audit", "--json", "--socket", host.socket, *options]
        found: list[dict[str, Any]] = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
        return found

    assert [entry["task_id"] for entry in listed("--method", "task.submit")] == ["1", "2", "3"]
    assert [entry["task_id"] for entry in listed("--method", "task.submit", "-n", "2")] == ["2", "3"]
    assert [entry["tool_name"] for entry in listed("--denied")] == ["audit.list"] * refused
    assert len(listed("--who", f"uid {os.geteuid()}", "--method", "task.submit")) == 3
    first, second = host.call("audit.list", limit=2), host.call("audit.list", method="task.submit", limit=2)
    assert len(first["entries"]) == 2
    rest = host.call("audit.list", method="task.submit", before=second["next"])
    assert [entry["task_id"] for entry in (*second["entries"], *rest["entries"])] == ["3", "2", "1"]


def test_what_agents_and_clients_did_long_ago_is_forgotten(host: Host) -> None:
    """Retention: the audit, messages, lifecycle events and heartbeats by age."""
    with_agents(host, "ann")
    host.start()
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    host.call("message.send", channel="c", text="old")
    host.call("store.prune")  # as the daemon does when it starts, and again in an hour
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        for table in ("lifecycle_events", "messages"):
            assert db.execute(f"UPDATE {table} SET timestamp = ?", ("2020-01-02T03:04:05.000000Z",)).rowcount == 1
        db.commit()
    host.call("message.send", channel="c", text="new")
    assert host.call("store.prune", dry_run=True)["records"] == 2
    assert host.call("store.prune")["records"] == 2
    assert [message["content"] for message in docs(host, "messages")] == ["new"]
    assert docs(host, "lifecycle_events") == []


def test_what_an_agent_does_now_is_listed_with_it(host: Host) -> None:
    with_agents(host, "ann")
    host.start()
    go = host.root / "go"
    task_id = host.submit(agent="ann", description=waits_for(go))
    host.running(task_id)
    (agent,) = host.call("agent.list")["agents"]
    assert (agent["name"], agent["state"]["status"], agent["state"]["task_id"]) == ("ann", "executing", task_id)
    go.touch()
    host.finished(task_id)
