"""polpod's agents work on A2A tasks: what was said is their prompt, and what became of it is in the A2A task, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.waiting import until

from polpod.rules.a2a import LARGEST
from polpod.services.assignments import TAIL

POLPOCTL = "import sys; from polpoctl.__main__ import main; sys.argv[0] = 'polpoctl'; main()"

AGENTS = {
    "echo": ["echo", "done:", "{prompt}"],
    "sleep": ["sleep", "1000"],
    "fail": ["sh", "-c", "echo no; exit 3"],
    "long": ["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; printf '\\0end'"],
}


def begin(host: Host) -> None:
    """A daemon with these agents."""
    agents = [{"name": name, "command": command} for name, command in AGENTS.items()]
    Path(host.paths.config).write_text(json.dumps({"settings": {"reserve": 0}, "agents": agents}))
    host.start()


def say(host: Host, text: str, role: str = "user", **part: Any) -> None:
    parts = [part or {"type": "text", "text": text}]
    host.call("a2a.upsert", params={"id": "t", "message": {"role": role, "parts": parts}})


def assign(host: Host, agent: str = "echo") -> str:
    return str(host.surely("a2a.assign", id="t", agent=agent)["task_id"])


def a2a(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = host.surely("a2a.get", id="t")["stored"]["task"]
    return found


def state(host: Host) -> str:
    return str(a2a(host)["status"]["state"])


def reaches(host: Host, wanted: str) -> None:
    until(lambda: state(host) == wanted, f"the A2A task is {wanted}")


def logs(host: Host) -> list[str]:
    return [artifact["parts"][0]["text"] for artifact in a2a(host)["artifacts"] or ()]


def ctl(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", POLPOCTL, *argv[:1], "--socket", host.socket, *argv[1:]]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/", check=False)


def test_an_agent_works_on_what_was_said_last_once_for_each_message(host: Host) -> None:
    begin(host)
    say(host, "first")
    say(host, "second")
    assigned = ctl(host, "a2a", "assign", "t", "echo")
    assert (assigned.returncode, assigned.stderr) == (0, "")
    task_id = assigned.stdout.strip()
    reaches(host, "completed")
    assert logs(host) == ["done: second\n"]
    (artifact,) = a2a(host)["artifacts"]
    assert (artifact["name"], artifact["index"], artifact["lastChunk"]) == (f"log of task {task_id}", 0, True)
    outcome = {"task_id": task_id, "run_id": 1, "status": "done", "reason": "exited", "exit_code": 0}
    assert artifact["metadata"] == {"polpod": outcome}
    assert assign(host) == task_id  # again: the same
    host.call("task.update", id=task_id, priority=1)  # a change that means nothing for it
    say(host, "an answer", role="agent")
    assert host.call("a2a.assign", id="t", agent="echo") == {"task_id": task_id, "created": False}
    say(host, "third")
    other = assign(host, "fail")
    assert (other != task_id, state(host) in ("submitted", "working", "failed")) == (True, True)
    reaches(host, "failed")
    assert logs(host) == ["done: second\n", "no\n"]
    assert a2a(host)["artifacts"][1]["metadata"]["polpod"]["exit_code"] == 3
    host.call("task.retry", select={"ids": [other]})
    until(lambda: len(logs(host)) == 3, "the second run is there, too")
    reaches(host, "failed")
    kinds = [e["body"] for e in host.call("event.list", kinds=["a2a:assigned"])["events"]]
    assert [(k["task_id"], k["agent"]) for k in kinds] == [(task_id, "echo"), (other, "fail")]


def test_cancelling_it_cancels_the_task_and_ends_its_job(host: Host) -> None:
    begin(host)
    say(host, "wait")
    task_id = assign(host, "sleep")
    host.running(task_id)
    reaches(host, "working")
    say(host, "more")
    with pytest.raises(Refused, match=f"task {task_id} still works on what was said before"):
        assign(host)
    status = {"state": "canceled", "timestamp": "2026-03-01T12:00:00Z"}
    host.call("a2a.update", id="t", changes={"status": status})
    assert host.finished(task_id)["status"] == "cancelled"
    until(lambda: logs(host) == [""], "its end is reported")
    assert state(host) == "canceled"
    assert host.runs(task_id)[-1]["reason"] == "cancelled"


def test_the_same_through_the_death_of_the_daemon(host: Host) -> None:
    died = host.root / "died"
    begin(host)
    host.kill()
    host.start(POLPOD_CRASH_AT="a2a.reported", POLPOD_CRASH_ONCE=str(died))
    say(host, "x")
    task_id = assign(host)
    until(host.survive, "it died after the first report")
    assert host.finished(task_id)["status"] == "done"
    reaches(host, "completed")
    assert logs(host) == ["done: x\n"]
    host.kill()
    host.start()
    host.call("task.remove", select={"ids": [task_id]})
    assert (state(host), logs(host)) == ("completed", ["done: x\n"])


def test_a_task_that_is_removed_before_it_ran_is_canceled(host: Host) -> None:
    begin(host)
    say(host, "x")
    host.call("queue.set", name="default", paused=True)
    task_id = assign(host)
    assert state(host) == "submitted"
    host.call("task.remove", select={"ids": [task_id]})
    reaches(host, "canceled")
    assert logs(host) == []
    host.call("a2a.remove", id="t")
    say(host, "anew")
    other = assign(host)
    host.call("a2a.remove", id="t")  # whose task goes on by itself
    host.call("queue.set", name="default", paused=False)
    assert host.finished(other)["status"] == "done"


def test_what_does_not_fit_is_left_out(host: Host) -> None:
    begin(host)
    say(host, "x" * (LARGEST - TAIL))
    assign(host, "long")
    reaches(host, "completed")
    assert logs(host) == []
    assert "not all is said" in host.log()
    host.call("a2a.remove", id="t")
    say(host, "x")
    assign(host, "long")
    reaches(host, "completed")
    (text,) = logs(host)
    assert text == "x" * (TAIL - 4) + "\N{REPLACEMENT CHARACTER}end"


def test_what_cannot_be_assigned_is_refused(host: Host) -> None:
    begin(host)
    with pytest.raises(Refused, match="no A2A task 't'"):
        assign(host)
    say(host, "", type="data", data={})
    with pytest.raises(Refused, match="no text in what the user said last"):
        assign(host)
    say(host, "x")
    for params, path in (
        ({"id": "t", "agent": "nobody"}, "$.agent"),
        ({"id": "t", "agent": ""}, "$.agent"),
        ({"id": "t"}, "$.agent"),
    ):
        with pytest.raises(Refused) as refused:
            host.call("a2a.assign", **params)
        assert refused.value.data["path"] == path
    for argv in (("assign", "t"), ("assign", "t", "echo", "x"), ("show",), ("list", "x"), ("remove",)):
        assert ctl(host, "a2a", *argv).returncode == 2
    assert host.call("task.list", all=True)["tasks"] == []
