"""A daemon that comes back finds everything as it is: what lives, what ended, what died, and who is a stranger (F6 to F33)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kit.fabricated import fabricate, marks_of, runs_db
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import STUBBORN, nest, waits_for
from kit.processes import alive, holders, state, zygote
from kit.waiting import until

from polpod.model.runs import Run
from polpod.runner import directory
from polpod.runner.containment import own_cgroup
from polpod.services.killer import GRACE, containments


def started(host: Host, task_id: str) -> dict[str, Any]:
    """The task's run, once its job has said something."""
    run = host.running(task_id)
    until(lambda: os.path.getsize(run["log_path"]) > 0, f"task {task_id} says something")
    return run


# The daemon's own comings and goings


@fault(
    7,
    "quick restarts, and a start that meets a stop",
    promise="The state directory is held to the very end: a start beside a stop is told the pid and exits 75, or takes over.",
    injected="a start beside a stop that waits for its job; then five times SIGTERM and starts until one takes over",
    seen_failing="a daemon that lets go of its locks as it begins to stop",
)
def test_f07_a_start_that_meets_a_stop_waits_its_turn(host: Host) -> None:
    host.configure(shutdownTimeout=120_000)
    first = host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"trap '' TERM; echo ready; {waits_for(go, 'exit 7')}", kill_grace=1000)
    run = started(host, task_id)
    first.send_signal(signal.SIGTERM)
    until(lambda: host.call("daemon.status")["state"] == "stopping", "it is stopping")
    second = host.command("--root", str(host.root), timeout=60)
    assert (second.returncode, f"another polpod (pid {first.pid}) has" in second.stderr) == (75, True), second.stderr
    go.touch()
    until(lambda: not alive(run["job_pid"]), "what it waited for is over")
    go.unlink()

    host.configure(onShutdown="keep")
    _starts_until_one_takes_over(host)
    assert first.wait(60) == 0
    before = until(lambda: host.runs(task_id)[1:], "it runs again") and host.running(task_id)
    for _ in range(5):
        assert host.daemon is not None
        stopping = host.daemon
        stopping.send_signal(signal.SIGTERM)
        _starts_until_one_takes_over(host)
        assert stopping.wait(60) == 0
        run = host.running(task_id)
        assert {n: run[n] for n in ("id", "pid", "started_at")} == {n: before[n] for n in ("id", "pid", "started_at")}
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 7
    assert [r["reason"] for r in host.runs(task_id)] == ["shutdown", "exited"]
    # A stop that keeps runs leaves what is not collected to the next start.
    until(lambda: all(row["collected_at"] for row in read_runs(host.paths).values()), "its runs are collected")
    settle(host)


def _starts_until_one_takes_over(host: Host) -> None:
    while not _takes_over(host):
        assert host.daemon is not None
        assert host.daemon.returncode == 75


def _takes_over(host: Host) -> bool:
    """Start a daemon: whether it is the one now, rather than ended."""
    second = host.start(wait=False)
    until(lambda: second.poll() is not None or _answers(host, second.pid), "the second answers or ends")
    return second.poll() is None


@pytest.mark.parametrize(
    "spelling", ["same", "dots", "relative", "symlink", pytest.param("mount", marks=pytest.mark.root)]
)
@fault(
    8,
    "two daemons are started on one state directory",
    promise="The second exits 75 at once; the first, its socket and its runs are not disturbed.",
    injected="a second start while a job runs, by the same path, by others to the same place, and through a bind mount",
    seen_failing="a daemon that goes on without the locks",
)
def test_f08_a_second_daemon_on_a_state_directory_ends_at_once(host: Host, spelling: str) -> None:
    """W8."""
    first = host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go))
    run = host.running(task_id)
    link, mount = host.root / "link", host.root / "mount"
    link.symlink_to(host.root)
    root = {
        "same": str(host.root),
        "dots": f"{host.root}/.polpo/../",
        "relative": host.root.name,
        "symlink": str(link),
        "mount": str(mount),
    }[spelling]
    inode = os.lstat(host.socket).st_ino
    with bound(host.root, mount) if spelling == "mount" else nullcontext():
        for options in ((), ("--socket", str(host.root / "other.sock"))):
            second = host.command("--root", root, *options, cwd=str(host.root.parent), timeout=60)
            assert second.returncode == 75
            assert f"pid {first.pid})" in second.stderr
            assert "Traceback" not in second.stderr
    assert not (host.root / "other.sock").exists()
    assert os.lstat(host.socket).st_ino == inode
    assert host.call("daemon.status")["pid"] == first.pid
    assert host.running(task_id)["pid"] == run["pid"]
    go.touch()
    assert host.finished(task_id)["status"] == "done"


@contextmanager
def bound(directory: Path, mount: Path) -> Iterator[None]:
    """The directory at a second place."""
    mount.mkdir()
    subprocess.run(["mount", "--bind", str(directory), str(mount)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(mount)], check=True)


# Runs that the daemon finds


@fault(
    11,
    "one hung runner holds up the recovery of all",
    promise="Each runner is judged on its own; the others start at once, and the hung one's run is itself again later.",
    injected="SIGSTOP to a runner, SIGKILL to the daemon, a new start",
    seen_failing="recovery that waits for each live runner's lock",
)
def test_f11_a_stopped_runner_holds_up_nobody(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 3"))
    run = host.running(task_id)
    os.kill(run["pid"], signal.SIGSTOP)
    until(lambda: state(run["pid"]) == "T", "the runner is stopped")
    host.kill()
    host.start()
    # Written once all is judged, with the runner stopped: nobody waited for it.
    until(lambda: len(host.call("event.list", after=0, kinds=["daemon:started"])["events"]) == 2, "recovery is over")
    assert host.finished(host.submit("true"))["status"] == "done"
    assert state(run["pid"]) == "T"
    assert host.running(task_id)["id"] == run["id"]
    os.kill(run["pid"], signal.SIGCONT)
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 3
    settle(host)


@fault(
    21,
    "a runner dies while no daemon runs",
    promise="At the next start the run is lost, its job is ended, and the task is tried again at no retry's cost.",
    injected="SIGKILL to the daemon, then to a runner; a new start",
    seen_failing="a claimed run without a living runner that is left as it is",
)
def test_f21_a_runner_that_died_while_nobody_watched_is_lost_and_its_job_is_gone(host: Host) -> None:
    """§13.153, W2."""
    host.start()
    pids = host.root / "pids"
    task_id = host.submit(shell=f"echo $$ >> {pids}; [ $(wc -l < {pids}) -ge 2 ] || exec sleep 1000")
    run = host.running(task_id)
    until(lambda: pids.exists() and pids.read_text(), "the job runs")
    host.kill()
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not alive(run["pid"]), "the runner is dead")
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 1)
    lost, again = host.runs(task_id)
    assert (lost["status"], lost["reason"], lost["exit_code"]) == ("lost", "lost", None)
    assert again["status"] == "completed"
    assert not any(alive(int(pid)) for pid in pids.read_text().split())
    settle(host)


def test_a_run_that_cannot_be_claimed_in_time_never_started(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="runner.go", POLPOD_CRASH_SIGNAL="SIGSTOP")
    task_id = host.submit("true")
    (runner,) = until(lambda: holders(host.paths.run(1).lock), "its runner is there")
    until(lambda: state(runner) == "T", "it hangs")
    host.kill()
    host.start()  # its time to claim is not over
    until(lambda: host.call("daemon.status")["state"] == "running", "recovery is over")
    assert host.call("run.get", id=1)["run"]["status"] == "starting"
    host.kill()
    with runs_db(host.paths) as db:
        db.execute("UPDATE runs SET claim_until_mono = 1")
    host.start()
    assert host.finished(task_id)["status"] == "done"
    os.kill(runner, signal.SIGCONT)  # now it may try, and has lost
    assert [(r["reason"], r["pid"] is None) for r in host.runs(task_id)] == [("never_started", True), ("exited", False)]
    until(lambda: not alive(runner), "the runner has ended")
    settle(host)


def test_what_a_run_left_behind_is_swept_and_what_nobody_knows_is_listed(host: Host) -> None:
    host.start()
    host.finished(host.submit("true"))
    until(lambda: read_runs(host.paths)[1]["collected_at"], "its directory is removed")
    assert host.stop() == 0
    for number in (1, 999):
        os.mkdir(host.paths.run(number).path)
        Path(host.paths.run(number).trouble).write_text("something")
    left = host.cgroup(1)
    if left is not None:
        left.make()
    host.start()
    (event,) = until(lambda: _starts_that_found(host, 999), "recovery is over")
    assert [n for n in os.listdir(host.paths.run_directories) if n.startswith("run-")] == ["run-999"]
    assert host.cgroups() == []
    assert event["body"]["foreign"] == [999]
    directory.remove(host.paths.run(999))


@pytest.mark.root
def test_cgroups_that_a_job_made_in_its_own_are_removed_however_deep(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go))
    group = host.cgroup(host.running(task_id)["id"])
    assert group is not None
    nest(group.path)
    go.touch()
    assert host.finished(task_id)["status"] == "done"
    until(lambda: not os.path.exists(group.path), "its cgroup is removed")
    assert host.stop() == 0


def _starts_that_found(host: Host, number: int) -> list[dict[str, Any]]:
    starts = host.call("event.list", after=0, kinds=["daemon:started"])["events"]
    return [event for event in starts if number in event["body"]["foreign"]]


def test_what_anybody_puts_beside_run_directories_and_logs_keeps_no_daemon_from_starting(host: Host) -> None:
    for name in ("run-\u00b2", "run-", f"run-{10**30}", "run-007", "spare-1/by-a-job"):
        os.makedirs(os.path.join(host.paths.run_directories, name))
    os.mkdir(host.paths.logs)
    for name in ("\u00b2.log", f"{10**30}.log"):
        Path(host.paths.logs, name).touch()
    host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    kept = {n for n in os.listdir(host.paths.run_directories) if n.startswith("run-")}
    assert kept == {"run-\u00b2", "run-", f"run-{10**30}", "run-007"}
    assert host.stop() == 0
    assert host.maintain("backup", str(host.root / "b")).returncode == 0
    done = host.maintain("restore", str(host.root / "b"))
    assert done.returncode == 0, done.stderr
    assert str(10**30) not in done.stdout + host.maintain("doctor").stdout


# Kills


@pytest.mark.parametrize("runner", ["lives", "dead", "stopped"])
@fault(
    6,
    "the daemon restarts in the middle of a kill",
    promise="The kill is a row with its own deadline: the next daemon goes on with it, and does not begin anew.",
    injected="SIGKILL to the daemon in the grace of a job that ignores SIGTERM, its runner alive, dead or stopped",
    seen_failing="recovery that does not resume kills; a climb for a stopped runner that counts from the restart",
)
def test_f06_a_kill_is_climbed_on_after_a_restart_in_its_grace(host: Host, runner: str) -> None:
    """W24."""
    host.start()
    grace = 600 if runner == "stopped" else 0.5  # a climb that began anew would come long after the test
    task_id = host.submit(shell=STUBBORN, kill_grace=grace)
    run = started(host, task_id)
    if runner != "lives":  # so that it does not end the job before the daemon dies
        os.kill(run["pid"], signal.SIGSTOP)
    host.call("task.cancel", select={"ids": [task_id]})
    asked = read_runs(host.paths)[run["id"]]
    host.kill()
    if runner == "dead":
        os.kill(run["pid"], signal.SIGKILL)
    if runner == "stopped":  # and that for so long that it is the daemon's turn
        with runs_db(host.paths) as db:
            db.execute("UPDATE runs SET kill_mono = kill_mono - ?", (int((grace + GRACE + 1) * 1e9),))
    host.start()
    assert host.finished(task_id)["status"] == "cancelled"
    row = read_runs(host.paths)[run["id"]]
    assert (row["status"], row["reason"]) == ("killed", "cancelled")
    assert [row[name] for name in ("kill_by", "kill_at", "kill_grace")] == [
        asked[name] for name in ("kill_by", "kill_at", "kill_grace")
    ]
    assert len(host.runs(task_id)) == 1
    assert not alive(run["job_pid"])
    until(lambda: not alive(run["pid"]), "the runner is gone, too")
    settle(host)


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "stopped"])
def test_what_left_its_cgroup_is_gone_before_its_run_is_over(host: Host, number: signal.Signals) -> None:
    """Root's processes may, and `su` and `sudo` do; here with a runner that does not see them as its children any more."""
    host.start()
    everybody = f"{own_cgroup()[0]}/cgroup.procs"
    leave = f"sh -c 'echo $$ > {everybody}; echo $$; exec sleep 100' & wait"
    task_id = host.submit(shell=leave, kill_grace=0.1)
    run = started(host, task_id)
    escaped = int(Path(run["log_path"]).read_text())
    os.kill(run["pid"], number)
    host.call("task.cancel", select={"ids": [task_id]})
    until(lambda: host.runs(task_id)[0]["status"] != "running", "its run is over")
    assert not alive(escaped)
    assert host.finished(task_id)["status"] == "cancelled"
    settle(host)


@pytest.mark.parametrize("containment", ["auto", "session"])
def test_a_runner_that_lives_is_no_part_of_its_job(host: Host, containment: str) -> None:
    """Its own CPU time would be a sign of activity of a job that hangs, and it is not ended with the job."""
    host.configure(containment=containment)
    host.start()
    run = started(host, host.submit(shell="echo up; exec sleep 1000"))
    row = msgspec.convert(read_runs(host.paths)[run["id"]], Run)
    assert [{p.pid for p in place.processes()} for place in containments(row)] == [{run["job_pid"]}] * (
        2 if row.containment == "cgroup" else 1
    )


@fault(
    32,
    "after a reboot the pid of a run is somebody else's, who is ended in its place",
    promise="Boot, pid namespace, pid, start ticks and pidfd inode must all fit, and the process must hold the run's lock; "
    "otherwise nothing is signalled.",
    injected="rows with a kill to be carried out that name a stranger: with each mark wrong, with another boot's, and with "
    "every mark right",
    seen_failing="the question whether the process holds the run's lock, alone and with the comparison of marks",
)
def test_f32_strangers_are_never_signalled(host: Host) -> None:
    """§13.155, §13.156, W1."""
    host.start()
    ids = [host.submit("true", hold=True) for _ in range(7)]
    host.kill()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            right = marks_of(stranger.pid)
            with runs_db(host.paths) as db:
                fabricate(db, ids[0], right | {"start_ticks": right["start_ticks"] + 1, "pidfd_inode": None})
                fabricate(db, ids[1], right | {"boot_id": "another boot"})
                fabricate(db, ids[2], right | {"pid_ns": 1})
                fabricate(db, ids[3], right | {"pidfd_inode": 1, "start_ticks": 1})
                fabricate(db, ids[4], right | {"pidfd_inode": 1})
                fabricate(db, ids[5], right)
                fabricate(db, ids[6], right | {"pidfd_inode": None})
            host.start()
            until(
                lambda: all(row["status"] == "killed" for row in read_runs(host.paths).values()), "all rows are decided"
            )
            assert host.stop() == 0
            assert (stranger.poll(), state(stranger.pid)) == (None, "S")
        finally:
            stranger.kill()


@pytest.mark.parametrize(
    ("pid_ns", "ticks_off"),
    [
        pytest.param(1, 0, id="another namespace"),  # a container that was started anew: its numbers mean nothing here
        pytest.param(None, -1, id="passed on"),
    ],
)
def test_a_stranger_with_the_pid_of_a_run_s_job_is_not_signalled(
    host: Host, pid_ns: int | None, ticks_off: int
) -> None:
    host.start()
    task_id = host.submit("true", hold=True)
    host.kill()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            right = marks_of(stranger.pid)
            job = {"job_pid": stranger.pid, "job_start_ticks": right["start_ticks"] + ticks_off}
            gone = right | job | {"pid": 2**22 - 1, "pidfd_inode": None}
            with runs_db(host.paths) as db:
                fabricate(db, task_id, gone if pid_ns is None else gone | {"pid_ns": pid_ns})
            host.start()
            until(lambda: read_runs(host.paths)[1]["status"] == "killed", "the row is decided")
            assert stranger.poll() is None
        finally:
            stranger.kill()


# The zygote


def test_a_killed_zygote_loses_no_task_and_costs_no_retry(host: Host) -> None:
    host.configure(maxConcurrency=4)
    daemon = host.start()
    trace = host.root / "trace"
    ids = [host.submit(shell=f"echo $POLPO_TASK_ID >> {trace}") for _ in range(10)]
    for _ in range(5):
        pid = until(lambda: zygote(daemon.pid), "there is a zygote")
        os.kill(pid, signal.SIGKILL)
        ids += [host.submit(shell=f"echo $POLPO_TASK_ID >> {trace}") for _ in range(5)]
        until(lambda: zygote(daemon.pid) not in (None, pid), "there is another zygote")
    for task_id in ids:
        task = host.finished(task_id)
        assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    assert sorted(trace.read_text().split()) == sorted(ids)
    settle(host)


def test_a_zygote_that_died_does_not_pause_the_launcher(host: Host) -> None:
    """The host is not ill when a process of ours dies: the tasks that waited for it start at once with the next one."""
    host.configure(maxConcurrency=8)
    daemon = host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    pid = until(lambda: zygote(daemon.pid), "there is a zygote")
    os.kill(pid, signal.SIGSTOP)
    batch = host.call("task.submit_many", defaults={"cwd": "/"}, tasks=[{"command": ["true"]}] * 6)
    assert len(batch["results"]) == 6
    until(lambda: len(read_runs(host.paths)) == 7, "six runs wait for the zygote")
    os.kill(pid, signal.SIGKILL)

    def done() -> bool:
        status = host.call("daemon.status")
        assert status["launcher"]["paused"] is None  # it would be, for as long as until the next probe
        return bool(status["tasks"] == {"done": 7})

    until(done, "all are done")
    settle(host)


def _answers(host: Host, pid: int) -> bool:
    try:
        return bool(host.call("daemon.status")["pid"] == pid)
    except (OSError, EOFError):
        return False
