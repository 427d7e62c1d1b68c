"""Workflows on a real daemon: carried out as missions, through kills of it, and by polpoctl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.other_user import NOBODY, call_as, let_in
from kit.waiting import until

POLPOCTL = "import sys; from polpoctl.__main__ import main; sys.argv[0] = 'polpoctl'; main()"
MEMBER = os.geteuid() == 0
TYPES = {"s": "start", "e": "end", "split": "parallel_split", "join": "parallel_join"}
PATHS = ("s a split b join d e", "split c join")


def workflow(host: Host, name: str = "release", **configs: Any) -> dict[str, Any]:
    """a, then b and c side by side, then d; each leaves a trace."""
    pairs = [pair for path in PATHS for pair in zip(path.split(), path.split()[1:], strict=False)]
    return {
        "id": "w1",
        "name": name,
        "nodes": [
            {"id": n, "type": TYPES.get(n, "task"), "label": n.upper(), "config": {} if n in TYPES else _config(host, n, configs)}
            for n in dict.fromkeys(n for pair in pairs for n in pair)
        ],
        "edges": [{"id": f"{a}-{b}", "source_node_id": a, "target_node_id": b} for a, b in pairs],
    }  # fmt: skip


def _config(host: Host, node: str, configs: dict[str, Any]) -> dict[str, Any]:
    return configs.get(node, {"shell": f"echo {node} >> trace", "cwd": str(host.root)})


def stands(host: Host, execution: str = "1.1") -> dict[str, Any]:
    found: dict[str, Any] = host.surely("workflow_execution.get", id=execution)["workflow_execution"]
    return found


def over(host: Host, execution: str = "1.1") -> dict[str, Any]:
    return until(
        lambda: one if (one := stands(host, execution))["status"] != "running" else None, f"{execution} is over"
    )


def tasks(execution: dict[str, Any]) -> dict[str, str]:
    return {n["node_id"]: n["status"] for n in execution["node_executions"] if n["node_type"] == "task"}


def trace(host: Host) -> list[str]:
    return (host.root / "trace").read_text().split()


def ctl(host: Host, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", POLPOCTL, *argv[:1], "--socket", host.socket, *argv[1:]]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/", check=False, input=stdin)


def test_a_workflow_is_carried_out_through_kills_and_by_polpoctl(host: Host) -> None:
    gate = host.root / "gate"
    hold = {"shell": f"while [ ! -e {gate} ]; do sleep 0.02; done; echo b >> trace", "cwd": str(host.root)}
    host.start()
    assert ctl(host, "workflow", "add", stdin=json.dumps(workflow(host, b=hold))).stdout == "w1\n"
    begun = ctl(host, "workflow", "execute", "w1", "--project", "home")
    assert (begun.returncode, begun.stdout, begun.stderr) == (0, "1.1\n", "")
    until(lambda: tasks(stands(host))["c"] == "task_completed", "c is done")
    host.kill()
    gate.touch()
    host.start()
    ended = over(host)
    assert (ended["status"], ended["definition_version"], ended["project"]) == ("completed", 1, "home")
    assert set(tasks(ended).values()) == {"task_completed"}
    assert sorted(trace(host)) == ["a", "b", "c", "d"]
    assert (trace(host)[0], trace(host)[-1]) == ("a", "d")
    mission = host.call("mission.get", id="release")
    assert {task["project"] for task in mission["tasks"]} == {"home"}
    assert mission["execution"]["trigger"] == "workflow"
    kinds = [event["kind"] for event in host.call("event.list", kinds=["workflow:*"])["events"]]
    assert kinds == ["workflow:added", "workflow:executed", "workflow:completed"]
    shown = ctl(host, "workflow", "executions", "w1").stdout.split("\t")
    assert shown[:6] == ["1.1", "w1", "1", "completed", "4/4", "home"]
    assert ctl(host, "workflow", "executions", "w2").stdout == ""

    again = json.loads(ctl(host, "workflow", "show", "w1", "--json").stdout)  # the next version has its own document
    again["nodes"] = [n | {"config": {"shell": "exit 3"}} if n["id"] == "a" else n for n in again["nodes"]]
    assert ctl(host, "workflow", "save", stdin=json.dumps(again)).returncode == 0
    assert json.loads(ctl(host, "workflow", "execute", "w1", "--json").stdout)["execution"]["id"] == "1.2"
    assert "exit 3" in host.call("mission.document", id="release")["document"]
    failed = over(host, "1.2")
    assert (failed["status"], failed["definition_version"], tasks(failed)["d"]) == ("failed", 2, "task_failed")
    assert failed["error"].startswith("4 of 4 tasks were not done: A (failed)")
    assert [e["id"] for e in host.call("workflow_execution.list")["workflow_executions"]] == ["1.2", "1.1"]
    assert host.call("mission.delete", id="release") == {"tasks": 8}
    assert host.call("workflow_execution.list")["workflow_executions"] == []


def test_one_that_is_aborted_or_resumed_says_so(host: Host) -> None:
    host.start()
    host.call(
        "workflow.add", definition=workflow(host, b={"shell": "sleep 1000"}, c={"shell": f"[ -e {host.root}/ok ]"})
    )
    host.call("workflow.execute", id="w1")
    until(lambda: tasks(stands(host))["c"] == "task_failed", "c failed")
    assert stands(host)["status"] == "running"
    with pytest.raises(Refused, match=r"execution 1\.1 is active"):
        host.call("workflow.execute", id="w1")
    host.call("mission.abort", id="release")
    assert (over(host)["status"], tasks(over(host))["d"]) == ("cancelled", "task_failed")

    host.call("workflow.save", id="w1", version=1, definition=workflow(host, c={"shell": f"[ -e {host.root}/ok ]"}))
    host.call("workflow.execute", id="w1")
    assert over(host, "1.2")["status"] == "failed"
    (host.root / "ok").touch()
    host.call("mission.resume", id="release", retry_failed=True)
    until(lambda: stands(host, "1.2")["status"] == "completed", "it was tried again")
    assert (stands(host, "1.2")["error"], set(tasks(stands(host, "1.2")).values())) == (None, {"task_completed"})


def test_death_as_a_workflow_is_executed_leaves_both_halves_or_none(host: Host) -> None:
    died = host.root / "died"
    host.start(POLPOD_CRASH_AT="mission.executed", POLPOD_CRASH_ONCE=str(died))
    host.call("workflow.add", definition=workflow(host))
    with host.client() as client:
        client.send("workflow.execute", id="w1")
        until(died.exists, "it was stored, and nobody heard of it")
    until(host.survive, "the daemon is dead")
    assert over(host)["status"] == "completed"
    assert sorted(trace(host)) == ["a", "b", "c", "d"]


def test_what_cannot_be_carried_out_leaves_nothing_behind(host: Host) -> None:
    host.start()
    host.call("workflow.add", definition=workflow(host, a={"command": []}))
    for params, word, said in (
        ({"id": "w1"}, "invalid", r"\$.nodes\[1\].config.command: node 'A': "),
        ({"id": "w2"}, "not_found", "polpoctl workflow list"),
        ({"id": "w1", "project": " "}, "invalid", r"\$.project"),
        ({"id": "w1", "projekt": "x"}, "invalid", r"\$.projekt"),
    ):
        with pytest.raises(Refused, match=said) as refused:
            host.call("workflow.execute", **params)
        assert refused.value.word == word
    host.call("workflow.save", id="w1", version=1, definition=workflow(host))
    with pytest.raises(Refused, match=r"\$.project: "):
        host.call("workflow.execute", id="w1", project="a\0")
    host.call("mission.create", name="release", document=json.dumps({"tasks": [{"title": "a", "command": ["true"]}]}))
    with pytest.raises(Refused, match="is not made of this workflow"):
        host.call("workflow.execute", id="w1")
    assert host.call("workflow_execution.list")["workflow_executions"] == []
    assert host.call("task.list", all=True)["tasks"] == []
    with pytest.raises(Refused, match=r"no workflow execution 1\.1"):
        host.call("workflow_execution.get", id="1.1")
    for argv in (("execute",), ("execute", "a", "b"), ("executions", "a", "b"), ("list", "--project", "x")):
        assert ctl(host, "workflow", *argv).returncode == 2
    assert ctl(host, "workflow", "execute", "w2").returncode == 3


def test_what_another_user_carried_out_is_that_users(host: Host) -> None:
    host.start()
    host.call("workflow.add", definition=workflow(host))
    host.call("workflow.execute", id="w1")
    over(host)
    let_in(host.paths.path, host.socket)
    (answer,) = call_as(NOBODY if MEMBER else os.geteuid(), host.socket, [("workflow.execute", {"id": "w1"})])
    assert answer.get("error", {}).get("data", {}).get("type") == ("permission_denied" if MEMBER else None)
