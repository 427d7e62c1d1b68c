"""A daemon that comes back finds everything as it is: what lives, what ended, what died, and who is a stranger (F6 to F33)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kit.fabricated import fabricate, marks_of, runs_db
from kit.fault import fault
from kit.host import Host
from kit.invariants import Ledger, read_runs
from kit.processes import alive, holders, state, zygote
from kit.waiting import until

from polpod.model.runs import Run
from polpod.runner import directory
from polpod.runner.containment import own_cgroup
from polpod.services.killer import containments
from polpod.services.launcher import PROBE_EVERY

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.02; done"


def waits_for(go: Path, then: str = "exit 0") -> str:
    """A shell text that goes on once the file is there."""
    return f"while [ ! -e {go} ]; do sleep 0.02; done; {then}"


def started(host: Host, task_id: str) -> dict[str, Any]:
    """The task's run, once its job has said something."""
    run = host.running(task_id)
    until(lambda: os.path.getsize(run["log_path"]) > 0, f"task {task_id} says something")
    return run


def finish(host: Host) -> None:
    """Stop in order, and see that everything is."""
    assert host.stop() == 0
    Ledger(host.paths).settled()


# The daemon's own comings and goings


def test_ten_quick_restarts_change_nothing(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 7"))
    before = host.running(task_id)
    for _ in range(10):
        host.kill()
        host.start()
    run = host.running(task_id)
    assert {n: run[n] for n in ("id", "pid", "started_at")} == {n: before[n] for n in ("id", "pid", "started_at")}
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 7
    assert len(host.runs(task_id)) == 1
    finish(host)


def test_a_start_that_meets_a_stop_waits_its_turn(host: Host) -> None:
    host.configure(onShutdown="keep")
    first = host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go))
    before = host.running(task_id)
    first.send_signal(signal.SIGTERM)

    def second_starts() -> bool:
        second = host.start(wait=False)
        answers = until(lambda: second.poll() is not None or _answers(host, second.pid), "the second answers or ends")
        assert answers is True
        return second.poll() is None

    while not second_starts():
        assert host.daemon is not None
        assert host.daemon.returncode == 75
    assert first.wait(10) == 0
    assert host.running(task_id)["id"] == before["id"]
    go.touch()
    assert host.finished(task_id)["status"] == "done"


@pytest.mark.parametrize("spelling", ["same", "dots", "relative", "symlink"])
def test_a_second_daemon_on_a_state_directory_ends_at_once(host: Host, spelling: str) -> None:
    first = host.start()
    link = host.root / "link"
    link.symlink_to(host.root)
    root = {
        "same": str(host.root),
        "dots": f"{host.root}/.polpo/../",
        "relative": host.root.name,
        "symlink": str(link),
    }[spelling]
    inode = os.lstat(host.socket).st_ino
    second = host.command("--root", root, cwd=str(host.root.parent), timeout=10)
    assert second.returncode == 75
    assert f"pid {first.pid})" in second.stderr
    assert "Traceback" not in second.stderr
    assert os.lstat(host.socket).st_ino == inode
    assert host.call("daemon.status")["pid"] == first.pid


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
    before = time.monotonic()
    host.start()
    other = host.submit("true")
    assert host.finished(other)["status"] == "done"
    assert time.monotonic() - before < 5  # the first pass did not wait for it
    assert host.running(task_id)["id"] == run["id"]
    os.kill(run["pid"], signal.SIGCONT)
    go.touch()
    assert host.finished(task_id)["result"]["exit_code"] == 3
    finish(host)


def test_a_runner_that_died_while_nobody_watched_is_lost_and_its_job_is_gone(host: Host) -> None:
    host.start()
    pids = host.root / "pids"
    task_id = host.submit(shell=f"echo $$ >> {pids}; [ $(wc -l < {pids}) -ge 2 ] || exec sleep 1000")
    run = host.running(task_id)
    until(pids.exists, "the job runs")
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
    finish(host)


def test_how_a_job_ended_while_nobody_watched_is_known(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "kill -9 $$"))
    run = host.running(task_id)
    host.kill()
    go.touch()
    until(lambda: not alive(run["pid"]), "the runner has ended by itself")
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["result"]["reason"], task["result"]["signal"]) == ("failed", "signalled", 9)
    finish(host)


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
    finish(host)


def test_what_a_run_left_behind_is_swept_and_what_nobody_knows_is_listed(host: Host) -> None:
    host.start()
    host.finished(host.submit("true"))
    assert host.stop() == 0
    for number in (1, 999):
        os.mkdir(host.paths.run(number).path)
        Path(host.paths.run(number).trouble).write_text("something")
    left = host.cgroup(1)
    if left is not None:
        left.make()
    host.start()
    until(lambda: host.call("daemon.status")["state"] == "running", "recovery is over")
    assert [n for n in os.listdir(host.paths.run_directories) if n.startswith("run-")] == ["run-999"]
    assert host.cgroups() == []
    event = host.call("event.list", kinds=["daemon:started"])["events"][-1]
    assert event["body"]["foreign"] == [999]
    directory.remove(host.paths.run(999))


def test_what_anybody_puts_beside_run_directories_keeps_no_daemon_from_starting(host: Host) -> None:
    for name in ("run-\u00b2", "run-", f"run-{10**30}", "run-007", "spare-1/by-a-job"):
        os.makedirs(os.path.join(host.paths.run_directories, name))
    host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    kept = {n for n in os.listdir(host.paths.run_directories) if n.startswith("run-")}
    assert kept == {"run-\u00b2", "run-", f"run-{10**30}", "run-007"}


# Kills


def test_a_kill_is_climbed_on_after_a_restart_in_its_grace(host: Host) -> None:
    """Its runner is dead, too, so that it is for the daemon to climb (F6)."""
    host.start()
    task_id = host.submit(shell=STUBBORN, kill_grace=0.5)
    run = started(host, task_id)
    host.call("task.cancel", select={"ids": [task_id]})
    host.kill()
    os.kill(run["pid"], signal.SIGKILL)
    host.start()
    assert host.finished(task_id)["status"] == "cancelled"
    (run,) = host.runs(task_id)
    assert (run["status"], run["reason"]) == ("killed", "cancelled")
    assert not alive(run["job_pid"])
    finish(host)


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
    finish(host)


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


def test_the_daemon_climbs_for_a_runner_that_does_not_answer(host: Host) -> None:
    host.start()
    task_id = host.submit(shell=STUBBORN, kill_grace=0.1)
    run = started(host, task_id)
    os.kill(run["pid"], signal.SIGSTOP)
    host.call("task.cancel", select={"ids": [task_id]})
    host.kill()
    host.start()
    assert host.task(task_id)["state"] == "cancelling"
    assert host.finished(task_id)["status"] == "cancelled"
    assert not alive(run["job_pid"])
    assert not alive(run["pid"])
    finish(host)


@fault(
    32,
    "after a reboot the pid of a run is somebody else's, who is ended in its place",
    promise="Boot, pid namespace, pid, start ticks and pidfd inode must all fit, and the process must hold the run's lock; "
    "otherwise nothing is signalled.",
    injected="rows with a kill to be carried out that name a stranger: with each mark wrong, with another boot's, and with "
    "every mark right",
    seen_failing="the question whether the process holds the run's lock; also the comparison of marks",
)
def test_f32_strangers_are_never_signalled(host: Host) -> None:
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


def test_pids_of_another_namespace_mean_nothing_here(host: Host) -> None:
    """As in a container that was started anew, where a stranger may lead a session by the number of an old job's."""
    host.start()
    task_id = host.submit("true", hold=True)
    host.kill()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            right = marks_of(stranger.pid)
            job = {"job_pid": stranger.pid, "job_start_ticks": right["start_ticks"]}
            with runs_db(host.paths) as db:
                fabricate(db, task_id, right | job | {"pid": 2**22 - 1, "pidfd_inode": None, "pid_ns": 1})
            host.start()
            until(lambda: read_runs(host.paths)[1]["status"] == "killed", "the row is decided")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_job_s_pid_that_passed_to_a_stranger_is_not_signalled(host: Host) -> None:
    host.start()
    task_id = host.submit("true", hold=True)
    host.kill()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            right = marks_of(stranger.pid)
            gone = right | {"pid": 2**22 - 1, "job_pid": stranger.pid, "job_start_ticks": right["start_ticks"] - 1}
            with runs_db(host.paths) as db:
                fabricate(db, task_id, gone)
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
    finish(host)


def test_a_zygote_that_died_does_not_pause_the_launcher(host: Host) -> None:
    """The host is not ill when a process of ours dies: the tasks that waited for it start at once with the next one."""
    host.configure(maxConcurrency=8)
    daemon = host.start()
    pid = until(lambda: zygote(daemon.pid), "there is a zygote")
    os.kill(pid, signal.SIGSTOP)
    batch = host.call("task.submit_many", defaults={"cwd": "/"}, tasks=[{"command": ["true"]}] * 6)
    ids = [result["id"] for result in batch["results"]]
    until(lambda: len(read_runs(host.paths)) == 6, "six runs wait for the zygote")
    os.kill(pid, signal.SIGKILL)
    for task_id in ids:
        assert host.finished(task_id, bound=PROBE_EVERY - 2)["status"] == "done"
    finish(host)


def _answers(host: Host, pid: int) -> bool:
    try:
        return bool(host.call("daemon.status")["pid"] == pid)
    except (OSError, EOFError):
        return False
