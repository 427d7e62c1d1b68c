"""When a task starts, how long it may run, and how often it is tried: with real runs, as a user would see it (DESIGN §5, §7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import waits_for
from kit.processes import alive
from kit.waiting import until


@pytest.fixture(autouse=True)
def settled(host: Host) -> Any:
    """Each test ends with a stop, and everything in order."""
    host.configure(maxConcurrency=4, killGrace=500)
    host.start()
    yield
    settle(host)


def busy(host: Host) -> set[str]:
    """The tasks that have a slot."""
    tasks = host.call("task.list", select={"status": ["in_progress"]})["tasks"]
    return {task["id"] for task in tasks}


def seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


# Limits


def test_a_run_that_takes_too_long_is_killed_and_that_is_a_failure(host: Host) -> None:
    """§13.144."""
    task_id = host.submit("sleep", "1000", max_duration=0.3)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["reason"]) == ("failed", "timeout")
    (run,) = host.runs(task_id)
    assert (run["status"], run["kill_reason"]) == ("killed", "timeout")
    assert 0.3 <= run["duration"] < 60
    assert not alive(run["job_pid"])
    kinds = [e["kind"] for e in host.call("event.list", after=0, subject=f"task/{task_id}")["events"]]
    assert "task:timeout" in kinds


def test_a_timeout_spends_a_retry(host: Host) -> None:
    shell = "[ $POLPO_ATTEMPT -gt 1 ] || exec sleep 1000"
    task_id = host.submit(shell=shell, max_duration=3, max_retries=2, retry_delay=0)
    task = host.finished(task_id)
    assert (task["status"], task["retries"]) == ("done", 1)
    assert [r["reason"] for r in host.runs(task_id)] == ["timeout", "exited"]


def test_a_timeout_holds_through_a_restart(host: Host) -> None:
    task_id = host.submit("sleep", "1000", max_duration=1.5)
    until(lambda: [r for r in host.runs(task_id) if r["started_at"]], "it has begun")
    host.kill()
    host.start()
    assert host.finished(task_id)["result"]["reason"] == "timeout"
    (run,) = host.runs(task_id)
    assert 1.5 <= run["duration"] < 60


def test_silence_is_warned_of_and_then_ended(host: Host) -> None:
    """§13.148, §13.149."""
    task_id = host.submit("sleep", "1000", stale_threshold=0.3)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["reason"]) == ("failed", "stale")
    (run,) = host.runs(task_id)
    assert run["status"] == "killed"
    assert run["duration"] >= 0.6
    events = host.call("event.list", after=0, kinds=["agent:stale"])["events"]
    assert [e["body"]["action"] for e in events] == ["warning", "killed"]


def test_what_writes_or_computes_is_not_silent(host: Host) -> None:
    """W5."""
    writes = "n=0; while [ $n -lt 50 ]; do echo; sleep 0.1; n=$((n+1)); done"
    computes = "end=$(($(date +%s)+6)); while [ $(date +%s) -lt $end ]; do :; done"
    ids = [host.submit(shell=text, stale_threshold=4) for text in (writes, computes)]
    assert [host.finished(task_id)["status"] for task_id in ids] == ["done", "done"]
    assert host.call("event.list", after=0, kinds=["agent:stale"])["events"] == []


# Retries


def test_a_failure_is_tried_again_after_a_growing_delay(host: Host) -> None:
    """§13.142, W38."""
    waits = host.submit("false", max_retries=1, retry_delay=1000)
    until(lambda: host.task(waits)["state"] == "delayed", "it waits for its retry")
    task_id = host.submit("false", max_retries=2, retry_delay=0.5)
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["manual_retries"]) == ("failed", 2, 0)
    runs = host.runs(task_id)
    assert [r["reason"] for r in runs] == ["exited"] * 3
    delays = [seconds(a["ended_at"], b["started_at"]) for a, b in pairwise(runs)]
    assert delays[0] >= 0.45  # with a jitter of a tenth
    assert delays[1] >= 0.9


def test_a_delay_is_waited_for_through_a_restart(host: Host) -> None:
    """W38."""
    task_id = host.submit("false", max_retries=1, retry_delay=2)
    until(lambda: host.task(task_id)["retries"] == 1, "it waits for its retry")
    host.kill()
    host.start()
    assert host.finished(task_id)["retries"] == 1
    first, *_, second = host.runs(task_id)  # on a slow host one between them never started
    assert seconds(first["ended_at"], second["started_at"]) >= 1.8


def test_a_command_is_not_repeated_behind_the_user_s_back(host: Host) -> None:
    failing, missing = host.submit("false"), host.submit("/no/such/program")
    assert host.finished(failing)["retries"] == 0
    task = host.finished(missing)
    assert (task["status"], task["result"]["reason"], task["retries"]) == ("failed", "spawn_failed", 0)
    assert len(host.runs(failing)) == len(host.runs(missing)) == 1


def test_a_manual_retry_is_counted_apart(host: Host) -> None:
    """W38."""
    go = host.root / "go"
    task_id = host.submit(shell=f"[ -e {go} ]")
    assert host.finished(task_id)["status"] == "failed"
    go.touch()
    host.call("task.retry", select={"ids": [task_id]})
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["manual_retries"]) == ("done", 1, 1)


def test_a_task_does_not_start_before_its_time(host: Host) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1)
    task_id = host.submit("true", not_before=at.isoformat())
    host.finished(task_id)
    (run,) = host.runs(task_id)
    assert datetime.fromisoformat(run["started_at"]) >= at


# Dependencies


def test_a_fan_out_and_in_runs_in_order(host: Host) -> None:
    """§13.140, §13.141."""
    trace, go = host.root / "trace", host.root / "go"
    first = host.submit(shell=waits_for(go, f"echo first >> {trace}"))
    middle = [host.submit(shell=f"echo middle >> {trace}", depends_on=[first]) for _ in range(8)]
    last = host.submit(shell=f"echo last >> {trace}", depends_on=middle)
    assert {host.task(i)["state"] for i in (*middle, last)} == {"waiting"}
    assert host.task(last)["unmet"] == 8
    go.touch()
    assert host.finished(last)["status"] == "done"
    assert trace.read_text().split() == ["first", *["middle"] * 8, "last"]


def test_dependents_of_a_failure_are_blocked_until_it_is_retried(host: Host) -> None:
    go = host.root / "go"
    bad = host.submit(shell=waits_for(go, f"rm {go}; [ -e {go}2 ]"))
    good = host.submit("true")
    both = host.submit("true", depends_on=[bad, good])
    far = host.submit("true", depends_on=[both])
    with host.client() as client:
        client.send("task.wait", ids=[both, far], timeout=30)
        go.touch()
        answer = client.receive()["result"]
    assert answer["finished"]
    assert [t["outcome"] for t in answer["tasks"]] == ["blocked", "blocked"]
    assert all(f"task {bad}" in t["message"] for t in answer["tasks"])
    assert (host.task(both)["status"], host.task(both)["state"]) == ("pending", "blocked")
    assert host.runs(both) == []

    (host.root / "go2").touch()
    host.call("task.retry", select={"ids": [bad]})
    go.touch()
    assert host.finished(far)["status"] == "done"


def test_the_log_of_a_task_that_became_blocked_has_its_end(host: Host) -> None:
    bad = host.submit(shell=waits_for(host.root / "go", "false"))
    far = host.submit("true", depends_on=[host.submit("true", depends_on=[bad])])
    with host.client() as client:
        client.send("task.logs", id=far, wait=30)
        (host.root / "go").touch()
        answer = client.receive()["result"]
    assert (answer["end"], answer["run_id"]) == (True, None)


# Order and slots


def test_priority_goes_first_then_age(host: Host) -> None:
    go, trace = host.root / "go", host.root / "trace"
    host.call("queue.set", name="one", slots=1)
    first = host.submit(shell=waits_for(go), queue="one")
    host.running(first)
    shell = f"echo $POLPO_TASK_ID >> {trace}"
    priorities = [0, 5, -1, 5, 0]
    ids = [host.submit(shell=shell, queue="one", priority=p) for p in priorities]
    go.touch()
    for task_id in ids:
        host.finished(task_id)
    order = sorted(range(5), key=lambda n: (-priorities[n], n))
    assert trace.read_text().split() == [ids[n] for n in order]


def test_priority_goes_first_across_queues_too(host: Host) -> None:
    gos, trace = [host.root / f"go{n}" for n in range(4)], host.root / "trace"
    for go in gos:
        host.running(host.submit(shell=waits_for(go)))
    low = host.submit(shell=f"echo low >> {trace}", queue="a")
    high = host.submit(shell=f"echo high >> {trace}", queue="b", priority=1)
    gos[0].touch()
    assert host.finished(low)["status"] == host.finished(high)["status"] == "done"
    assert trace.read_text().split() == ["high", "low"]
    for go in gos:
        go.touch()


def test_a_queue_has_its_slots_and_the_machine_its_limit(host: Host) -> None:
    go = host.root / "go"
    host.call("queue.set", name="two", slots=2)
    narrow = [host.submit(shell=waits_for(go), queue="two") for _ in range(4)]
    wide = [host.submit(shell=waits_for(go)) for _ in range(4)]
    until(lambda: busy(host) == {*narrow[:2], *wide[:2]}, "four run")
    assert "slots of queue two are taken" in host.call("task.why", id=narrow[2])["sentences"][0]
    assert "All 4 slots are taken" in host.call("task.why", id=wide[2])["sentences"][0]
    go.touch()
    for task_id in (*narrow, *wide):
        assert host.finished(task_id)["status"] == "done"
    assert _most_at_once(host, narrow) <= 2
    assert _most_at_once(host, [*narrow, *wide]) <= 4


def test_a_paused_queue_starts_nothing_until_it_is_resumed(host: Host) -> None:
    go = host.root / "go"
    runs_on = host.submit(shell=waits_for(go), queue="q")
    host.running(runs_on)
    host.call("queue.set", name="q", paused=True)
    waiting = host.submit("true", queue="q")
    assert host.finished(host.submit("true"))["status"] == "done"  # other queues go on
    go.touch()
    assert host.finished(runs_on)["status"] == "done"
    assert host.runs(waiting) == []
    assert host.call("task.why", id=waiting)["sentences"] == ["Queue q is paused."]
    host.kill()
    host.start()  # a restart does not resume it (F78)
    assert host.finished(host.submit("true"))["status"] == "done"
    assert host.runs(waiting) == []
    host.call("queue.set", name="q", paused=False)
    assert host.finished(waiting)["status"] == "done"


def test_the_status_says_how_much_is_ready_in_each_queue(host: Host) -> None:
    """§13.135."""
    host.call("queue.set", name="q", paused=True)
    first, *_ = [host.submit("true", queue="q") for _ in range(3)]
    host.submit("true", queue="q", hold=True)
    host.submit("true", queue="q", depends_on=[first])
    host.submit("true", queue="q", not_before="2099-01-01T00:00:00Z")
    host.finished(host.submit("true"))
    queues = host.call("daemon.status")["queues"]
    assert {name: queue["ready"] for name, queue in queues.items()} == {"default": 0, "q": 3}
    assert sorted(host.call("queue.list")["queues"], key=lambda q: str(q["name"])) == [queues["default"], queues["q"]]


def test_a_held_task_waits_to_be_released(host: Host) -> None:
    task_id = host.submit("true", hold=True)
    other = host.submit("true", priority=-1)
    assert host.finished(other)["status"] == "done"
    assert (host.task(task_id)["state"], host.runs(task_id)) == ("held", [])
    host.call("task.release", select={"ids": [task_id]})
    assert host.finished(task_id)["status"] == "done"


def test_what_waits_can_be_held_and_what_runs_cannot(host: Host) -> None:
    go = host.root / "go"
    host.call("queue.set", name="one", slots=1)
    running = host.submit(shell=waits_for(go), queue="one")
    host.running(running)
    waiting = host.submit("true", queue="one")
    (done,) = host.call("task.hold", select={"ids": [waiting]})["results"]
    assert done == {"id": waiting, "status": "pending"}
    (refused,) = host.call("task.hold", select={"ids": [running]})["results"]
    assert refused["error"]["data"]["type"] == "invalid_transition"
    go.touch()
    assert host.finished(running)["status"] == "done"
    assert host.finished(host.submit("true", queue="one"))["status"] == "done"
    assert host.runs(waiting) == []
    host.call("task.release", select={"ids": [waiting]})
    assert host.finished(waiting)["status"] == "done"


def _most_at_once(host: Host, ids: list[str]) -> int:
    """How many of these tasks' runs overlapped at the most, from first claim to last process."""
    runs = [row for row in read_runs(host.paths).values() if row["task_id"] in ids]
    return max(len([r for r in runs if r["started_at"] <= at["started_at"] < r["ended_at"]]) for at in runs)
