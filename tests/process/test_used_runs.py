"""A job that speaks for its run: by its token or from inside, with that run's rights and no others (DESIGN §6, §9)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kit.client import Client, Refused
from kit.host import Host
from kit.jobs import POLPOCTL, tells_token, waits_for
from kit.other_user import command
from kit.waiting import until

WRONG = "wrong"


class Speaker:
    """A run that goes on until told, and what its job found in its environment."""

    def __init__(self, host: Host, then: str = "", **fields: Any) -> None:
        """`then`: instead of waiting."""
        told, self.go = host.root / "token", host.root / "go"
        self.task_id = host.submit(shell=f"{tells_token(told)}; {then or waits_for(self.go)}", **fields)
        until(told.exists, "the job has a token")
        number, self.token = told.read_text().split()
        self.run_id = int(number)

    def identify(self, client: Client) -> Any:
        return client.call("run.identify", run_id=self.run_id, token=self.token)


@pytest.fixture
def started(host: Host) -> Host:
    host.configure(maxConcurrency=4)
    host.start()
    return host


def test_a_job_says_how_far_it_is(started: Host) -> None:
    go = started.root / "go"
    says = f"{POLPOCTL} report progress 40% compiling && {POLPOCTL} report --json activity 'still compiling' > said"
    task_id = started.submit(shell=f"{says}; touch ready; {waits_for(go)}")
    until((started.root / "ready").exists, "the job said it")
    task = started.task(task_id)
    progress = task["progress"]
    assert (progress["percent"], progress["text"]) == (40, "still compiling")
    assert progress["run_id"] == task["run_id"]
    assert json.loads((started.root / "said").read_text()) == progress
    (listed,) = started.call("task.list")["tasks"]
    assert listed["progress"] == progress
    go.touch()
    assert started.finished(task_id)["progress"] == progress


def test_the_processes_of_a_run(started: Host) -> None:
    go = started.root / "go"
    task_id = started.submit(shell=f"touch ready; sleep 1000 & {waits_for(go)}; kill $!")
    until((started.root / "ready").exists, "the job goes on")
    run_id = started.task(task_id)["run_id"]

    def seen() -> dict[str, Any]:
        return started.call("run.processes", id=run_id)

    until(lambda: any(p["command"] == "sleep 1000" for p in seen()["processes"]), "its child is there")
    now = seen()
    by_pid = {p["pid"]: p for p in now["processes"]}
    (child,) = [p for p in by_pid.values() if p["command"] == "sleep 1000"]
    job = started.call("run.get", id=run_id)["run"]["job_pid"]
    assert child["parent"] == job
    assert by_pid[job]["command"].startswith("/bin/sh -c touch ready")
    assert 0 < child["memory"] < now["memory"]
    assert now["cpu_seconds"] >= 0
    go.touch()
    started.finished(task_id)
    assert seen()["processes"] == []
    with started.client() as client:
        assert client.error("run.processes", id=10**9) == "not_found"


def test_what_a_run_used_is_kept_from_time_to_time(started: Host) -> None:
    go = started.root / "go"
    task_id = started.submit(shell=waits_for(go))
    run = started.running(task_id)
    until(lambda: started.call("run.usage", id=run["id"])["samples"], "a sample was kept")
    go.touch()
    started.finished(task_id)
    (first, *_) = started.call("run.usage", id=run["id"])["samples"]
    assert (first["seconds"] >= 5, first["memory"] > 0, first["cpu_seconds"] >= 0) == (True, True, True)
    assert stat.S_IMODE(os.stat(f"{run['log_path']}.usage").st_mode) == 0o600
    short = started.running(started.submit("sleep", "1000"))["id"]
    with started.client() as client:
        assert client.call("run.usage", id=short)["samples"] == []
        assert client.error("run.usage", id=10**9) == "not_found"


def test_the_journal_has_progress_once_a_second_at_most(started: Host) -> None:
    speaker = Speaker(started)
    with started.client() as client:
        speaker.identify(client)
        before = time.monotonic()
        for percent in range(30):
            client.call("run.progress", percent=percent)
        took = time.monotonic() - before
    assert started.task(speaker.task_id)["progress"]["percent"] == 29
    events = started.call("event.list", after=0, kinds=["task:progress"])["events"]
    assert 1 <= len(events) <= 1 + took
    assert events[0]["body"] == {"run_id": speaker.run_id, "percent": 0, "text": None}
    assert events[0]["subject"] == f"task/{speaker.task_id}"


def test_a_job_that_says_that_it_goes_on_is_not_stale(started: Host) -> None:
    """W5."""
    speaker = Speaker(started, "exec sleep 600", stale_threshold=3)  # what is said comes from elsewhere
    until_then = time.monotonic() + 5
    with started.client() as client:
        speaker.identify(client)
        until(lambda: client.call("run.activity") and time.monotonic() > until_then, "it was said for long enough")
    assert started.task(speaker.task_id)["status"] == "in_progress"
    assert started.call("event.list", after=0, kinds=["agent:stale"])["events"] == []
    assert started.finished(speaker.task_id)["result"]["reason"] == "stale"


def test_who_has_the_token_has_the_rights_of_the_run_and_no_others(started: Host) -> None:
    speaker = Speaker(started)
    other = started.submit(shell="true", hold=True)
    with started.client() as client:
        assert speaker.identify(client) == {"run_id": speaker.run_id, "task_id": speaker.task_id}
        assert client.call("task.get", id=other)["task"]["id"] == other
        for method, params in (
            ("task.submit", {"shell": "true"}),
            ("task.cancel", {"select": {"ids": [other]}}),
            ("task.get", {"id": other, "env": True}),
            ("daemon.shutdown", {}),
        ):
            assert client.error(method, **params) == "permission_denied", method
        client.call("run.progress", percent=1)
    assert started.task(speaker.task_id)["progress"]["run_id"] == speaker.run_id
    assert started.task(other)["progress"] is None


def test_who_is_no_run_says_nothing_of_one(started: Host) -> None:
    with started.client() as client:
        assert client.error("run.progress", percent=1) == "permission_denied"
        assert client.error("run.activity") == "permission_denied"


def test_after_a_few_wrong_tokens_a_connection_ends(started: Host) -> None:
    speaker = Speaker(started)
    with started.client() as client:
        for wrong in ({"token": WRONG}, {"token": ""}, {"run_id": speaker.run_id + 1}):
            asked = {"run_id": speaker.run_id, "token": speaker.token} | wrong
            assert client.error("run.identify", **asked) == "permission_denied"
        with pytest.raises((EOFError, OSError)):
            speaker.identify(client)
    with started.client() as client:  # a few of them cost nobody else anything
        assert client.error("run.identify", run_id=speaker.run_id, token=WRONG) == "permission_denied"
        assert speaker.identify(client)["run_id"] == speaker.run_id


def test_the_members_of_a_batch_are_no_more_guesses(started: Host) -> None:
    speaker = Speaker(started)
    guesses = [WRONG] * 5 + [speaker.token]
    batch = [
        {"jsonrpc": "2.0", "id": n, "method": "run.identify", "params": {"run_id": speaker.run_id, "token": token}}
        for n, token in enumerate(guesses)
    ]
    with started.client() as client:
        client.send_raw(json.dumps(batch).encode() + b"\n")
        assert all("error" in answer for answer in client.receive())
        with pytest.raises(EOFError):
            client.receive()


def test_a_run_that_is_over_is_spoken_for_by_nobody(started: Host) -> None:
    speaker = Speaker(started)
    with started.client() as early, started.client() as late:
        speaker.identify(early)
        speaker.go.touch()
        started.finished(speaker.task_id)
        assert early.error("run.progress", percent=100) == "conflict"
        with pytest.raises(Refused, match="is over"):
            speaker.identify(late)


def test_inside_one_run_nobody_speaks_for_another(started: Host) -> None:
    if started.call("daemon.status")["containment"] != "cgroup":
        return  # nothing tells a process of a run from others of its user
    speaker = Speaker(started)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("run.identify", {"run_id": speaker.run_id, "token": speaker.token}),
        ("run.progress", {"percent": 7}),
    ]
    answers_to = started.root / "answers"
    task_id = started.submit("sh", "-c", f'"$@" > {answers_to}', "sh", *command(started.socket, calls))
    assert started.finished(task_id)["status"] == "done"
    refused, told = json.loads(answers_to.read_text())
    assert refused["error"]["data"]["type"] == "permission_denied"
    assert told["result"]["progress"]["percent"] == 7
    assert started.task(task_id)["progress"]["percent"] == 7
    assert started.task(speaker.task_id)["progress"] is None


def test_a_reload_gives_no_rights_back(started: Host) -> None:
    speaker = Speaker(started)
    with started.client() as client:
        speaker.identify(client)
        started.call("daemon.reload")
        assert client.call("run.progress", percent=3)["progress"]["percent"] == 3
        assert client.error("task.submit", shell="true") == "permission_denied"


def test_polpoctl_speaks_for_the_run_that_it_is_of(started: Host) -> None:
    refused = started.root / "refused"
    job = f"{POLPOCTL} report progress 5; {POLPOCTL} submit -- true 2> {refused}; echo $? >> {refused}"
    task_id = started.submit(shell=job)
    assert started.finished(task_id)["status"] == "done"
    assert refused.read_text().splitlines()[-1] == "6"
    assert "not allowed from inside a run" in refused.read_text()


def test_polpoctl_has_the_rights_of_the_token_wherever_it_is(started: Host) -> None:
    speaker = Speaker(started)
    own = {"POLPO_RUN_ID": str(speaker.run_id), "POLPO_TOKEN": speaker.token, "POLPO_SOCKET": started.socket}

    def code(*words: str, **env: str) -> int:
        argv = [sys.executable, "-m", "polpoctl", *words]
        return subprocess.run(argv, capture_output=True, env=os.environ | env, check=False, timeout=60).returncode

    assert code("report", "progress", "5", **own) == 0
    assert started.task(speaker.task_id)["progress"]["percent"] == 5
    assert code("submit", "--", "true", **own) == 6
    assert code("submit", "--", "true", **own | {"POLPO_TOKEN": ""}) == 0
    elsewhere = {"POLPO_SOCKET": str(started.root / "other")}  # the token is told to nobody else
    assert code("submit", "--socket", started.socket, "--", "true", **own | elsewhere) == 0


def test_polpoctl_says_what_helps_where_a_token_is_none_any_more(started: Host, tmp_path: Path) -> None:
    speaker = Speaker(started)
    speaker.go.touch()
    started.finished(speaker.task_id)
    env = f"POLPO_RUN_ID={speaker.run_id} POLPO_TOKEN={speaker.token} POLPO_SOCKET={started.socket}"
    said = tmp_path / "said"
    task_id = started.submit(shell=f"env {env} {POLPOCTL} list 2> {said}; echo $? >> {said}")
    started.finished(task_id)
    assert "unset POLPO_TOKEN" in said.read_text()
    assert said.read_text().splitlines()[-1] in ("1", "6")
