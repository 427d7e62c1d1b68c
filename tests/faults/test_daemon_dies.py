"""The daemon dies, hangs or is attacked, and comes back: no work is lost, and none is done twice (F1 to F16)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kit.client import Client
from kit.disk import frozen, make_image, mounted_image
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import waits_for
from kit.processes import alive, children, holders, state, thread_states, zygote
from kit.waiting import until

SAME = ("id", "attempt", "status", "pid", "job_pid", "started_at", "log_path")


def same(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in SAME}


def dies(host: Host) -> None:
    """Return when the daemon has died at its crash point."""
    assert host.daemon is not None
    assert host.daemon.wait(60) == -signal.SIGKILL, host.log()


def ends_into_exit_json(host: Host) -> tuple[str, dict[str, Any]]:
    """A task whose job failed with 7 while no daemon was there; and its run, whose result is in exit.json alone.

    It may be tried once more, far in the future, so that it shows how often its failure was counted.
    """
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 7"), max_retries=1, retry_delay=1000)
    run = host.running(task_id)
    host.kill()
    with host.without_runs_db():
        go.touch()
        until(lambda: not alive(run["pid"]), "the runner has ended")
    assert os.path.exists(host.paths.run(run["id"]).exit)
    assert read_runs(host.paths)[run["id"]]["status"] == "running"
    return task_id, run


def failed_once(host: Host, task_id: str, run: dict[str, Any]) -> None:
    """That result was taken, applied once, and cleared away."""
    until(lambda: host.task(task_id)["result"], "the result is applied")
    task = host.task(task_id)
    assert (task["status"], task["result"]["exit_code"], task["retries"], task["recoveries"]) == ("pending", 7, 1, 0)
    assert [(r["id"], r["reason"], r["exit_code"]) for r in host.runs(task_id)] == [(run["id"], "exited", 7)]
    until(lambda: not os.path.exists(host.paths.run(run["id"]).path), "its directory is removed")
    assert len(host.call("event.list", after=0, kinds=["agent:finished"])["events"]) == 1
    settle(host)


@fault(
    1,
    "the daemon is killed while jobs run",
    promise="Jobs run on. The next daemon finds the same attempts: run, pid, start time and log go on; no second copy.",
    injected="SIGKILL to the daemon with ten jobs that write, a new start",
    seen_failing="recovery that ends live runs instead of adopting them",
)
def test_f01_jobs_outlive_the_daemon_and_are_adopted(host: Host) -> None:
    """§13.154, W1."""
    host.configure(maxConcurrency=10)
    host.start()
    go, begun = host.root / "go", host.root / "begun"
    counts = f"n=0; while [ ! -e {go} ]; do n=$((n+1)); echo $n; sleep 0.02; done; exit $((POLPO_TASK_ID % 3))"
    ids = [host.submit(shell=f"echo $POLPO_TASK_ID >> {begun}; {counts}") for _ in range(10)]
    before = {i: host.running(i) for i in ids}
    logs = {i: Path(run["log_path"]) for i, run in before.items()}

    def they_write_on() -> None:
        sizes = {i: log.stat().st_size for i, log in logs.items()}
        until(lambda: all(logs[i].stat().st_size > size for i, size in sizes.items()), "every job writes on")

    they_write_on()
    host.kill()
    they_write_on()
    host.start()
    assert {i: same(host.running(i)) for i in ids} == {i: same(run) for i, run in before.items()}
    they_write_on()
    go.touch()
    for i in ids:
        task = host.finished(i)
        (run,) = host.runs(i)
        assert (run["id"], run["exit_code"]) == (before[i]["id"], int(i) % 3)
        assert task["retries"] == task["recoveries"] == 0
        numbers = [int(line) for line in logs[i].read_text().split()]
        assert numbers == list(range(1, len(numbers) + 1))
    assert sorted(begun.read_text().split()) == sorted(ids)
    settle(host)


@pytest.mark.parametrize("point", ["launch.inserted", "launch.assigned", "launch.prepared", "launch.asked"])
@fault(
    2,
    "the daemon dies between noting a start and making it",
    promise="The attempt provably never started: it costs no retry, and the task is started anew.",
    injected="SIGKILL at four points between the commit of the row and the fork",
    seen_failing="a row that nobody claimed, called lost instead of never started",
)
def test_f02_a_start_that_was_only_noted_never_was(host: Host, point: str) -> None:
    """W8."""
    host.start(POLPOD_CRASH_AT=point)
    trace = host.root / "trace"
    task_id = host.submit(shell=f"echo ran >> {trace}; exit 4", hold=True)
    with suppress(OSError, EOFError):  # it may be dead before it can answer
        host.call("task.release", select={"ids": [task_id]})
    dies(host)
    assert not trace.exists()
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("failed", 0, 0)
    assert [(r["status"], r["reason"], r["exit_code"]) for r in host.runs(task_id)] == [
        ("lost", "never_started", None),
        ("failed", "exited", 4),
    ]
    assert trace.read_text() == "ran\n"
    settle(host)


@pytest.mark.parametrize("forked", ["runner", "job"])
@fault(
    3,
    "the daemon dies between the fork and the record of who was forked",
    promise="What was forked waits until its identity is committed; without that it ends and executes nothing.",
    injected="SIGKILL to the daemon with a runner that waits for its go; SIGKILL to daemon and runner before the claim",
    seen_failing="a runner that takes the end of its go pipe for the go; a job that takes the end of its pipe for its release",
)
def test_f03_what_was_forked_and_not_recorded_executes_nothing(host: Host, forked: str) -> None:
    """§13.157, W8."""
    trace = host.root / "trace"
    if forked == "runner":
        host.start(POLPOD_CRASH_AT="launch.forked")
    else:
        host.start(POLPOD_CRASH_AT="runner.job_forked", POLPOD_CRASH_SIGNAL="SIGSTOP")
    task_id = host.submit(shell=f"echo ran >> {trace}", hold=True)
    with suppress(OSError, EOFError):
        host.call("task.release", select={"ids": [task_id]})
    if forked == "runner":
        dies(host)
    else:
        runner = until(lambda: _stopped(host.paths.run(1).lock), "the runner has forked the job")
        (job,) = children(runner)
        host.kill()
        os.kill(runner, signal.SIGKILL)
        until(lambda: not alive(job), "the job has ended")
    until(lambda: not holders(host.paths.run(1).lock), "the runner has ended")
    assert not trace.exists()
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    assert [r["reason"] for r in host.runs(task_id)] == ["never_started", "exited"]
    assert trace.read_text() == "ran\n"
    settle(host)


@pytest.mark.parametrize("point", ["collect.read", "collect.seen:2"])
@fault(
    4,
    "the daemon dies after a job ended, before its result was taken",
    promise="The result waits in exit.json, is taken once, and its file goes only after the commit.",
    injected="a job that ends without a daemon and without a reachable run store; SIGKILL before and in the middle of taking it",
    seen_failing="a run directory removed as its result is read",
)
def test_f04_a_result_waits_for_whoever_comes(host: Host, point: str) -> None:
    """§13.136, W2, W6."""
    task_id, run = ends_into_exit_json(host)
    host.start(wait=False, POLPOD_CRASH_AT=point)
    dies(host)
    assert os.path.exists(host.paths.run(run["id"]).exit)
    host.start()
    failed_once(host, task_id, run)


@pytest.mark.parametrize("point", ["collect.applied", "collect.removed"])
@fault(
    5,
    "the daemon dies between taking a result and clearing its file away",
    promise="A result that is found a second time changes nothing: no second end, no second retry.",
    injected="SIGKILL after the result was applied, and after its directory was removed",
    seen_failing="results applied without asking whether this run was applied before",
)
def test_f05_a_result_that_is_found_twice_counts_once(host: Host, point: str) -> None:
    """W2, W11."""
    task_id, run = ends_into_exit_json(host)
    host.start(wait=False, POLPOD_CRASH_AT=point)
    dies(host)
    assert os.path.exists(host.paths.run(run["id"]).exit) == (point == "collect.applied")
    assert read_runs(host.paths)[run["id"]]["collected_at"] is None
    host.start()
    failed_once(host, task_id, run)


@pytest.mark.parametrize("query", ["its lock", "its directory", "its identity"])
@fault(
    12,
    "a live runner is judged dead because a query failed",
    promise="Only a proven death counts: while the lock or the identity says that it lives, the run goes on as it was.",
    injected="without a daemon: a live runner's lock removed, its whole run directory removed, its marks in the row altered",
    seen_failing="a missing lock taken for a free one; an identity that cannot be proven taken for a death",
)
def test_f12_a_failed_query_is_no_death(host: Host, query: str) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 3"))
    run = host.running(task_id)
    directory = host.paths.run(run["id"])
    host.kill()
    match query:
        case "its lock":
            os.unlink(directory.lock)
        case "its directory":
            shutil.rmtree(directory.path)
        case "its identity":
            with closing(sqlite3.connect(host.paths.runs_db, isolation_level=None)) as db:
                db.execute("UPDATE runs SET start_ticks = start_ticks + 1, pidfd_inode = 1")
    host.start()
    since = host.call("daemon.status")["started_at"]
    until(
        lambda: any(e["at"] > since for e in host.call("event.list", after=0, kinds=["daemon:started"])["events"]),
        "recovery is over",
    )
    assert host.finished(host.submit("true"))["status"] == "done"  # and with it the first judgements
    assert same(host.running(task_id)) == same(run)
    assert alive(run["job_pid"])
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 3
    settle(host)


@pytest.mark.root
@fault(
    13,
    "a watchdog kills the daemon under I/O load",
    promise="Nothing is written, and no database is asked, on the event loop, which a watchdog is petted from; and a daemon "
    "that is killed for hanging leaves its jobs alone.",
    injected="the state on an ext4 of its own that is frozen: a write hangs in the kernel while others ask; then SIGSTOP "
    "for as long as a job writes on, SIGKILL",
    seen_failing="transactions carried out on the event loop",
)
def test_f13_a_hanging_disk_does_not_hold_up_the_loop(host: Host, tmp_path: Path) -> None:
    """W20."""
    image = tmp_path / "disk"
    make_image(image, 32 * 2**20)
    with mounted_image(image, host.paths.path):
        host.configure()
        daemon = host.start()
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        go = host.root / "go"
        task_id = host.submit(shell=f"while [ ! -e {go} ]; do echo .; sleep 0.02; done; exit 3")
        run = host.running(task_id)
        with host.client() as writer, Client(host.socket) as others:
            with frozen(host.paths.path):
                writer.send("task.submit", command=["true"], cwd="/", hold=True)
                until(lambda: "D" in thread_states(daemon.pid), "the write hangs")
                for _ in range(10):
                    until(lambda: others.call("daemon.health")["ok"], "it answers, and is well")
                assert not writer.readable()
            assert "result" in writer.receive()

        daemon.send_signal(signal.SIGSTOP)
        until(lambda: state(daemon.pid) == "T", "the daemon hangs")
        size = os.path.getsize(run["log_path"])
        until(lambda: os.path.getsize(run["log_path"]) > size, "the job writes on")
        host.kill()
        host.start()
        assert same(host.running(task_id)) == same(run)
        go.touch()
        assert host.finished(task_id)["result"]["exit_code"] == 3
        settle(host)


@pytest.mark.root
@fault(
    15,
    "jobs fill the memory, and the daemon is killed for it",
    promise="Jobs have a higher OOM score than polpod and their runners, so it is they whom the kernel kills; and should "
    "it be the daemon, that is F1.",
    injected="daemon, runner and job in a memory cgroup of 384 MiB, filled by forty processes smaller than the daemon",
    seen_failing="jobs with the OOM score of the daemon",
)
def test_f15_for_want_of_memory_the_jobs_are_killed(host: Host) -> None:
    hog = host.root / "hog.py"
    hog.write_text(HOG)
    host.configure(containment="session")  # so that the job stays in the memory cgroup of its daemon
    with memory_cgroup(384 * 2**20) as group:
        daemon = host.start(under=["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "polpod"])
        runners = until(lambda: zygote(daemon.pid), "there is a zygote")
        task = host.finished(host.submit(sys.executable, "-I", "-S", str(hog)))
        (run,) = host.runs(task["id"])
        assert (task["status"], run["reason"], run["exit_code"]) == ("failed", "exited", 9)
        assert daemon.poll() is None
        assert zygote(daemon.pid) == runners
        assert host.finished(host.submit("true"))["status"] == "done"
        settle(host)


HOG = """if 1:
    import os, signal
    for _ in range(40):
        if os.fork() == 0:
            block = b"x" * (24 * 2**20)
            signal.pause()
    while True:
        pid, status = os.wait()
        if os.WIFSIGNALED(status):
            os._exit(os.WTERMSIG(status))
"""
"""Forty processes of 27 MiB, each smaller than a daemon; exits with the number of the signal that ended the first."""


@contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """A memory cgroup, of the first or the second version of cgroups, with a limit in bytes."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    group = (first if first.is_dir() else second) / f"polpod-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")).write_text(str(limit))
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), "the memory cgroup is empty")
        group.rmdir()


def call(number: int, method: str, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


MALFORMED = {
    b"{half\n": -32700,
    b"\x7f\xff\xff\xff\n": -32700,
    b'{"jsonrpc": "2.0", "id": 1, "method": "\xff\xfe"}\n': -32700,
    b"[" * 100_000 + b"\n": -32700,
    b"42\n": -32600,
    b"[]\n": -32600,
    b'{"jsonrpc": "1.0", "id": 1, "method": "daemon.status"}\n': -32600,
    call(1, "daemon.explode"): -32601,
    call(1, "task.get", id=7): -32602,
}


@fault(
    16,
    "malformed input crashes the daemon",
    promise="It is answered with the error of JSON-RPC, or the connection is closed where framing is lost; nothing else.",
    injected="halves of messages, wrong bytes, deep nesting, an endless line, and sixty clients who never finish theirs",
    seen_failing="errors of the decoder that are not caught",
)
def test_f16_malformed_input_costs_its_sender_alone(host: Host) -> None:
    daemon = host.start()
    with ExitStack() as stack:
        for n in range(60):
            stack.enter_context(host.client()).send_raw(call(n, "task.submit", command=["true"])[: 10 + n])
        for message, code in MALFORMED.items():
            with host.client() as client:
                client.send_raw(message)
                assert client.receive()["error"]["code"] == code, message[:50]
                assert client.call("daemon.status")["pid"] == daemon.pid  # on the same connection
        with host.client() as client:
            with suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(16):
                    client.send_raw(b"x" * 2**20)
            assert client.receive()["error"]["data"]["type"] == "too_large"
            with pytest.raises((EOFError, ConnectionResetError)):
                client.receive()
        assert host.finished(host.submit("true"))["status"] == "done"
    assert len(host.call("task.list", all=True)["tasks"]) == 1
    settle(host)


def _stopped(lock: str) -> int | None:
    """The runner that holds this lock, once it is stopped."""
    return next((pid for pid in holders(lock) if state(pid) == "T"), None)
