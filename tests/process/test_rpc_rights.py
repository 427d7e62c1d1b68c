"""Who may do what: polpod's user and root everything, members their own, a run what a run needs (DESIGN §9)."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.other_user import NOBODY, call_as, command, let_in

CANARY = "canary-5d1b"
SECRET = {"shell": "true", "hold": True, "cwd": "/", "env": {"TOKEN": CANARY}}
UID = NOBODY if os.geteuid() == 0 else os.geteuid()
MEMBER = os.geteuid() == 0
"""Without root nobody can become another user: then the same calls are made as the owner, who may."""


AT = "2026-11-21T12:00:00.000000Z"


@pytest.fixture
def shared(host: Host) -> Iterator[Host]:
    host.start()
    let_in(host.paths.path, host.socket)
    yield host
    assert "Traceback" not in host.log(), host.log()


def word(answer: dict[str, Any]) -> str | None:
    """What was refused, by its word; None: nothing."""
    error = answer.get("error")
    return error["data"]["type"] if error else None


def test_another_user_sees_tasks_but_not_the_values_of_their_environment(shared: Host) -> None:
    task_id = shared.submit(**SECRET)
    seen, listed, events, values = call_as(
        UID,
        shared.socket,
        [
            ("task.get", {"id": task_id}),
            ("task.list", {}),
            ("event.list", {}),
            ("task.get", {"id": task_id, "env": True}),
        ],
    )
    assert seen["result"]["task"]["spec"]["env"] == ["TOKEN"]
    assert [t["id"] for t in listed["result"]["tasks"]] == [task_id]
    assert CANARY not in json.dumps([seen, listed, events])
    assert (word(values), CANARY in json.dumps(values)) == (("permission_denied", False) if MEMBER else (None, True))
    assert shared.call("task.get", id=task_id, env=True)["task"]["spec"]["env"] == {"TOKEN": CANARY}


def test_what_agents_and_missions_know_stays_with_whose_they_are(shared: Host) -> None:
    shared.call("agent.add", name="keeper", command=["true"], env={"TOKEN": CANARY})
    said = {"tasks": [{"title": "t", "command": ["true"], "env": {"TOKEN": CANARY}}]}
    for n, name in enumerate(("m1", "m2")):
        mission: Any = ("mission.create", {"name": name, "document": json.dumps(said)})
        call_as((os.geteuid(), UID)[n], shared.socket, [mission])
    mine = {"agent": "keeper", "description": "d", "hold": True, "env": {"OWN": "seen"}}
    (submitted,) = call_as(UID, shared.socket, [("task.submit", mine)])
    values = {"id": submitted["result"]["id"], "env": True}
    theirs, own, task = call_as(
        UID,
        shared.socket,
        [("mission.document", {"id": "m1"}), ("mission.document", {"id": "m2"}), ("task.get", values)],
    )
    assert (word(theirs), CANARY in json.dumps(own)) == ("permission_denied" if MEMBER else None, True)
    assert task["result"]["task"]["spec"]["env"] == {"OWN": "seen", "TOKEN": None if MEMBER else CANARY}
    assert shared.call("task.get", **values)["task"]["spec"]["env"]["TOKEN"] == CANARY


def test_another_user_sees_missions_but_neither_their_documents_nor_changes_them(shared: Host) -> None:
    """W41: a document has the values of environments, as a task's spec has."""
    task = {"title": "a", "shell": "true", "env": {"TOKEN": CANARY}, "queue": "paused"}
    shared.call("queue.set", name="paused", paused=True)
    shared.call("mission.create", name="m", document=json.dumps({"tasks": [task]}))
    (begun,) = call_as(UID, shared.socket, [("mission.execute", {"id": "m"})])
    assert word(begun) == ("permission_denied" if MEMBER else None)
    if MEMBER:
        shared.call("mission.execute", id="m")
    looks = [(f"mission.{verb}", {"id": "m"}) for verb in ("get", "graph", "executions")] + [("mission.list", {})]
    changes = [(f"mission.{verb}", {"id": "m"}) for verb in ("document", "pause", "resume", "abort", "delete")]
    answers = call_as(UID, shared.socket, [*looks, *changes])
    assert [word(answer) for answer in answers[:4]] == [None] * 4
    assert CANARY not in json.dumps(answers[:4])
    if MEMBER:
        assert [word(answer) for answer in answers[4:]] == ["permission_denied"] * 5
        assert CANARY not in json.dumps(answers)
        assert shared.call("mission.get", id="m")["execution"]["status"] == "active"


def test_another_user_sees_what_everybody_spent_and_says(shared: Host) -> None:
    task_id = shared.submit("true")
    assert shared.finished(task_id)["status"] == "done"
    shared.call("cost.add", task_id=task_id, usd=1, provider="p", model="m", input_tokens=1)
    shared.call("message.send", channel="c", text="hello")
    asked = [("cost.report", {"by": "task"}), ("stats.runs", {}), ("message.history", {"channel": "c"})]
    costs, stats, messages = (answer["result"] for answer in call_as(UID, shared.socket, asked))
    assert [spent["group"] for spent in costs["costs"]] == [task_id]
    assert stats["total"]["count"] == 1
    assert [message["content"] for message in messages["messages"]] == ["hello"]


def test_another_user_manages_only_what_is_its_own(shared: Host) -> None:
    """W41."""
    shared.call("queue.set", name="paused", paused=True)  # so that nothing starts between two verbs
    waiting = SECRET | {"queue": "paused"}
    theirs = shared.submit(**waiting)
    before = shared.task(theirs)
    (submitted,) = call_as(UID, shared.socket, [("task.submit", waiting)])
    own = submitted["result"]["id"]
    assert shared.task(own)["created_by"] == UID

    refused = "permission_denied" if MEMBER else None
    verbs = ("release", "hold", "cancel", "retry", "cancel", "remove")
    calls = [(f"task.{verb}", {"select": {"ids": [theirs, own]}}) for verb in verbs]
    edits = [("task.update", {"id": task_id, "priority": 5}) for task_id in (theirs, own)]
    answers = call_as(UID, shared.socket, [*edits, ("task.get", {"id": own, "env": True}), *calls])
    assert [word(a) for a in answers[:3]] == [refused, None, None]
    for verb, answer in zip(verbs, answers[3:], strict=True):
        results = {r["id"]: r for r in answer["result"]["results"]}
        assert word(results[theirs]) == refused, verb
        assert word(results[own]) is None, verb
    if MEMBER:
        assert shared.task(theirs) == before
    with pytest.raises(Refused, match="there is no task"):
        shared.task(own)


def test_the_daemon_is_its_owners(shared: Host) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [("queue.set", {"name": "default", "paused": True})]
    calls += [("store.prune", {}), ("daemon.shutdown", {})] if MEMBER else []
    answers = call_as(UID, shared.socket, [*calls, ("queue.list", {}), ("daemon.status", {})])
    assert [word(a) for a in answers] == (["permission_denied"] * 3 if MEMBER else [None]) + [None, None]
    assert shared.call("queue.set", name="default", paused=False)["queue"]["paused"] is False
    assert shared.call("daemon.shutdown")["pid"] == answers[-1]["result"]["pid"]
    assert shared.daemon is not None
    assert shared.daemon.wait(60) == 0


def test_idempotency_keys_of_two_users_are_two_keys(shared: Host) -> None:
    fields = SECRET | {"idempotency_key": "the-key"}
    own = shared.call("task.submit", **fields)
    first, second = call_as(UID, shared.socket, [("task.submit", fields), ("task.submit", fields)])
    assert own["created"] is True
    assert first["result"]["created"] is MEMBER
    assert (second["result"]["created"], second["result"]["id"]) == (False, first["result"]["id"])
    assert (first["result"]["id"] == own["id"]) is not MEMBER


@pytest.mark.parametrize("prefix", ["", "exec setsid --wait "])
def test_a_process_of_a_run_has_the_rights_of_a_run_whoever_its_user_is(shared: Host, prefix: str) -> None:
    other = shared.submit(**SECRET)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("task.get", {"id": other}),
        ("task.list", {}),
        ("daemon.status", {}),
        ("run.report", {"id": 1, "nonce": "no", "status": "completed", "reason": "exited", "ended_at": AT}),
        ("task.get", {"id": other, "env": True}),
        ("task.submit", {"shell": "true"}),
        ("task.submit_many", {"tasks": [{"shell": "true"}]}),
        ("task.cancel", {"select": {"ids": [other]}}),
        ("task.update", {"id": other, "title": "x"}),
        ("queue.set", {"name": "default", "paused": True}),
        ("daemon.shutdown", {}),
    ]
    if shared.call("daemon.status")["containment"] != "cgroup":
        calls = calls[:4]  # nothing tells a process of a run from others of its user; what it may, it may
    inside = command(shared.socket, calls)
    answers_to = shared.root / "answers"
    task_id = shared.submit("sh", "-c", f'{prefix}"$@" > {answers_to}', "sh", *inside)
    assert shared.finished(task_id)["status"] == "done"
    answers = json.loads(answers_to.read_text())
    assert [word(a) for a in answers] == [None] * 4 + ["permission_denied"] * (len(calls) - 4)
    assert CANARY not in answers_to.read_text()
    assert shared.task(other)["status"] == "pending"


def test_a_report_is_believed_only_with_the_nonce_and_only_if_it_is_one(shared: Host) -> None:
    go = shared.root / "go"
    task_id = shared.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 6")
    run = shared.running(task_id)
    assert not {"nonce", "token_hash"} & shared.call("run.get", id=run["id"])["run"].keys()
    nonce = _nonce(shared, run["id"])
    report = {
        "id": run["id"],
        "nonce": nonce,
        "status": "completed",
        "reason": "exited",
        "ended_at": AT,
        "exit_code": 0,
    }
    for bad in (
        {"ended_at": "x"},
        {"status": "running"},
        {"status": "starting"},
        {"reason": "because"},
        {"exit_code": "0"},
        {"id": "1"},
    ):
        with pytest.raises(Refused) as refused:
            shared.call("run.report", **report | bad)
        assert (refused.value.code, refused.value.data["path"]) == (-32602, f"$.{next(iter(bad))}")
    for unbelievable in ({"nonce": "no"}, {"id": run["id"] + 1}, {"id": -1}, {"id": 2**53}):
        shared.call("run.report", **report | unbelievable)
    assert shared.runs(task_id)[-1]["status"] == "running"
    go.touch()
    assert shared.finished(task_id)["result"]["exit_code"] == 6
    # The outcome stands: a late report, with the right nonce even, changes nothing.
    shared.call("run.report", **report)
    assert shared.submit("true")
    assert shared.task(task_id)["result"]["exit_code"] == 6


def _nonce(host: Host, run_id: int) -> str:
    db = sqlite3.connect(Path(host.paths.runs_db))
    try:
        (nonce,) = db.execute("SELECT nonce FROM runs WHERE id = ?", (run_id,)).fetchone()
    finally:
        db.close()
    return str(nonce)
