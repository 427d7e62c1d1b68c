"""A daemon that is asked to stop ends everything in order, in time, at no task's expense (DESIGN §7, F14, F17, F18)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest
from kit.fault import fault
from kit.host import Host
from kit.invariants import Ledger, read_runs, settle
from kit.jobs import STUBBORN, waits_for
from kit.processes import alive, state, zygote
from kit.waiting import until


def spoke(run: dict[str, object]) -> bool:
    return os.path.getsize(str(run["log_path"])) > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_running_jobs_are_ended_and_run_again_after_the_next_start(host: Host, number: signal.Signals) -> None:
    """§13.159, W25."""
    host.configure(maxConcurrency=3)
    daemon = host.start()
    go = host.root / "go"
    ids = [host.submit(shell=waits_for(go)) for _ in range(3)]
    later = host.submit("true")
    before = [host.running(i) for i in ids]
    processes = [zygote(daemon.pid), *(r["pid"] for r in before), *(r["job_pid"] for r in before)]
    assert host.stop(number) == 0
    until(lambda: not any(alive(pid) for pid in processes if pid), "nothing is alive")
    assert not os.path.exists(host.socket)
    Ledger(host.paths).settled()
    assert [(r["status"], r["reason"]) for r in read_runs(host.paths).values()] == [("killed", "shutdown")] * 3

    host.start()
    go.touch()
    for task_id in [*ids, later]:
        task = host.finished(task_id)
        assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    assert [len(host.runs(i)) for i in ids] == [2, 2, 2]
    settle(host)


def test_work_with_side_effects_that_was_interrupted_is_for_a_person(host: Host) -> None:
    """W7."""
    host.start()
    task_id = host.submit("sleep", "1000", side_effects=True)
    host.running(task_id)
    assert host.stop() == 0
    host.start()
    assert host.task(task_id)["status"] == "awaiting_approval"
    assert len(host.runs(task_id)) == 1


@fault(
    18,
    "a graceful stop never ends",
    promise="It says which runs it waits for, and ends what is left at its deadline; a second signal ends the daemon at "
    "once, and the next one goes on.",
    injected="SIGTERM to the daemon with a job that ignores it, with a short timeout; with a long one, and a second signal",
    seen_failing="graces that are not cut to the timeout of the stop; a second signal that is not heard",
)
def test_f18_a_job_that_ignores_sigterm_does_not_hold_up_a_stop(host: Host) -> None:
    """W25."""
    host.configure(shutdownTimeout=10_000, killGrace=600_000)
    daemon = host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"trap '' TERM; echo ready; {waits_for(go)}")
    run = host.running(task_id)
    until(lambda: spoke(run), "it ignores SIGTERM")
    daemon.send_signal(signal.SIGTERM)
    until(lambda: f"waiting for 1 runs to end: [{run['id']}]" in host.log(), "it says what it waits for")
    assert daemon.wait(60) == 0  # far below the grace
    assert not alive(run["job_pid"])
    assert read_runs(host.paths)[run["id"]]["reason"] == "shutdown"
    Ledger(host.paths).settled()

    host.configure(shutdownTimeout=1_200_000, killGrace=600_000)
    daemon = host.start()
    until(lambda: host.runs(task_id)[1:], "it runs again")
    run = host.running(task_id)
    until(lambda: spoke(run), "it ignores SIGTERM")
    daemon.send_signal(signal.SIGTERM)
    until(lambda: read_runs(host.paths)[run["id"]]["kill_reason"] == "shutdown", "its end is asked for")
    assert host.stop(signal.SIGINT) == 0
    assert alive(run["job_pid"])
    assert read_runs(host.paths)[run["id"]]["status"] == "running"

    host.start()
    go.touch()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    assert [(r["status"], r["reason"]) for r in host.runs(task_id)] == [
        ("killed", "shutdown"),
        ("killed", "shutdown"),
        ("completed", "exited"),
    ]
    settle(host)


def test_a_cancel_that_goes_on_is_not_overwritten_by_the_shutdown(host: Host) -> None:
    host.start()
    task_id = host.submit(shell=STUBBORN, kill_grace=1)
    run = host.running(task_id)
    until(lambda: spoke(run), "it ignores SIGTERM")
    host.call("task.cancel", select={"ids": [task_id]})
    assert host.stop() == 0
    assert read_runs(host.paths)[run["id"]]["reason"] == "cancelled"
    host.start()
    assert host.task(task_id)["status"] == "cancelled"


def test_keep_leaves_the_runs_alone(host: Host) -> None:
    """W27."""
    host.configure(onShutdown="keep")
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 4"))
    run = host.running(task_id)
    assert host.stop() == 0
    assert alive(run["pid"])
    assert alive(run["job_pid"])
    host.start()
    assert host.running(task_id)["pid"] == run["pid"]
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 4
    assert len(host.runs(task_id)) == 1


@fault(
    17,
    "a graceful stop starts one more job",
    promise="Once a stop was asked for nothing is taken in and nothing starts, whatever slots become free meanwhile.",
    injected="SIGTERM with full slots and ready tasks; jobs that end at the signal, by themselves, and by the kill",
    seen_failing="a scheduler and a launcher that do not ask whether the daemon is stopping; submits that are taken then",
)
def test_f17_nothing_is_taken_in_or_started_once_a_stop_was_asked_for(host: Host) -> None:
    """W25."""
    host.configure(maxConcurrency=3)
    daemon = host.start()
    go = host.root / "go"
    stubborn = host.submit(shell=STUBBORN, kill_grace=1)
    obedient = host.submit(shell="trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    ending = host.submit(shell=f"trap '' TERM; echo ready; {waits_for(go)}", kill_grace=60)
    running = [stubborn, obedient, ending]
    for run in [host.running(i) for i in running]:
        until(lambda run=run: spoke(run), "it is ready for SIGTERM")  # type: ignore[misc]
    waiting = [host.submit("true") for _ in range(3)]
    with host.client() as client:
        daemon.send_signal(signal.SIGTERM)
        until(lambda: client.call("daemon.status")["state"] == "stopping", "it is stopping")
        error = client.error("task.submit", command=["true"], cwd="/")
        go.touch()
    assert error == "unavailable"
    assert daemon.wait(60) == 0
    assert sorted(row["task_id"] for row in read_runs(host.paths).values()) == sorted(running)
    Ledger(host.paths).settled()
    host.configure(maxConcurrency=4)
    host.start()
    for task_id in waiting:
        assert host.finished(task_id)["status"] == "done"


def stopped_before_its_task_is_assigned(host: Host, db: sqlite3.Connection) -> tuple[Popen[bytes], str]:
    """A daemon stopped where the run of a task is noted and the task is not: `db` has the lock of tasks.db.

    A worker thread may be stopped in a transaction of its own (the audit's): then once more, with another daemon.
    """
    for _ in range(20):
        daemon = host.start(POLPOD_CRASH_AT="launch.inserted", POLPOD_CRASH_SIGNAL="SIGSTOP")
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        task_id = host.submit("true", hold=True)
        with host.client() as client:
            client.send("task.release", select={"ids": [task_id]})
            until(lambda: state(daemon.pid) == "T", "its run is noted")
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                daemon.send_signal(signal.SIGCONT)
                host.finished(task_id)
                host.stop()
            else:
                return daemon, task_id
    raise AssertionError("another thread was writing each time")


def test_a_start_that_was_begun_when_a_stop_is_asked_for_is_taken_back(host: Host) -> None:
    with closing(sqlite3.connect(host.paths.tasks_db, isolation_level=None, timeout=0)) as db:
        daemon, task_id = stopped_before_its_task_is_assigned(host, db)
        daemon.send_signal(signal.SIGTERM)
        daemon.send_signal(signal.SIGCONT)
        until(lambda: host.call("daemon.status")["state"] == "stopping", "it is stopping")
    assert daemon.wait(60) == 0
    runs = [r for r in read_runs(host.paths).values() if r["task_id"] == task_id]
    assert [(r["status"], r["reason"]) for r in runs] == [("lost", "never_started")]
    Ledger(host.paths).settled()
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    spawned = host.call("event.list", after=0, kinds=["agent:spawned"], subject=f"task/{task_id}")["events"]
    assert len(spawned) == 1
    settle(host)


def test_a_signal_before_the_databases_are_open_is_obeyed_in_order(host: Host) -> None:
    host.start()
    host.stop()
    with closing(sqlite3.connect(host.paths.runs_db, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        daemon = host.start(wait=False)
        until(lambda: Path(host.paths.lock).read_text() == f"{daemon.pid}\n", "it has the state directory")
        daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    assert not os.path.exists(host.socket)


@pytest.mark.parametrize("directory", ["used", "new"])
@fault(
    14,
    "signals during the start are ignored, or leave things half done",
    promise="Before it has the state directory a signal just ends it; from then on it stops in order, while its "
    "databases are made, too. The next start finds everything.",
    injected="SIGTERM or SIGHUP at random moments of starts, half of them while it opens its databases, in a directory "
    "with a live run and in new ones",
    seen_failing="signals that are received only once the databases are open",
)
def test_f14_signals_at_any_moment_of_a_start_leave_everything_in_order(host: Host, directory: str) -> None:
    """W25."""
    rng = random.Random(14)
    moment = threading.Event()

    def owned() -> bool:
        lock = Path(host.paths.lock)
        return lock.exists() and host.daemon is not None and lock.read_text() == f"{host.daemon.pid}\n"

    def start_and_signal(late: bool) -> None:
        host.start(wait=False)
        if late:
            until(owned, "it has the state directory")
        # Never set: the signal comes at a random moment of the start, or of what it does with its databases.
        moment.wait(rng.uniform(0, 0.05 if late else 0.6))
        status = host.stop(rng.choice([signal.SIGTERM, signal.SIGHUP]))
        assert status == 0 if owned() else status <= 0, host.log()
        assert not (owned() and os.path.exists(host.socket))

    if directory == "new":
        for n in range(6):
            shutil.rmtree(host.paths.path)
            start_and_signal(late=bool(n % 2))
            host.start()
            assert host.finished(host.submit("true"))["status"] == "done"
            settle(host)
        return
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go))
    host.running(task_id)
    host.kill()
    for n in range(12):
        start_and_signal(late=bool(n % 2))
    host.start()
    go.touch()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    settle(host)


def test_a_long_grace_of_a_dead_runner_does_not_keep_the_daemon(host: Host) -> None:
    """The daemon climbs for it, and stopping takes no longer for that; the next start goes on (invariant 11)."""
    host.configure(shutdownTimeout=2000)
    host.start()
    told = "trap 'echo told' TERM; echo ready; while :; do sleep 0.02; done"
    task_id = host.submit(shell=told, kill_grace=3600)
    run = host.running(task_id)
    until(lambda: spoke(run), "it heeds TERM no more than that")
    host.call("task.cancel", select={"ids": [task_id]})
    until(lambda: Path(run["log_path"]).read_text().count("told") == 1, "the runner climbs")
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: Path(run["log_path"]).read_text().count("told") == 2, "the daemon climbs")
    assert host.stop() == 0
    assert read_runs(host.paths)[run["id"]]["status"] == "running"
