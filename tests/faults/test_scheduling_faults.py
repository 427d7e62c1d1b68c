"""Who runs when, and how often: races, replays, late words, graphs and pauses (F69 to F78; F74 is in test_crash_points)."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kit.client import Client
from kit.fabricated import runs_db
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import STUBBORN, waits_for
from kit.processes import alive
from kit.waiting import until

from polpod.runner import contract


def events(host: Host, *kinds: str, subject: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.call("event.list", after=0, kinds=kinds, subject=subject, limit=1000)["events"]
    return found


def report(row: dict[str, Any], **said: Any) -> dict[str, Any]:
    """What the runner of this row would tell the daemon."""
    outcome = {"status": "completed", "reason": "exited", "exit_code": 0, "ended_at": contract.timestamp()}
    return {"id": row["id"], "nonce": row["nonce"]} | outcome | said


# Races and replays


@fault(
    69,
    "a restart races with a stop, and two copies run",
    promise="A task has at most one live run, whatever is asked of it and whoever dies.",
    injected="two clients cancel and retry two tasks at random while the daemon is killed again and again; "
    "a second live row by hand",
    seen_failing="the unique index on live runs; a cancel that calls a task over while its run lives",
)
def test_f69_cancels_and_retries_that_race_make_no_second_copy(host: Host) -> None:
    """W9."""
    host.configure(maxConcurrency=4, killGrace=100)
    host.start()
    copies, over = host.root / "copies", threading.Event()
    job = f"exec 9> {host.root}/lock-$POLPO_TASK_ID; flock -n 9 || echo $POLPO_RUN_ID >> {copies}; sleep 1000 & wait"
    ids = [host.submit(shell=job), host.submit(shell=f"trap '' TERM; {job}")]

    def decide(seed: int) -> None:
        rng = random.Random(seed)
        while not over.is_set():
            with suppress(OSError, EOFError):  # the daemon was killed
                host.call(rng.choice(["task.cancel", "task.retry"]), select={"ids": [rng.choice(ids)]})

    clients = [threading.Thread(target=decide, args=(seed,)) for seed in (1, 2)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            known = len(read_runs(host.paths))
            until(lambda: len(read_runs(host.paths)) >= known + 6, "both run again and again")
            host.kill()
            host.start()
    finally:
        over.set()
        for client in clients:
            client.join()

    host.call("task.cancel", select={"ids": ids})
    assert {host.finished(task_id)["status"] for task_id in ids} == {"cancelled"}
    host.call("task.retry", select={"ids": ids[:1]})
    running = host.running(ids[0])["id"]
    assert not copies.exists(), f"runs that were not alone: {copies.read_text()}"
    for task_id in ids:
        claimed = [run for run in host.runs(task_id) if run["started_at"] is not None]
        assert all(a["ended_at"] <= b["started_at"] for a, b in pairwise(claimed))
    _insert_a_second(host, running)
    host.call("task.cancel", select={"ids": ids})
    settle(host)


def _insert_a_second(host: Host, run_id: int) -> None:
    """As a defect of ours would: the table itself refuses a second live run of a task."""
    with closing(sqlite3.connect(host.paths.runs_db)) as db:
        columns = ", ".join(name for _, name, *_ in db.execute("PRAGMA table_info(runs)") if name != "id")
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            db.execute(f"INSERT INTO runs ({columns}) SELECT {columns} FROM runs WHERE id = ?", (run_id,))


@fault(
    70,
    "finished work runs again",
    promise="The outcome of an ended run never changes, is applied once, and nothing but a person's retry runs it again.",
    injected="its report again, with another outcome; an UPDATE by hand; its collection forgotten, as that of a failure "
    "whose retry is waited for, and a second witness that says otherwise, before a restart",
    seen_failing="the trigger on terminal rows; the look at `applied_run` before an outcome is applied",
)
def test_f70_what_is_over_stays_over(host: Host) -> None:
    host.start()
    trace = host.root / "trace"
    task_id = host.submit(shell=f"echo once >> {trace}", max_retries=3, retry_delay=0)
    failed = host.submit("false", max_retries=3, retry_delay=1000)
    host.finished(task_id)
    row = until(lambda: _collected(host), "both are collected")
    before = _known(host, task_id, failed)
    assert host.task(failed)["retries"] == 1

    host.call("run.report", **report(row))
    host.call("run.report", **report(row, status="failed", exit_code=1))
    (late,) = until(lambda: events(host, "run:late"), "the other one was looked at")
    with closing(sqlite3.connect(host.paths.runs_db, isolation_level=None)) as db:
        for change in ("status = 'failed'", "exit_code = 1", "reason = 'lost'", "status = 'running', reason = NULL"):
            with pytest.raises(sqlite3.IntegrityError, match="final"):
                db.execute(f"UPDATE runs SET {change}")
        host.kill()
        db.execute("UPDATE runs SET seen_at = NULL, collected_at = NULL")
    directory = host.paths.run(row["id"])
    os.mkdir(directory.path)
    said = dict.fromkeys(contract.OUTCOME) | report(row, status="failed", exit_code=1)
    Path(directory.exit).write_bytes(contract.encode_exit(said))
    host.start()
    until(lambda: _collected(host), "both are collected once more")
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")

    assert _known(host, task_id, failed) == before
    assert events(host, "run:late") == [late]
    assert host.finished(host.submit("true"))["status"] == "done"
    assert trace.read_text() == "once\n"
    settle(host)


def _collected(host: Host) -> dict[str, Any] | None:
    """The first run, once it and the second are collected."""
    rows = read_runs(host.paths)
    return rows[1] if len(rows) == 2 and all(row["collected_at"] for row in rows.values()) else None


def _known(host: Host, *ids: str) -> list[tuple[Any, ...]]:
    return [(host.task(i), host.runs(i), events(host, subject=f"task/{i}")) for i in ids]


@fault(
    71,
    "a late report of an earlier attempt is taken for the present one's",
    promise="A report counts only for the run whose nonce it carries and while that run lives; one that contradicts "
    "what is recorded is kept as an event.",
    injected="the report of a lost run, sent while the next attempt runs; then for that attempt with the old nonce",
    seen_failing="the nonce in the statement that finishes a run; the event",
)
def test_f71_a_late_report_changes_nothing_and_is_kept(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 3"))
    os.kill(host.running(task_id)["pid"], signal.SIGKILL)
    until(lambda: len(host.runs(task_id)) == 2, "it is lost, and tried again")
    host.running(task_id)
    first, second = read_runs(host.paths).values()

    host.call("run.report", **report(first))
    (late,) = until(lambda: events(host, "run:late"), "it is kept")
    assert late["subject"] == "run/1"
    assert late["body"] == {"task_id": task_id, "status": "completed", "reason": "exited"}
    host.call("run.report", **report(second, nonce=first["nonce"]))
    host.call("run.report", **report(first, nonce="made up"))
    assert host.finished(host.submit("true"))["status"] == "done"  # which the collector learned after them
    assert [run["status"] for run in host.runs(task_id)] == ["lost", "running"]
    assert host.task(task_id)["state"] == "running"

    go.touch()
    task = host.finished(task_id)
    assert (task["status"], task["result"]["run_id"], task["result"]["exit_code"]) == ("failed", 2, 3)
    assert len(events(host, "run:late")) == 1
    settle(host)


# What must not wait for anything


@fault(
    72,
    "what tidies up waits in the queue that it should tidy up",
    promise="Limits, lost runners and results are the daemon's own business: they need no slot, no queue and no runner.",
    injected="a restart below the reserve of free space, so that nothing starts, over a backlog and two live runs; then "
    "a time limit passes, and a runner dies",
    seen_failing="health that looks at limits only while the launcher is not paused",
)
def test_f72_limits_and_losses_are_seen_while_nothing_can_start(host: Host) -> None:
    host.configure(maxConcurrency=2)
    host.start()
    slow = host.submit("sleep", "1000", max_duration=600, kill_grace=0.2)
    doomed = host.submit("sleep", "1000")
    host.running(slow)
    runner = host.running(doomed)
    backlog = [host.submit("true") for _ in range(20)]
    host.kill()
    with runs_db(host.paths) as db:  # time for a start, and for it to find out that nothing can start
        until_ns = time.monotonic_ns() + 2 * 10**9
        db.execute("UPDATE runs SET max_duration = (? - started_mono) / 1e9 WHERE max_duration = 600", (until_ns,))
    host.configure(maxConcurrency=2, reserve=2**53)
    host.start()
    until(lambda: host.call("daemon.status")["launcher"]["paused"], "nothing starts")
    os.kill(runner["pid"], signal.SIGKILL)

    task = host.finished(slow)
    assert (task["status"], task["result"]["reason"]) == ("failed", "timeout")
    assert host.runs(slow)[0]["kill_by"] == "health"  # not its runner, which acts half a minute later
    lost = until(lambda: _back(host, doomed), "the lost one waits again")
    assert (lost["recoveries"], lost["retries"]) == (1, 0)
    assert not alive(runner["job_pid"])
    assert host.call("daemon.status")["launcher"]["paused"]
    everything = host.call("task.list", all=True)["tasks"]
    assert [t["id"] for t in everything] == [slow, doomed, *backlog]  # none of the daemon's own
    assert len(read_runs(host.paths)) == 2

    host.call("task.cancel", select={"ids": [doomed]})
    host.kill()
    host.configure(maxConcurrency=2)
    host.start()
    assert {host.finished(task_id)["status"] for task_id in backlog} == {"done"}
    settle(host)


def _back(host: Host, task_id: str) -> dict[str, Any] | None:
    task = host.task(task_id)
    return task if task["status"] == "pending" else None


@fault(
    73,
    "the slow stop of one task holds up commands about others",
    promise="A cancel answers once it is noted; nothing waits for the end of a run that is not its own.",
    injected="a job that ignores TERM is cancelled; fifty commands about other tasks follow on the same connection",
    seen_failing="a cancel that waits until the run is over",
)
def test_f73_commands_about_others_do_not_wait_for_a_slow_stop(host: Host) -> None:
    host.configure(maxConcurrency=3)
    host.start()
    slow = host.submit(shell=STUBBORN, kill_grace=3600)
    run = host.running(slow)
    until(lambda: os.path.getsize(run["log_path"]) > 0, "it ignores TERM")
    with host.client() as client:
        client.call("task.cancel", select={"ids": [slow]})
        for _ in range(7):
            held = client.call("task.submit", command=["true"], cwd="/", hold=True)["id"]
            select = {"ids": [held]}
            client.call("task.update", id=held, priority=1)
            for verb in ("cancel", "retry", "hold", "release"):
                (done,) = client.call(f"task.{verb}", select=select)["results"]
                assert "error" not in done
            assert client.call("task.wait", ids=[held], timeout=30)["tasks"][0]["outcome"] == "done"
        other = client.call("task.submit", command=["sleep", "1000"], cwd="/")["id"]
        host.running(other)
        client.call("task.cancel", select={"ids": [other]})
        assert client.call("task.wait", ids=[other], timeout=30)["tasks"][0]["outcome"] == "cancelled"
        assert client.call("task.get", id=slow)["task"]["state"] == "cancelling"
    os.kill(run["job_pid"], signal.SIGKILL)
    assert host.finished(slow)["status"] == "cancelled"
    settle(host)


# Graphs


class Graph:
    """What the daemon should think: whom each task waits for, and which ids there were."""

    def __init__(self, client: Client, shell: str) -> None:
        self.client, self._shell = client, shell
        self.after: dict[str, set[str]] = {}
        self.gone: set[str] = set()

    def submit(self, after: list[str]) -> None:
        asked = {"shell": self._shell, "cwd": "/", "hold": True, "depends_on": after}
        if self.gone & set(after):
            assert self.client.error("task.submit", **asked) == "not_found"
            return
        task_id = self.client.call("task.submit", **asked)["id"]
        assert int(task_id) > max((int(i) for i in self.gone | self.after.keys()), default=0)
        self.after[task_id] = set(after)

    def edit(self, task_id: str, after: list[str]) -> None:
        refused = {"not_found"} if self.gone & set(after) else set()
        if any(on == task_id or self._reaches(on, task_id) for on in after):
            refused |= {"conflict"}
        if refused:
            assert self.client.error("task.update", id=task_id, depends_on=after) in refused
        else:
            self.client.call("task.update", id=task_id, depends_on=after)
            self.after[task_id] = set(after)

    def remove(self, task_id: str) -> None:
        (answer,) = self.client.call("task.remove", select={"ids": [task_id]})["results"]
        if any(task_id in after for after in self.after.values()):
            assert answer["error"]["data"]["type"] == "conflict"
        else:
            assert answer["status"] == "removed"
            del self.after[task_id]
            self.gone.add(task_id)

    def as_stored(self) -> None:
        tasks = {t["id"]: t for t in self.client.call("task.list", all=True, limit=1000)["tasks"]}
        assert {i: set(t["depends_on"]) for i, t in tasks.items()} == self.after
        assert {i: t["unmet"] for i, t in tasks.items()} == {i: len(after) for i, after in self.after.items()}

    def _reaches(self, start: str, goal: str) -> bool:
        return any(on == goal or self._reaches(on, goal) for on in self.after.get(start, ()))


@fault(
    75,
    "a dependency is removed, edited or reordered",
    promise="An edit that would make a cycle, or name what is not there, is refused, as is the removal of what somebody "
    "waits for; ids are never used again; everything runs after what it waits for.",
    injected="three hundred random submits, edits and removals, with kills of the daemon between, against a model",
    seen_failing="the search for cycles; the refusal to remove; ids counted from what is stored",
)
def test_f75_any_edits_of_a_graph_leave_it_in_order(host: Host) -> None:
    rng = random.Random(75)
    host.start()
    trace = host.root / "trace"
    graph = Graph(host.client(), f"echo $POLPO_TASK_ID >> {trace}")
    for number in range(300):
        known = sorted(graph.after, key=int)
        some = rng.sample(known, min(len(known), rng.randrange(4)))
        if rng.random() < 0.05:
            some += sorted(graph.gone)[:1]
        if number < 10 or rng.random() < 0.1:
            graph.submit(some)
        elif rng.random() < 0.2 and len(known) > 5:
            graph.remove(rng.choice([known[-1], rng.choice(known)]))
        else:
            graph.edit(rng.choice(known), some)
        if number % 100 == 99:
            graph.as_stored()
            graph.client.close()
            host.kill()
            host.start()
            graph.client = host.client()
    assert len(graph.gone) > 5
    ids = list(graph.after)
    rng.shuffle(ids)
    for task_id in ids:
        graph.client.call("task.release", select={"ids": [task_id]})
    graph.client.close()
    assert {host.finished(task_id)["status"] for task_id in ids} == {"done"}
    order = trace.read_text().split()
    assert sorted(order) == sorted(ids)
    assert all(order.index(on) < order.index(task_id) for task_id, after in graph.after.items() for on in after)
    settle(host)


WIDE = 10_000


@fault(
    76,
    "a dependency fails while its dependents are paused; diamonds, cycles, and ten thousand dependencies",
    promise="Each dependent is decided once: it starts when the last of its dependencies is done, or is blocked by a "
    "failure until that is retried.",
    injected="a diamond in a paused queue whose one side fails; a cycle; one task behind ten thousand others, of which "
    "a hundred run and the rest is cancelled at once; a thousand behind one",
    seen_failing="dependents that are met by any end of a dependency; the search for cycles",
)
def test_f76_each_dependent_is_decided_once(host: Host) -> None:
    """W12."""
    host.configure(maxConcurrency=8)
    host.start()
    trace, good = host.root / "trace", host.root / "good"
    _diamond(host, trace, good)
    _wide(host, trace)
    settle(host)


def _diamond(host: Host, trace: Path, good: Path) -> None:
    host.call("queue.set", name="paused", paused=True)
    top = host.submit(shell=f"echo top >> {trace}")
    left = host.submit(shell=f"echo left >> {trace}; [ -e {good} ]", depends_on=[top])
    right = host.submit(shell=f"echo right >> {trace}", depends_on=[top], queue="paused")
    bottom = host.submit(shell=f"echo bottom >> {trace}", depends_on=[left, right], queue="paused")
    for task_id in (top, left):
        with host.client() as client:  # neither those above it nor itself may wait for a task
            assert client.error("task.update", id=task_id, depends_on=[bottom]) == "conflict"
    assert host.finished(left)["status"] == "failed"
    assert (host.task(right)["state"], host.task(bottom)["state"]) == ("ready", "blocked")
    host.call("queue.set", name="paused", paused=False)
    assert host.finished(right)["status"] == "done"
    assert (host.task(bottom)["state"], host.task(bottom)["unmet"]) == ("blocked", 1)
    good.touch()
    host.call("task.retry", select={"ids": [left]})
    assert host.finished(bottom)["status"] == "done"
    assert trace.read_text().split() == ["top", "left", "right", "left", "bottom"]
    assert [len(host.runs(i)) for i in (top, left, right, bottom)] == [1, 2, 1, 1]


def _wide(host: Host, trace: Path) -> None:
    """All ten thousand are there; the first hundred really run, the rest ends in one transaction."""
    for queue in ("wide", "behind"):
        host.call("queue.set", name=queue, paused=True)

    def many(number: int, **fields: Any) -> list[str]:
        defaults = {"command": ["true"], "cwd": "/", "env": {}} | fields
        pages = [min(1000, number - start) for start in range(0, number, 1000)]
        answers = [host.call("task.submit_many", defaults=defaults, tasks=[{}] * page) for page in pages]
        return [result["id"] for answer in answers for result in answer["results"]]

    first = many(100, queue="wide")
    others = many(WIDE - len(first), hold=True)
    last = host.submit(shell=f"echo last >> {trace}", depends_on=[*first, *others])
    behind = many(1000, queue="behind", depends_on=[first[0]])
    assert host.task(last)["unmet"] == WIDE
    host.call("queue.set", name="wide", paused=False)
    assert {host.finished(task_id)["status"] for task_id in first} == {"done"}
    host.call("task.cancel", select={"ids": [f"{others[0]}-{others[-1]}"]})
    assert (host.task(last)["state"], host.task(last)["unmet"]) == ("blocked", len(others))
    assert host.call("task.wait", ids=[last], timeout=0)["tasks"][0]["outcome"] == "blocked"
    host.call("task.update", id=last, depends_on=first)
    assert host.finished(last)["status"] == "done"
    assert trace.read_text().split().count("last") == 1
    assert host.call("queue.list")["queues"][0] == {
        "name": "behind",
        "slots": None,
        "paused": True,
        "busy": 0,
        "ready": len(behind),
    }


# Edits


EDITOR = """if 1:
    import json, socket, sys
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    lines = client.makefile("rb")
    client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "task.get", "params": {"id": "%s"}}\\n' % sys.argv[2].encode())
    version = json.loads(lines.readline())["result"]["task"]["version"]
    client.sendall(b'{"jsonrpc": "2.0", "id": 2, "method": "task.update", "params": {"id": "')  # and no more
    print(version, flush=True)
    sys.stdin.read()
"""
"""A client with a task open in an editor, half of whose answer is sent already."""


@fault(
    77,
    "an edit that was begun and never ended locks its task",
    promise="Nothing is locked between reading and changing: an edit names the version that it is about, and is refused "
    "when somebody was quicker.",
    injected="a client that has read a task and sent half of its edit is stopped, and later killed",
    seen_failing="the comparison of versions",
)
def test_f77_nobody_waits_for_an_edit_that_was_begun(host: Host) -> None:
    host.start()
    task_id = host.submit("true", hold=True)
    with subprocess.Popen(
        [sys.executable, "-I", "-c", EDITOR, host.socket, task_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as editing:
        assert editing.stdout is not None
        version = int(editing.stdout.readline())
        editing.send_signal(signal.SIGSTOP)
        quicker = host.call("task.update", id=task_id, version=version, title="quicker")["task"]
        assert quicker["version"] > version
        editing.kill()
    with host.client() as client:  # the one that was killed, come back with what it had read
        assert client.error("task.update", id=task_id, version=version, title="slower") == "conflict"
        assert client.call("task.get", id=task_id)["task"]["title"] == "quicker"
        client.call("task.update", id=task_id, version=quicker["version"], title="now", hold=False)
    assert host.finished(task_id)["status"] == "done"
    assert [e["body"]["fields"] for e in events(host, "task:updated")] == [["title"], ["hold", "title"]]
    settle(host)


# After a crash


@fault(
    78,
    "after a crash queues unpause, or dangerous work runs by itself",
    promise="A paused queue stays paused; one with `afterCrash: pause` is paused by a crash, which `status`, `why` and an "
    "event say; a lost run with side effects waits for a person.",
    injected="SIGKILL to the daemon and to a runner, with work in four queues",
    seen_failing="the pause that is stored; the mark of an orderly stop; the look at side effects",
)
def test_f78_a_crash_resumes_nothing_that_it_should_not(host: Host) -> None:
    host.configure(
        maxConcurrency=4, queues={"deploy": {"slots": 1, "afterCrash": "pause"}, "stopped": {"paused": True}}
    )
    host.start()
    dangerous = host.submit("sleep", "1000", queue="deploy", side_effects=True)
    run = host.running(dangerous)
    next_one = host.submit("true", queue="deploy")
    host.call("queue.set", name="held-up", paused=True)
    waiting = [host.submit("true", queue=queue) for queue in ("stopped", "held-up")]
    host.kill()
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not alive(run["pid"]), "its runner is dead")
    host.start()

    assert host.finished(dangerous)["status"] == "awaiting_approval"
    assert host.finished(host.submit("true"))["status"] == "done"
    assert [host.runs(task_id) for task_id in (next_one, *waiting)] == [[], [], []]
    assert host.call("task.why", id=next_one)["sentences"] == ["Queue deploy is paused."]
    (paused,) = events(host, "queue:updated", subject="queue/deploy")
    assert paused["body"] == {"slots": 1, "paused": True, "by": "recovery"}
    status = subprocess.run(
        [sys.executable, "-m", "polpoctl", "status", "--socket", host.socket],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = {
        line.split("\t")[1]: line.split("\t")[5] for line in status.stdout.splitlines() if line.startswith("queue\t")
    }
    assert shown == {"default": "open", "deploy": "paused", "held-up": "paused", "stopped": "paused"}

    host.call("queue.set", name="deploy", paused=False)
    assert host.finished(next_one)["status"] == "done"
    assert host.stop() == 0
    host.start()  # after an orderly stop it goes on
    assert host.finished(host.submit("true", queue="deploy"))["status"] == "done"
    assert [host.runs(task_id) for task_id in waiting] == [[], []]
    settle(host)
