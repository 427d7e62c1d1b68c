"""Ending what is meant, all of it, and nobody else (F33 to F47)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kit.fabricated import fabricate, marks_of, runs_db
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import STUBBORN, waits_for
from kit.namespaces import in_pid_namespace, stranger
from kit.processes import alive, ended_at_last, holders, state, with_env
from kit.unkillable import unanswering
from kit.waiting import until

from polpod.runner import contract

LEVELS = (pytest.param("auto", marks=pytest.mark.root), "session")
"""Settings of `containment`: a cgroup for each run, which takes root here, and none."""

MARK = "POLPOD_TEST_MARK"


def cancel(host: Host, task_id: str) -> None:
    host.call("task.cancel", select={"ids": [task_id]})


def marked(host: Host) -> dict[str, str]:
    """What to give a job as `env`, so that `left` finds all of it."""
    return dict(os.environ) | {MARK: host.root.name}


def left(host: Host) -> list[int]:
    """Processes of jobs that were given `marked`."""
    return with_env(f"{MARK}={host.root.name}")


@contextmanager
def much_to_look_at() -> Iterator[None]:
    """Processes of others, with so many open files that a look at all of them takes longer than a short process lives."""
    with ExitStack() as crowd:
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1000)]
        try:
            for _ in range(50):
                crowd.enter_context(ended_at_last(subprocess.Popen(["sleep", "1000"], pass_fds=files)))
        finally:
            for fd in files:
                os.close(fd)
        yield


def limit(host: Host, run: dict[str, Any], what: str) -> None:
    """Start the daemon anew; from then on the run has this limit, which no later run of its task has."""
    host.kill()
    with runs_db(host.paths) as db:
        db.execute(f"UPDATE runs SET {what} WHERE id = ?", (run["id"],))
    host.start()


def ended(host: Host, task_id: str) -> dict[str, Any] | None:
    """The task's last run as soon as it is over."""
    run = host.runs(task_id)[-1]
    return None if run["status"] in contract.LIVE else run


# Whom a pid means


def _end_and_reap(run: dict[str, Any]) -> list[int]:
    """SIGKILL runner and job, which are orphans of ours inside a pid namespace; their pids, which are free now."""
    os.kill(run["pid"], signal.SIGKILL)
    os.waitpid(run["pid"], 0)
    os.kill(run["job_pid"], signal.SIGKILL)
    os.waitpid(run["job_pid"], 0)
    return [run["pid"], run["job_pid"]]


@fault(
    33,
    "the pid of a run is given to somebody else while the host runs on: that one is waited for, or ended",
    promise="A live runner is known by a pidfd, a found one by its start ticks and inode; who has its pid now is neither "
    "waited for nor signalled, and the run is decided at once.",
    injected="in a pid namespace strangers get the pids of killed runners and jobs, while the daemon is stopped, and while "
    "it is dead with a kill of a run still to be carried out",
    seen_failing="start ticks of a job no longer compared; runners known by their pid alone",
)
@pytest.mark.root
@pytest.mark.parametrize("containment", ["auto", "session"])
def test_f33_who_has_a_run_s_pid_now_is_left_alone(
    request: pytest.FixtureRequest, host: Host, containment: str
) -> None:
    """W3."""
    if not in_pid_namespace(request):
        return
    host.configure(maxConcurrency=4, killGrace=100, containment=containment)
    daemon = host.start(POLPOD_CRASH_AT="kill.requested")
    seen = [host.root / name for name in ("live", "dead", "doomed")]
    live, dead, doomed = (host.submit(shell=f"[ -e {s} ] || {{ > {s}; exec sleep 1000; }}") for s in seen)
    runs = {task_id: host.running(task_id) for task_id in (live, dead, doomed)}
    until(lambda: all(s.exists() for s in seen), "the jobs run")
    with ExitStack() as strangers:

        def replace(task_id: str) -> None:
            for pid in _end_and_reap(runs[task_id]):
                strangers.enter_context(stranger(pid))

        os.kill(daemon.pid, signal.SIGSTOP)
        replace(live)
        os.kill(daemon.pid, signal.SIGCONT)
        assert host.finished(live)["recoveries"] == 1
        with suppress(EOFError, ConnectionError):
            cancel(host, doomed)
        daemon.wait()
        replace(dead)
        replace(doomed)
        host.start()
        assert host.finished(dead)["recoveries"] == 1
        assert host.finished(doomed)["status"] == "cancelled"
        assert [r["status"] for t in runs for r in host.runs(t)] == ["lost", "completed"] * 2 + ["killed"]
        settle(host)


@fault(
    40,
    "a pid or group of 0, 1 or -1, the killer's own, or another user's is signalled",
    promise="Nobody but a proven runner and the processes of its job is ever signalled, least of all the daemon's own "
    "group, whatever a row says.",
    injected="rows with a kill to be carried out whose runner or job is -1, 0, 1, the daemon itself, a process of its "
    "group, one of another user; in a pid namespace, so that no mistake leaves it, whose first process leads a group",
    seen_failing="the daemon's own group and session, and then that of pid 1, no longer left out of a job's",
)
@pytest.mark.root
def test_f40_a_row_cannot_turn_the_daemon_against_others(request: pytest.FixtureRequest, host: Host) -> None:
    if not in_pid_namespace(request):
        return
    os.setsid()
    host.start()
    ids = iter([host.submit("true", hold=True) for _ in range(9)])
    host.kill()
    known, gate = host.root / "known", host.root / "gate"
    os.mkfifo(gate)
    wait = f'sleep 1000 & echo $! > {known}; read go < {gate}; exec "$@"'
    daemon = host.start(wait=False, under=("setsid", "sh", "-c", wait, "sh"))
    neighbour = int(until(lambda: known.exists() and known.read_text(), "the daemon's group has another process"))
    with (
        ended_at_last(subprocess.Popen(["sleep", "1000"], start_new_session=True, user=65534)) as other,
        ended_at_last(subprocess.Popen(["sleep", "1000"])) as beside_init,
    ):
        nobody = marks_of(other.pid) | {"pid": 2**22 - 1, "pidfd_inode": None}
        with runs_db(host.paths) as db:
            for pid in (-1, 0, 1):
                fabricate(db, next(ids), marks_of(1) | {"pid": pid})
                fabricate(db, next(ids), nobody | {"job_pid": pid, "job_start_ticks": marks_of(1)["start_ticks"]})
            job = {"job_pid": daemon.pid, "job_start_ticks": marks_of(daemon.pid)["start_ticks"]}
            for pid in (daemon.pid, neighbour, other.pid):
                fabricate(db, next(ids), marks_of(pid) | job)
        gate.write_text("go\n")
        until(lambda: all(row["status"] == "killed" for row in read_runs(host.paths).values()), "all rows are decided")
        assert host.call("daemon.status")["pid"] == daemon.pid
        assert [state(pid) for pid in (neighbour, other.pid, beside_init.pid)] == ["S"] * 3
        assert host.stop() == 0
        os.kill(neighbour, signal.SIGKILL)


# All of it


@fault(
    36,
    "processes that are forked while the killer looks escape it",
    promise="A cgroup is killed as one; without it, what is found is stopped before it is killed, and looked for until the "
    "runner has no child left. Only then the run is called killed.",
    injected="a job whose processes ignore SIGTERM, fork without end, in sessions of their own, and each live for some ms; "
    "on a host where a look at all processes takes longer than they live, with its runner and after the runner's SIGKILL",
    seen_failing="a ladder that signals once what one look found, and takes that for the end; a look that does not go on "
    "with those who came while it looked",
)
@pytest.mark.parametrize("runner", ["lives", "dies"])
@pytest.mark.parametrize("containment", LEVELS)
def test_f36_a_fork_storm_is_over_when_it_is_called_killed(host: Host, containment: str, runner: str) -> None:
    """W23."""
    host.configure(containment=containment)
    host.start()
    hops, storm = host.root / "hops", host.root / "storm.sh"
    storm.write_text(
        "trap '' TERM\n"
        f"hop() {{ echo >> {hops}; sleep 0.002; hop & }}\n"
        "hop & hop & hop & hop & hop & hop & hop & hop &\n"
        "while :; do setsid sh -c 'sleep 0.3' & sleep 0.02; done\n"
    )
    task_id = host.submit("sh", str(storm), env=marked(host), kill_grace=0.2)
    until(lambda: hops.exists() and hops.stat().st_size > 20, "the storm goes")
    with much_to_look_at():
        if runner == "dies":
            os.kill(host.running(task_id)["pid"], signal.SIGKILL)
        cancel(host, task_id)
        until(partial(ended, host, task_id), "the run is over")
        before = hops.stat().st_size
        assert [left(host) for _ in range(5)] == [[]] * 5  # one look may miss who is forked meanwhile
        assert hops.stat().st_size == before
    assert host.finished(task_id)["status"] == "cancelled"
    settle(host)


@fault(
    37,
    "only the shell of a job is ended, or its child first, so that the shell goes on to the next command",
    promise="The job is ended as a whole: no command of it lives on, and none that follows is begun.",
    injected="cancelling shells with commands one after another, in a pipe, in the background, shells of shells, and one that "
    "handles SIGTERM, which shells do when their command has ended",
    seen_failing="a ladder that signals the main process alone; one that ends the children first",
)
@pytest.mark.parametrize("containment", LEVELS)
def test_f37_a_shell_and_its_commands_end_together(host: Host, containment: str) -> None:
    """W23."""
    host.configure(maxConcurrency=6, containment=containment)
    host.start()
    after, handles = host.root / "after", host.root / "handles"
    texts = (
        f"sleep 1000; > {after}",
        f"sleep 1000 | cat; > {after}",
        f"sleep 1000 & wait; > {after}",
        f"sh -c 'sleep 1000; > {after}'; > {after}",
        f"(sleep 1000; > {after}) & sleep 1000 || > {after}",
        f"trap 'exit 3' TERM; sh -c '> {handles}; exec sleep 1000'; > {after}",
    )
    ids = [host.submit(shell=text, env=marked(host), kill_grace=30) for text in texts]
    for task_id in ids:
        host.running(task_id)
    until(lambda: handles.exists() and len(left(host)) >= 2 * len(texts), "shells and commands run")
    for task_id in ids:
        cancel(host, task_id)
    runs = [until(partial(ended, host, task_id), "the run is over") for task_id in ids]
    assert {run["status"] for run in runs} == {"killed"}
    assert [run["signal"] or run["exit_code"] for run in runs] == [signal.SIGTERM] * (len(texts) - 1) + [3]
    assert left(host) == []
    assert not after.exists()
    settle(host)


@fault(
    38,
    "a job that ignores SIGTERM is not ended, or nobody sees that it is being ended",
    promise="It has its grace and then gets SIGKILL; until that is proven, the task says that it is being ended, since when, "
    "and when SIGKILL comes.",
    injected="cancelling a job that ignores SIGTERM",
    seen_failing="a runner that goes on waiting after the grace; the sentence without its times",
)
def test_f38_a_job_that_ignores_sigterm_is_killed_after_its_grace(host: Host) -> None:
    """W24."""
    host.start()
    task_id = host.submit(shell=STUBBORN, env=marked(host), kill_grace=1.5)
    run = host.running(task_id)
    until(lambda: os.path.getsize(run["log_path"]) > 0, "it ignores SIGTERM from now on")
    os.kill(run["pid"], signal.SIGSTOP)  # its grace is not over before all has been asked
    cancel(host, task_id)
    assert host.task(task_id)["state"] == "cancelling"
    (sentence,) = host.call("task.why", id=task_id)["sentences"]
    assert sentence.startswith(f"Run {run['id']} is being ended (cancelled): SIGTERM ")
    assert "SIGKILL" in sentence
    assert alive(run["job_pid"])
    os.kill(run["pid"], signal.SIGCONT)
    over = until(partial(ended, host, task_id), "the run is over")
    assert left(host) == []
    assert (over["status"], over["reason"], over["signal"]) == ("killed", "cancelled", signal.SIGKILL)
    assert over["duration"] > 1.5
    assert over["error"] is None  # its runner ended it, not the daemon
    assert host.finished(task_id)["status"] == "cancelled"
    settle(host)


@fault(
    39,
    "a process that SIGKILL does not end (state D): the killer hangs, or says that it is gone",
    promise="Its slot stays taken, the task is called stuck, with an event; the daemon goes on, stops in time, and at the "
    "next start goes on trying. Killed is said when it is.",
    injected="a job that asks a FUSE file system which never answers; its runner is killed, so that the daemon ends it",
    seen_failing="killed recorded after SIGKILL without its proof",
)
@pytest.mark.root
def test_f39_what_cannot_be_killed_is_called_stuck_and_holds_up_nothing_else(host: Host) -> None:
    host.configure(maxConcurrency=1, shutdownTimeout=1000)
    host.start()
    with unanswering(host.root / "trap") as server:
        task_id = host.submit("cat", str(server.path / "file"), kill_grace=0.1)
        run = host.running(task_id)
        server.trap()
        cancel(host, task_id)
        os.kill(run["pid"], signal.SIGKILL)
        until(lambda: state(run["job_pid"]) == "D", "the job survives SIGKILL")
        waits = host.submit("true")
        until(lambda: host.task(task_id)["state"] == "stuck", "it is called stuck")
        (event,) = until(lambda: host.call("event.list", kinds=["run:stuck"])["events"], "there is an event")
        assert event["subject"] == f"run/{run['id']}"
        assert host.task(waits)["state"] == "ready"
        assert host.call("task.why", id=waits)["sentences"] == ["All 1 slots are taken."]
        assert host.stop() == 0
        assert read_runs(host.paths)[run["id"]]["status"] == "running"
        host.start()
        assert host.task(task_id)["state"] in ("cancelling", "stuck")
    assert host.finished(task_id)["status"] == "cancelled"
    assert not alive(run["job_pid"])
    assert host.finished(waits)["status"] == "done"
    settle(host)


# Ends that meet


@fault(
    41,
    "a time limit and the job's own end come at the same moment, and both are recorded, or neither",
    promise="A run has one end, decided by compare-and-set; a job that had ended before it was signalled ended by itself.",
    injected="160 jobs that sleep about as long as they may; and one that ends while its runner is stopped, before the limit",
    seen_failing="a runner that asks for a kill before it looks whether the job has ended",
)
def test_f41_a_limit_and_the_job_s_own_end_make_one_outcome(host: Host) -> None:
    host.configure(maxConcurrency=20)
    host.start()
    go = host.root / "go"
    first = host.submit(shell=waits_for(go, "exit 3"))
    run = host.running(first)
    os.kill(run["pid"], signal.SIGSTOP)
    go.touch()
    until(lambda: state(run["job_pid"]) == "Z", "the job has ended")
    limit(host, run, "max_duration = 0.1")
    until(lambda: host.runs(first)[0]["kill_reason"] == "timeout", "its time is over as well")
    os.kill(run["pid"], signal.SIGCONT)
    result = host.finished(first)["result"]
    assert (result["reason"], result["exit_code"]) == ("exited", 3)

    tasks = [{"command": ["sleep", "0.25"], "cwd": "/", "max_duration": 0.2 + n % 20 / 200} for n in range(160)]
    ids = [result["id"] for result in host.call("task.submit_many", tasks=tasks)["results"]]
    outcomes = set()
    for task_id in ids:
        task = host.finished(task_id)
        (run,) = host.runs(task_id)
        assert (task["result"]["status"], task["result"]["reason"]) == (run["status"], run["reason"])
        outcomes.add((task["status"], run["status"], run["reason"]))
        # How a job ended that was signalled is a fact beside the outcome: in that moment it may have exited by itself.
        assert run["status"] == "killed" or (run["exit_code"], run["signal"]) == (0, None)
    assert outcomes <= {("done", "completed", "exited"), ("failed", "killed", "timeout")}
    settle(host)


def test_a_limit_counts_from_the_start_and_not_before_it(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="runner.go", POLPOD_CRASH_SIGNAL="SIGSTOP")
    task_id = host.submit("true", max_duration=0.3)
    (runner,) = until(lambda: holders(host.paths.run(1).lock), "its runner is there")
    until(lambda: state(runner) == "T", "it hangs before its claim")
    end = time.monotonic() + 0.7
    until(lambda: time.monotonic() > end, "the time is over that it may run")
    os.kill(runner, signal.SIGCONT)
    host.finished(task_id)
    (run,) = host.runs(task_id)
    assert run["reason"] == "exited" or run["duration"] >= 0.3  # on a busy host it takes so long
    settle(host)


@fault(
    42,
    "a run is reported as timed out while a child of it lives on",
    promise="Timed out is written only when nothing of the job is left.",
    injected="a job over its limit whose child has a session of its own and ignores SIGTERM",
    seen_failing="the proof taken out of the ladder",
)
@pytest.mark.parametrize("containment", LEVELS)
def test_f42_timed_out_is_said_when_nothing_is_left(host: Host, containment: str) -> None:
    """W24."""
    host.configure(containment=containment)
    host.start()
    up = host.root / "up"
    child = f'trap "" TERM; > {up}; while :; do sleep 0.02; done'
    task_id = host.submit(
        shell=f"setsid sh -c '{child}' > /dev/null 2>&1 & while :; do sleep 0.02; done",
        env=marked(host),
        kill_grace=0.3,
    )
    until(up.exists, "the child ignores SIGTERM")
    limit(host, host.running(task_id), "max_duration = 0.1")
    run = until(partial(ended, host, task_id), "the run is over")
    assert left(host) == []
    assert (run["status"], run["reason"]) == ("killed", "timeout")
    assert (host.finished(task_id)["status"], host.task(task_id)["result"]["reason"]) == ("failed", "timeout")
    settle(host)


# One for all


@contextmanager
def _memory_limit(host: Host, run: dict[str, Any], limit: int) -> Iterator[str]:
    """At most so many bytes for the run's job; how the kernel's OOM kill of it will be called."""
    group = host.cgroup(run["id"])
    own = None if group is None else Path(group.path, "memory.max")
    if own is not None and own.exists():
        own.write_text(str(limit))
        assert own.with_name("memory.oom.group").read_text() == "1\n"
        yield "oom"
        return
    # The memory controller is that of cgroup version 1: no run has it, and none can know why it was killed.
    (mount,) = (m.split()[1] for m in Path("/proc/mounts").read_text().splitlines() if _is_memory_v1(m))
    (inside,) = (m.split(":")[2] for m in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in m)
    old = Path(mount, inside.lstrip("/"), host.root.name)
    old.mkdir()
    try:
        (old / "memory.limit_in_bytes").write_text(str(limit))
        (old / "memory.swappiness").write_text("0")
        (old / "cgroup.procs").write_text(str(run["job_pid"]))
        yield "signalled"
    finally:
        until(lambda: not (old / "cgroup.procs").read_text(), "nothing is in it")
        old.rmdir()


def _is_memory_v1(mount: str) -> bool:
    _, _, kind, options, *_ = mount.split()
    return kind == "cgroup" and "memory" in options.split(",")


@fault(
    45,
    "the kernel ends one job for want of memory, and with it all jobs, or the daemon",
    promise="Each run has a cgroup of its own, which the kernel ends as a whole and alone; the outcome is `oom`, with the peak, "
    "where the memory controller is that of cgroup2.",
    injected="a job that fills its memory limit beside another "
    "(on hosts with the old memory controller in a group of that one; then the outcome is SIGKILL)",
    seen_failing="the kernel's SIGKILL taken for an end like any other (on a host with the memory controller of cgroup2)",
)
@pytest.mark.root
def test_f45_a_job_without_memory_left_dies_alone(host: Host) -> None:
    host.configure(maxConcurrency=2)
    host.start()
    go, fill = host.root / "go", host.root / "fill"
    other = host.submit(shell=waits_for(go, "exit 3"))
    hog = host.submit(
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import os, time\nwhile not os.path.exists({str(fill)!r}): time.sleep(0.02)\n"
        "kept = []\nwhile True: kept.append(b'x' * 2**20)",
    )
    before, run = host.running(other), host.running(hog)
    with _memory_limit(host, run, 64 * 2**20) as reason:
        fill.touch()
        task = host.finished(hog)
    assert (task["status"], task["result"]["reason"], task["result"]["signal"]) == ("failed", reason, signal.SIGKILL)
    assert host.runs(hog)[0]["max_rss"] > 32 * 2**20
    assert host.running(other)["pid"] == before["pid"]
    until(lambda: host.call("daemon.health")["ok"], "all is well")
    go.touch()
    assert host.finished(other)["result"]["exit_code"] == 3
    settle(host)


# One at a time


@fault(
    47,
    "a run that is silent for too long is begun anew while the old one only slept, and two work in one directory",
    promise="The next attempt starts when nothing of the one before is left; what that one says later is refused by its "
    "nonce, and changes nothing.",
    injected="SIGSTOP to runner and job for longer than stale_threshold, then SIGCONT; then reports in the old run's name, "
    "while the next one runs",
    seen_failing="health that writes down the end of a stale run without waiting for it; the nonce in the statement that "
    "finishes a run",
)
def test_f47_a_stale_run_is_over_before_the_next_one_starts(host: Host) -> None:
    """W24."""
    host.start()
    alone, go, end = host.root / "alone", host.root / "go", host.root / "end"
    # Whoever holds the lock is alone; a second one at the same time would say so, and exit with 9.
    second_time = waits_for(end)
    script = f"exec 9> {alone}; flock -n 9 || exit 9; [ -e {go} ] && {{ {second_time}; }}; > {go}; exec sleep 1000"
    task_id = host.submit(shell=script, max_retries=1, retry_delay=0, kill_grace=30)
    run = host.running(task_id)
    until(go.exists, "the job works")
    for pid in (run["pid"], run["job_pid"]):
        os.kill(pid, signal.SIGSTOP)
    limit(host, run, "stale_threshold = 0.5")
    until(lambda: host.runs(task_id)[0]["kill_reason"] == "stale", "it was silent for too long")
    beside = host.submit("true")
    assert host.finished(beside)["status"] == "done"  # whatever could be started was
    assert [r["status"] for r in host.runs(task_id)] == ["running"]
    assert host.task(task_id)["state"] == "cancelling"
    for pid in (run["job_pid"], run["pid"]):  # the runner last, since it ends the job as soon as it goes on
        os.kill(pid, signal.SIGCONT)
    until(lambda: len(host.runs(task_id)) == 2, "it is tried again")
    second = host.running(task_id)
    nonce = read_runs(host.paths)[run["id"]]["nonce"]
    for run_id in (run["id"], second["id"]):
        late = {"status": "failed", "reason": "exited", "exit_code": 7, "ended_at": contract.timestamp()}
        host.call("run.report", id=run_id, nonce=nonce, **late)
    assert host.finished(host.submit("true"))["status"] == "done"  # it has looked at the reports by now
    assert host.running(task_id)["id"] == second["id"]
    end.touch()
    task = host.finished(task_id)
    assert (task["status"], task["retries"]) == ("done", 1)
    assert [(r["status"], r["reason"], r["exit_code"]) for r in host.runs(task_id)] == [
        ("killed", "stale", None),
        ("completed", "exited", 0),
    ]
    settle(host)
