"""Checks of a task's work in a real daemon: runs of their own, which outlive it (DESIGN §6, §7)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.invariants import settle
from kit.jobs import waits_for
from kit.waiting import until


def a_test(shell: str, **values: Any) -> dict[str, Any]:
    return {"type": "test", "command": shell} | values


@pytest.fixture
def started(host: Host) -> Iterator[Host]:
    host.configure(maxConcurrency=2, killGrace=500)
    host.start()
    yield host
    assert "Traceback" not in host.log(), host.log()


def phases(host: Host, task_id: str) -> list[tuple[str, int, str, str]]:
    return [(r["phase"], r["attempt"], r["status"], r["reason"]) for r in host.runs(task_id)]


def polpoctl(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"POLPO_SOCKET": host.socket}
    argv = [sys.executable, "-m", "polpoctl", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False, timeout=60)


def checking(host: Host, task_id: str) -> dict[str, Any]:
    """The live run of the task's checks, once there is one."""

    def found() -> dict[str, Any] | None:
        run = host.runs(task_id)[-1] if host.runs(task_id) else None
        return run if run is not None and run["phase"] == "review" and run["status"] == "running" else None

    return until(found, f"task {task_id} is being checked")


def test_work_is_done_when_its_checks_passed(started: Host) -> None:
    """§13.204: test, script, file_exists and a metric, which find what the work left."""
    expectations = [
        a_test("[ $(cat out) = made ] && [ $A = b ]"),
        {"type": "script", "command": "set -o | grep -q 'pipefail.*on'\ntrue"},
        {"type": "file_exists", "paths": ["out"]},
    ]
    metrics = [{"name": "size", "command": "wc -c < out", "threshold": 5}]
    env = {"PATH": os.environ["PATH"], "A": "b"}
    task_id = started.submit(shell="echo made > out", env=env, expectations=expectations, metrics=metrics)
    task = started.finished(task_id)
    found = task["result"]["assessment"]
    assert (task["status"], found["passed"], [c["passed"] for c in found["checks"]]) == ("done", True, [True] * 3), (
        found
    )
    assert found["metrics"][0]["value"] == 5
    assert phases(started, task_id) == [("execution", 1, "completed", "exited"), ("review", 1, "completed", "exited")]
    settle(started)


def test_work_that_does_not_pass_is_tried_as_often_as_asked_for(started: Host) -> None:
    """W39: exit code 1 does not pass; each attempt is recorded."""
    task_id = started.submit(shell="echo >> tries", expectations=[a_test("exit 1")], max_retries=1, retry_delay=0.01)
    waiting = started.submit(shell="true", depends_on=[task_id])
    task = started.finished(task_id)
    assert (task["status"], task["retries"]) == ("failed", 1)
    assert (started.root / "tries").read_text() == "\n\n"
    assert [phase for phase, *_ in phases(started, task_id)] == ["execution", "review"] * 2
    assert len(task["result"]["assessment_history"]) == 1
    assert started.task(waiting)["state"] == "blocked"
    because = started.call("task.why", id=task_id)
    assert because["sentences"] == [
        f"Task {task_id} did not pass its checks: exit 1 (exit code 1). It was tried 2 times."
    ]
    settle(started)


def test_an_agent_puts_right_what_its_checks_found(host: Host) -> None:
    """§13.203; the first fix is enough: no retry is spent."""
    host.configure(maxConcurrency=2)
    config = json.loads(Path(host.paths.config).read_text())
    config["agents"] = [{"name": "fixer", "command": ["sh", "-c", "echo >> tries"]}]
    Path(host.paths.config).write_text(json.dumps(config))
    host.start()
    check = a_test("echo 'too few lines'; [ $(wc -l < tries) = 2 ]")
    task_id = host.submit(agent="fixer", description="Write two lines.", expectations=[check])
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["fix_attempts"], task["attempts"]) == ("done", 0, 1, 2)
    assert task["original_description"] == "Write two lines."
    assert "too few lines" in task["description"]
    assert [e["body"] for e in host.call("event.list", after=0, kinds=["task:fix"])["events"]] == [
        {"attempt": 1, "max_fix": 2}
    ]
    triggers = [e["body"]["trigger"] for e in host.call("event.list", after=0, kinds=["assessment:complete"])["events"]]
    assert triggers == ["initial", "fix"]
    settle(host)


def test_another_agent_takes_over_what_one_does_not_get_done(host: Host) -> None:
    """§13.151, §13.152: by the policy of polpo.json, to whom the agent reports; with what that one executes."""
    host.configure(maxFixAttempts=0, defaultRetryPolicy={"escalateAfter": 1})
    config = json.loads(Path(host.paths.config).read_text())
    config["agents"] = [
        {"name": "junior", "command": ["sh", "-c", "echo junior >> who"], "reportsTo": "senior"},
        {"name": "senior", "command": ["sh", "-c", "echo senior >> who"]},
    ]
    Path(host.paths.config).write_text(json.dumps(config))
    host.start()
    check = a_test("grep -q senior who")
    task_id = host.submit(agent="junior", description="Do it.", expectations=[check], retry_delay=0.01)
    task = host.finished(task_id)
    assert (task["status"], task["assigned_to"], task["retries"]) == ("done", "senior", 1)
    assert (host.root / "who").read_text().split() == ["junior", "senior"]
    assert [run["agent"] for run in host.runs(task_id)] == ["junior", "junior", "senior", "senior"]
    settle(host)


def test_a_review_asks_a_command_for_scores(host: Host) -> None:
    """§13.204: a review passes by its scores, with the command of polpo.json or its own."""
    host.configure(
        reviewCommand=[
            "sh",
            "-c",
            """cat > asked; echo '{"scores": {"correctness": 4, "completeness": 4, "code_quality": 2, "edge_cases": 2}}'""",
        ]
    )
    host.start()
    good = host.submit(shell="true", title="t", expectations=[{"type": "llm_review", "criteria": "is it good?"}])
    task = host.finished(good)
    assert (task["status"], round(task["result"]["assessment"]["globalScore"], 2)) == ("done", 3.3)
    asked = json.loads((host.root / "asked").read_text())
    assert (asked["criteria"], asked["task"]["title"], Path(asked["task"]["log"]).exists()) == (
        "is it good?",
        "t",
        True,
    )
    own = {"type": "llm_review", "threshold": 4, "command": "echo nothing", "reviewers": 1}
    bad = host.submit(shell="true", expectations=[own])
    assert host.finished(bad)["status"] == "failed"
    assert len(host.runs(bad)) == 3, "no verdict: it was checked once more"


def test_without_anybody_to_ask_a_review_is_refused(started: Host) -> None:
    with pytest.raises(Refused, match="reviewCommand") as refused:
        started.submit(shell="true", expectations=[a_test("true"), {"type": "llm_review"}])
    assert refused.value.data["path"] == "$.expectations[1].command"


def test_checks_outlive_the_daemon(started: Host) -> None:
    """W6, W26: work that was done before a crash is neither repeated nor done without its checks."""
    go = started.root / "go"
    task_id = started.submit(shell="echo >> tries", expectations=[a_test(f"echo >> checked; {waits_for(go)}")])
    run = checking(started, task_id)
    started.kill()
    started.start()
    until(lambda: started.call("daemon.health")["ok"], "it has recovered")
    assert started.task(task_id)["status"] == "review"
    assert checking(started, task_id)["id"] == run["id"]
    started.kill()
    go.touch()
    until(lambda: not os.path.exists(f"/proc/{run['pid']}"), "the runner ended")
    started.start()
    assert started.finished(task_id)["status"] == "done"
    assert ((started.root / "tries").read_text(), (started.root / "checked").read_text()) == ("\n", "\n")
    settle(started)


def test_checks_whose_process_is_killed_are_carried_out_once_more(started: Host) -> None:
    once = started.root / "once"
    check = a_test(f"[ -e {once} ] || {{ touch {once}; kill -KILL $PPID; sleep 10; }}")
    task_id = started.submit(shell="echo >> tries", expectations=[check])
    task = started.finished(task_id)
    assert (task["status"], task["retries"], task["assessment_retries"]) == ("done", 0, 1)
    assert [status for _, _, status, _ in phases(started, task_id)] == ["completed", "failed", "completed"]
    assert (started.root / "tries").read_text() == "\n"


def test_checks_whose_runner_is_killed_are_carried_out_once_more(started: Host) -> None:
    go = started.root / "go"
    task_id = started.submit(shell="echo >> tries", expectations=[a_test(waits_for(go))], side_effects=True)
    run = checking(started, task_id)
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: len(started.runs(task_id)) == 3, "they are carried out again")
    go.touch()
    task = started.finished(task_id)
    assert (task["status"], task["recoveries"], task["retries"]) == ("done", 1, 0)
    assert (started.root / "tries").read_text() == "\n"


def test_a_stop_leaves_the_checks_to_the_next_start(started: Host) -> None:
    """W26: a stop does not mark work as done that was not checked."""
    go = started.root / "go"
    task_id = started.submit(shell="echo >> tries", expectations=[a_test(waits_for(go))])
    checking(started, task_id)
    assert started.stop() == 0
    go.touch()
    started.start()
    task = started.finished(task_id)
    assert (task["status"], task["retries"], task["assessment_retries"]) == ("done", 0, 0)
    assert phases(started, task_id)[1][2:] == ("killed", "shutdown")
    assert (started.root / "tries").read_text() == "\n"
    settle(started)


def test_a_task_is_cancelled_while_it_is_checked_and_while_it_waits_for_that(started: Host) -> None:
    started.call("queue.set", name="default", slots=1)
    first = started.submit(shell="true", expectations=[a_test("sleep 600")])
    checking(started, first)
    waiting = [started.submit(shell="true"), started.submit(shell="true", expectations=[a_test("true")])]
    assert started.call("task.why", id=first)["sentences"][0].startswith(f"The work of task {first} is done, and goes")
    for verb in ("retry", "remove", "reassess"):
        (refused,) = started.call(f"task.{verb}", select={"ids": [first]})["results"]
        assert refused["error"]["data"]["type"] == "conflict"
    started.call("task.cancel", select={"ids": [first]})
    task = started.finished(first)
    assert (task["status"], phases(started, first)[-1][2:]) == ("cancelled", ("killed", "cancelled"))
    assert [started.finished(task_id)["status"] for task_id in waiting] == ["done", "done"]
    settle(started)


def test_what_is_to_be_checked_goes_before_younger_work(started: Host) -> None:
    started.call("queue.set", name="default", slots=1)
    go = started.root / "go"
    first = started.submit(shell=waits_for(go), expectations=[a_test("echo checked >> order")])
    second = started.submit(shell="echo younger >> order")
    go.touch()
    started.finished(second)
    assert started.task(first)["status"] == "done"
    assert (started.root / "order").read_text().split() == ["checked", "younger"]


def test_a_check_has_its_own_time(started: Host) -> None:
    task_id = started.submit(shell="true", expectations=[a_test("sleep 600", timeoutMs=200), a_test("true")])
    checks = started.finished(task_id)["result"]["assessment"]["checks"]
    assert [(c["passed"], c["message"]) for c in checks] == [
        (False, "it did not end within 0.2 s"),
        (True, "exit code 0"),
    ]


def test_reassess_judges_again_and_holds_up_who_waits(started: Host) -> None:
    good = started.root / "good"
    task_id = started.submit(shell="echo >> tries", expectations=[a_test(f"[ -e {good} ]")])
    assert started.finished(task_id)["status"] == "failed"
    good.touch()
    assert polpoctl(started, "reassess", task_id).returncode == 0
    until(lambda: started.task(task_id)["status"] == "done", "it passes")
    waiting = started.submit(shell="true", depends_on=[task_id], hold=True)
    assert started.task(waiting)["unmet"] == 0
    good.unlink()
    polpoctl(started, "reassess", task_id)
    until(lambda: started.task(task_id)["status"] == "failed", "it does not pass any more")
    assert started.task(waiting)["unmet"] == 1
    task = started.task(task_id)
    assert (task["retries"], (started.root / "tries").read_text()) == (0, "\n")
    history = [one["passed"] for one in task["result"]["assessment_history"]]
    assert history == [False, True]
    plain = started.submit(shell="true")
    broken = started.submit(shell="false", expectations=[a_test("true")])
    for other, word in ((plain, "invalid_transition"), (broken, "conflict"), (waiting, "invalid_transition")):
        if other != waiting:
            started.finished(other)
        (refused,) = started.call("task.reassess", select={"ids": [other]})["results"]
        assert refused["error"]["data"]["type"] == word


def test_polpoctl_says_what_was_found(started: Host) -> None:
    script = started.root / "check.sh"
    script.write_text("echo from the script\nfalse\n")
    ran = polpoctl(
        started,
        "run",
        "--expect",
        f"script:{script}",
        "--expect",
        "file:daemon.log",
        "--cwd",
        str(started.root),
        "--",
        "echo",
        "work",
    )
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[0] == "work"
    assert "from the script" in ran.stdout
    shown = polpoctl(started, "show", "1").stdout
    assert "failed: script echo from the script false: exit code 1" in shown
    assert "passed: file_exists daemon.log: there" in shown
    assert polpoctl(started, "logs", "1").stdout == "work\n"
    assert "from the script" in polpoctl(started, "logs", "--checks", "1").stdout
    assert polpoctl(started, "runs", "1").stdout.splitlines()[0].endswith("checks")
    first = started.call("task.logs", id="1", after=0)
    second = started.call("task.logs", id="1", after=first["run_id"])
    assert b64decode(first["data"]) == b"work\n"
    assert b"from the script" in b64decode(second["data"])
    assert started.call("task.logs", id="1", after=second["run_id"])["run_id"] is None
    for bad in ("script:/there/is/none", "test:", "magic:x", "{"):
        assert polpoctl(started, "submit", "--expect", bad, "--", "true").returncode == 2
    (started.root / "latin").write_bytes(b"\xe9")
    assert "not UTF-8" in polpoctl(started, "submit", "--expect", f"script:{started.root}/latin", "--", "true").stderr
