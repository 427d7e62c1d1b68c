"""a2a.* of a real daemon: durable, nobody else's business, bounded; and polpoctl's way to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.other_user import NOBODY, call_as, command, let_in

POLPOCTL = "import sys; from polpoctl.__main__ import main; sys.argv[0] = 'polpoctl'; main()"
MEMBER = os.geteuid() == 0
"""Without root nobody can become another user: then the same calls are made as the owner, who may."""
UID = NOBODY if MEMBER else os.geteuid()


def message(said: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "text": said}]}


def upsert(host: Host, task_id: str = "t", said: str = "hi", **params: Any) -> Any:
    return host.call("a2a.upsert", params={"id": task_id, "message": message(said)}, **params)["stored"]


def say(host: Host, said: str, task_id: str = "t", **params: Any) -> Any:
    return host.call("a2a.update", id=task_id, changes={"new_messages": [message(said)]}, **params)["stored"]


def texts(stored: Any) -> list[str]:
    return [part["text"] for m in stored["task"]["history"] for part in m["parts"]]


def get(host: Host, task_id: str = "t", **params: Any) -> Any:
    return host.call("a2a.get", id=task_id, **params)["stored"]


def ctl(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", POLPOCTL, *argv[:1], "--socket", host.socket, *argv[1:]]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/", check=False)


def test_what_was_answered_outlives_the_daemon(host: Host) -> None:
    """Elkar 17: SIGKILL between any two calls."""
    host.start()
    upsert(host, caller_id="alice", is_streaming=True)
    host.kill()
    host.start()
    changed = say(host, "two")
    host.kill()
    host.start()
    assert get(host) == changed
    assert (changed["caller_id"], changed["is_streaming"], texts(changed)) == ("alice", True, ["hi", "two"])
    assert changed["task"]["status"]["state"] == "submitted"
    events = host.call("event.list", kinds=["a2a:*"])["events"]
    assert [(e["kind"], e["subject"]) for e in events] == [("a2a:created", "a2a/t"), ("a2a:updated", "a2a/t")]


def test_a_call_is_known_again_after_a_crash(host: Host) -> None:
    host.start()
    upsert(host, once={"client": "c", "number": 1})
    host.kill()
    host.start()
    upsert(host, once={"client": "c", "number": 1})
    say(host, "two", once={"client": "c", "number": 2})
    assert texts(say(host, "two", once={"client": "c", "number": 2})) == ["hi", "two"]


APPENDING = """
import sys
from kit.client import Client
path, name, count = sys.argv[1:]
with Client(path) as client:
    for number in range(int(count)):
        said = {"role": "agent", "parts": [{"type": "text", "text": f"{name}{number}"}]}
        client.call("a2a.update", id="t", changes={"new_messages": [said]})
"""


def test_two_processes_append_at_once_and_nothing_is_lost(host: Host) -> None:
    """Elkar 18."""
    host.start()
    upsert(host)
    tests = {"PYTHONPATH": str(Path(__file__).parents[1])}
    argv = [sys.executable, "-c", APPENDING, host.socket]
    writers = [subprocess.Popen([*argv, name, "50"], env=os.environ | tests) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    said = texts(get(host))
    assert [s for s in said if s[0] == "a"] == [f"a{n}" for n in range(50)]
    assert [s for s in said if s[0] == "b"] == [f"b{n}" for n in range(50)]
    assert len(said) == 101


def test_what_is_wrong_is_named(host: Host) -> None:
    host.start()
    upsert(host)
    for params, path in (
        ({"params": {"id": "", "message": message("x")}}, "$.params.id"),
        ({"params": {"id": "x", "message": {"role": "user", "parts": [{"type": "text"}]}}}, "$.params.message.parts[0].text"),
        ({"params": {"id": "x", "message": message("a\0")}}, "$.params.message.parts[0].text"),
        ({"params": {"id": "x", "message": message("x")}, "callerId": "a"}, "$.callerId"),
        ({"params": {"id": "x", "message": message("x")}, "once": {"client": "c"}}, "$.once.number"),
    ):  # fmt: skip
        with pytest.raises(Refused) as refused:
            host.call("a2a.upsert", **params)
        assert (refused.value.word, refused.value.data["path"]) == ("invalid", path)
    with host.client() as client:
        assert client.error("a2a.get", id="t", history_length=-1) == "invalid"
        assert client.error("a2a.update", id="t", changes={"state": "working"}) == "invalid"
        assert client.error("a2a.update", id="gone", changes={}) == "not_found"
        assert client.error("a2a.remove", id="gone") == "not_found"
        assert (
            client.error("a2a.upsert", params={"id": "t", "message": message("x")}, caller_id="a")
            == "permission_denied"
        )
        assert client.error("a2a.upsert", params={"id": "big", "message": message("x" * 2**18)}) == "too_large"
    assert get(host, "gone") is None
    assert texts(get(host)) == ["hi"]


def test_a_full_disk_takes_no_message_and_still_an_agent_s_word(host: Host) -> None:
    """Below the reserve nothing new is taken in, while what is under way may end (F49)."""
    host.start()
    upsert(host)
    host.stop()
    host.configure(reserve=2**53)
    host.start()
    with host.client() as client:
        assert client.error("a2a.upsert", params={"id": "t", "message": message("x")}) == "disk_full"
    assert texts(say(host, "done")) == ["hi", "done"]


def test_pages(host: Host) -> None:
    host.start()
    for number in range(5):
        upsert(host, f"t{number}", caller_id="alice")
    first = host.call("a2a.list", limit=3)
    rest = host.call("a2a.list", limit=3, before=first["next"])
    assert [t["id"] for t in (*first["tasks"], *rest["tasks"])] == ["t4", "t3", "t2", "t1", "t0"]
    assert rest["next"] is None
    task = first["tasks"][0]
    assert (task["state"], task["caller_id"], task["messages"], task["artifacts"]) == ("submitted", "alice", 1, 0)
    assert (task["created_by"], task["created_run"]) == (os.geteuid(), None)
    assert "history" not in json.dumps(first)


def word(answer: dict[str, Any]) -> str | None:
    error = answer.get("error")
    return error["data"]["type"] if error else None


def test_another_user_has_to_do_with_its_own_alone(host: Host) -> None:
    host.start()
    let_in(host.paths.path, host.socket)
    upsert(host, "ours", "canary")
    answers = call_as(
        UID,
        host.socket,
        [
            ("a2a.get", {"id": "ours"}),
            ("a2a.upsert", {"params": {"id": "ours", "message": message("x")}}),
            ("a2a.update", {"id": "ours", "changes": {}}),
            ("a2a.remove", {"id": "ours"}),
            ("a2a.upsert", {"params": {"id": "theirs", "message": message("x")}}),
            ("a2a.list", {}),
            ("a2a.update", {"id": "theirs", "changes": {"new_messages": [message("y")]}}),
        ],
    )
    if MEMBER:
        assert [word(a) for a in answers] == [None, "permission_denied", "not_found", "not_found", None, None, None]
        assert answers[0]["result"] == {"stored": None}
        assert "canary" not in json.dumps(answers)
        assert texts(get(host, "ours")) == ["canary"]
    else:
        assert [word(a) for a in answers] == [None] * 7
    assert [t["id"] for t in answers[5]["result"]["tasks"]] == ["theirs"]
    assert texts(get(host, "theirs")) == ["x", "y"]
    assert {t["id"]: t["created_by"] for t in host.call("a2a.list")["tasks"]}["theirs"] == UID


def test_a_run_has_to_do_with_its_own_alone(host: Host) -> None:
    host.start()
    upsert(host, "ours", "canary")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("a2a.upsert", {"params": {"id": "own", "message": message("x")}}),
        ("a2a.update", {"id": "own", "changes": {"new_messages": [message("y")]}}),
        ("a2a.list", {}),
        ("a2a.get", {"id": "ours"}),
    ]
    answers_to = host.root / "answers"
    task_id = host.submit("sh", "-c", f'"$@" > {answers_to}', "sh", *command(host.socket, calls))
    assert host.finished(task_id)["status"] == "done"
    answers = json.loads(answers_to.read_text())
    assert [word(a) for a in answers] == [None] * 4
    assert texts(get(host, "own")) == ["x", "y"]
    inside = host.call("daemon.status")["containment"] == "cgroup"
    assert [t["id"] for t in answers[2]["result"]["tasks"]] == (["own"] if inside else ["own", "ours"])
    assert (answers[3]["result"]["stored"] is None) is inside
    made = {t["id"]: t["created_run"] for t in host.call("a2a.list")["tasks"]}
    assert made == {"ours": None, "own": host.runs(task_id)[-1]["id"] if inside else None}


def test_polpoctl_lists_shows_and_forgets(host: Host) -> None:
    host.start()
    upsert(host, "one", "what is\nthis?", caller_id="alice")
    upsert(host, "two")
    parts = [{"type": "text", "text": "a"}, {"type": "data", "data": {"k": 1}}]
    push = {"url": "https://example.org/told", "token": "canary"}
    host.call("a2a.update", id="one", changes={"artifacts_updates": [{"parts": parts}], "push_notification": push})
    listed = ctl(host, "a2a")
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [row[:5] for row in rows] == [["two", "submitted", "", "1", "0"], ["one", "submitted", "alice", "1", "1"]]
    assert [t["id"] for t in json.loads(ctl(host, "a2a", "--json", "list", "--limit", "1").stdout)] == ["two"]
    shown = ctl(host, "a2a", "show", "one")
    assert (shown.returncode, shown.stderr) == (0, "")
    fields = dict(line.split("\t") for line in shown.stdout.splitlines())
    assert (fields["caller"], fields["user"], fields["artifact 0"]) == ("alice", "what is\\nthis?", "a (data)")
    assert fields["push"] == push["url"]
    assert "canary" not in shown.stdout
    assert json.loads(ctl(host, "a2a", "--json", "show", "one").stdout) == get(host, "one")
    gone = ctl(host, "a2a", "show", "three")
    assert (gone.returncode, gone.stdout, gone.stderr) == (3, "", "polpoctl: there is no A2A task three\n")
    removed = ctl(host, "a2a", "remove", "one", "two")
    assert (removed.returncode, removed.stdout, removed.stderr) == (0, "", "")
    again = ctl(host, "a2a", "remove", "one")
    assert (again.returncode, again.stderr) == (3, "polpoctl: there is no A2A task 'one'\n")
    assert ctl(host, "a2a").stdout == ""


@pytest.mark.parametrize(
    "argv", [("show",), ("show", "a", "b"), ("remove",), ("list", "a"), ("forget", "a"), ("--limit", "0")]
)
def test_polpoctl_refuses_what_makes_no_sense(argv: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", POLPOCTL, "a2a", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
