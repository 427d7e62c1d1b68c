"""A runner dies, errs or outlives its daemon, and jobs do what jobs do: outcomes are known or called unknown (F20 to F29)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kit.fault import fault
from kit.host import Host
from kit.invariants import read_runs, settle
from kit.jobs import waits_for
from kit.processes import alive, children
from kit.waiting import until

LEVELS = (pytest.param("auto", marks=pytest.mark.root), "session")
"""Of containment; only root can count on a cgroup."""


@fault(
    20,
    "a runner and its job are killed together",
    promise="It is noticed within two seconds: the run is lost, and the task is tried again, or waits for a person if it "
    "has side effects.",
    injected="SIGKILL to a runner and its job at once",
    seen_failing="a daemon that looks at runs only when they report",
)
def test_f20_a_runner_and_its_job_killed_together_are_lost_at_once(host: Host) -> None:
    """W4."""
    host.start()
    trace = host.root / "trace"
    once = f"[ ! -e {trace} ] || exit 0; > {trace}; exec sleep 1000"
    again, parked = host.submit(shell=once), host.submit("sleep", "1000", side_effects=True)
    for task_id in (again, parked):
        run = host.running(task_id)
        if task_id == again:
            until(trace.exists, "the job has begun")
        killed = datetime.now(UTC)
        os.kill(run["pid"], signal.SIGSTOP)  # or it reaps the job, or the job goes with it, between the two
        for pid in (run["job_pid"], run["pid"]):
            os.kill(pid, signal.SIGKILL)
        task = host.finished(task_id)
        lost = host.runs(task_id)[0]
        assert (lost["status"], lost["reason"], lost["exit_code"], lost["signal"]) == ("lost", "lost", None, None)
        # Two, and what a busy machine takes of its own.
        assert (datetime.fromisoformat(lost["ended_at"]) - killed).total_seconds() < 60
        assert (task["retries"], task["recoveries"]) == (0, 1)
        assert task["status"] == ("done" if task_id == again else "awaiting_approval")
    settle(host)


@fault(
    23,
    "a runner writes to the socket or the output of a dead daemon",
    promise="Runners have no output but files of their own, ignore SIGPIPE, and a report that nobody takes means only "
    "that the record will do.",
    injected="SIGKILL to the daemon, the run store out of reach, and a listener in its place that lets go of whoever reports",
    seen_failing="runners that keep the daemon's standard error; SIGPIPE left at its default",
)
def test_f23_a_report_that_nobody_takes_costs_nothing(host: Host) -> None:
    host.configure(maxConcurrency=16)
    host.start()
    go = host.root / "go"
    ids = [host.submit(shell=waits_for(go, "exit 9")) for _ in range(16)]
    runs = [host.running(i) for i in ids]
    for run in runs:
        assert {os.readlink(f"/proc/{run['pid']}/fd/{fd}") for fd in (0, 1, 2)} == {os.devnull}
        assert ignored(run["pid"]) >= {signal.SIGPIPE, signal.SIGHUP}
    host.kill()
    os.unlink(host.socket)
    with host.without_runs_db(), socket.socket(socket.AF_UNIX) as listener:  # so that they report
        listener.bind(host.socket)
        listener.listen(0)  # some find nobody, some are let go of before or after they wrote
        listener.settimeout(60)
        go.touch()
        listener.accept()[0].close()
        until(lambda: not any(alive(run["pid"]) for run in runs), "the runners have ended")
    host.start()
    for task_id in ids:
        task = host.finished(task_id)
        assert (task["status"], task["result"]["exit_code"], task["recoveries"]) == ("failed", 9, 0)
    settle(host)


def ignored(pid: int) -> set[int]:
    """The signals that this process ignores."""
    (mask,) = (line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigIgn" in line)
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


@fault(
    24,
    "a runner spins after an error on a descriptor",
    promise="Whatever goes away at its other ends, a runner uses less than a hundredth of a CPU, also while it cannot "
    "record how its job ended.",
    injected="SIGKILL to the daemon; then both places for the result out of reach as the job ends",
    seen_failing="a runner that looks instead of sleeping; one that tries to record without a pause",
)
def test_f24_a_runner_without_its_ends_rests(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"echo begun; {waits_for(go, 'exit 9')}")
    run = host.running(task_id)
    until(lambda: os.path.getsize(run["log_path"]), "the job has begun")
    host.kill()
    rests(run["pid"])
    db, directory = host.paths.runs_db, host.paths.run(run["id"]).path
    for path in (db, directory):
        os.rename(path, path + ".away")
    os.mkdir(db)  # neither there nor gone, so that the runner stays
    go.touch()
    until(lambda: not children(run["pid"]), "the job is reaped")
    rests(run["pid"])
    os.rmdir(db)
    for path in (db, directory):
        os.rename(path + ".away", path)
    until(lambda: not alive(run["pid"]), "the runner has recorded")
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["result"]["exit_code"], task["recoveries"]) == ("failed", 9, 0)
    settle(host)


def rests(pid: int) -> None:
    """It uses less than a hundredth of a CPU for two seconds."""
    used, begun = cpu_seconds(pid), time.monotonic()
    until(lambda: time.monotonic() > begun + 2, "two seconds are over")
    assert cpu_seconds(pid) - used < 0.01 * (time.monotonic() - begun)


def cpu_seconds(pid: int) -> float:
    """What it has used so far, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data.rstrip()) // 2],
    "zeros": lambda data: bytes(len(data)),
    "another code": lambda data: data.replace(b'\\"exit_code\\":7', b'\\"exit_code\\":0'),
}


@pytest.mark.parametrize("damage", DAMAGE)
@fault(
    25,
    "the record of how a job ended is empty or cut short",
    promise="It is never guessed from: the run is lost, and the file is kept beside the run's log, with an event.",
    injected="an exit.json that is emptied, cut, zeroed or altered while no daemon runs",
    seen_failing="a record that is believed without its checksum; a damaged one that is removed with its directory",
)
def test_f25_a_damaged_record_is_kept_and_not_believed(host: Host, damage: str) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 7"), side_effects=True)
    run = host.running(task_id)
    host.kill()
    with host.without_runs_db():
        go.touch()
        until(lambda: not alive(run["pid"]), "the runner has ended")
    record = Path(host.paths.run(run["id"]).exit)
    sound = record.read_bytes()
    damaged = DAMAGE[damage](sound)
    assert damaged != sound
    record.write_bytes(damaged)
    host.start()
    task = host.finished(task_id)
    assert (task["status"], task["retries"], task["recoveries"]) == ("awaiting_approval", 0, 1)
    (lost,) = host.runs(task_id)
    assert (lost["status"], lost["exit_code"]) == ("lost", None)
    (event,) = host.call("event.list", after=0, kinds=["run:quarantined"])["events"]
    kept = Path(host.paths.damaged_exit(run["id"]))
    assert event["subject"] == f"run/{run['id']}"
    assert str(kept) in event["body"]["problem"]
    assert kept.read_bytes() == damaged
    settle(host)


@fault(
    26,
    "an exit is reported as 0 because the true one is not known",
    promise="Unknown is a value of its own, everywhere: no exit code, not done, and nothing that depends on it starts.",
    injected="SIGKILL to the runner of a job that would have succeeded, which had left it by a double fork",
    seen_failing="a lost run that is recorded with exit code 0",
)
def test_f26_what_is_not_known_is_not_called_success(host: Host) -> None:
    """W2."""
    host.start()
    pid = host.root / "pid"
    escaped = f"setsid sh -c 'setsid sh -c \"echo \\$\\$ > {pid}; exec sleep 1000\" &' & while :; do sleep 0.02; done"
    task_id = host.submit(shell=escaped, side_effects=True)
    after = host.submit("true", depends_on=[task_id])
    run = host.running(task_id)
    until(lambda: pid.exists() and pid.read_text(), "it has left")
    os.kill(run["pid"], signal.SIGKILL)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["status"], task["result"]["exit_code"]) == (
        "awaiting_approval",
        "lost",
        None,
    )
    (lost,) = host.runs(task_id)
    assert (lost["status"], lost["exit_code"], lost["signal"]) == ("lost", None, None)
    assert not alive(int(pid.read_text()))
    assert host.finished(host.submit("true"))["status"] == "done"
    assert (host.task(after)["status"], host.runs(after)) == ("pending", [])
    asked = [sys.executable, "-m", "polpoctl", "--socket", host.socket, "wait", task_id]
    assert subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 5
    settle(host)


ORPHANS = """if 1:
    import os
    for _ in range(1000):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os._exit(1)
            os._exit(0)
        os.waitpid(child, 0)
    open(os.environ["READY"], "w").close()
    os.read(os.open(os.environ["GATE"], os.O_RDONLY), 1)
    os._exit(9)
"""


@pytest.mark.parametrize("containment", LEVELS)
@fault(
    27,
    "a job leaves orphans and zombies to its runner",
    promise="All are reaped while the job runs, and none is taken for the job: the outcome is the main process's.",
    injected="a job that daemonises a thousand children, each of which exits 1, and then exits 9 itself",
    seen_failing="the first child that ends taken for the job; orphans that are not reaped",
)
def test_f27_a_thousand_orphans_are_reaped_and_none_is_taken_for_the_job(host: Host, containment: str) -> None:
    host.configure(containment=containment)
    host.start()
    ready, gate = host.root / "ready", host.root / "gate"
    os.mkfifo(gate)
    env = {"READY": str(ready), "GATE": str(gate)}
    task_id = host.submit(sys.executable, "-I", "-S", "-c", ORPHANS, env=env)
    run = host.running(task_id)
    until(ready.exists, "the thousand have been made")
    until(lambda: children(run["pid"]) == [run["job_pid"]], "they are reaped while the job runs")
    gate.write_text("go")
    task = host.finished(task_id)
    assert (task["status"], task["result"]["reason"], task["result"]["exit_code"]) == ("failed", "exited", 9)
    (run,) = host.runs(task_id)
    assert run["leftovers"] == 0
    settle(host)


@pytest.mark.parametrize("leftovers", ["kill", "keep"])
@pytest.mark.parametrize("containment", LEVELS)
@fault(
    28,
    "the main process ends, and a child keeps its output open",
    promise="The run ends with the main process. What is left is counted, and ended by SIGTERM, five seconds and SIGKILL "
    "or kept, as `leftovers` says; output needs no draining, since it goes straight into the log.",
    injected="a main process that exits 4 and leaves two children with its output, one in a session of its own",
    seen_failing="a runner that waits for all that it adopted; leftovers that are not looked for",
)
def test_f28_a_run_ends_with_its_main_process(host: Host, containment: str, leftovers: str) -> None:
    host.configure(containment=containment, leftovers=leftovers)
    host.start()
    pids = host.root / "pids"
    left = f"echo $$ >> {pids}; exec sleep 1000"
    task_id = host.submit(
        shell=f"sh -c '{left}' & setsid sh -c '{left}' & until [ -e {pids} ] && [ $(wc -l < {pids}) = 2 ]; do sleep 0.02; done; exit 4"
    )
    task = host.finished(task_id, bound=30)
    try:
        assert (task["status"], task["result"]["exit_code"]) == ("failed", 4)
        (run,) = host.runs(task_id)
        assert (run["status"], run["leftovers"]) == ("failed", 2)
        assert {alive(int(pid)) for pid in pids.read_text().split()} == {leftovers == "keep"}
    finally:
        for pid in pids.read_text().split():
            if alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)
    assert host.stop() == 0


MANY = 200


@fault(
    29,
    "a job ends before anybody watches it",
    promise="No end is missed, however early: every task is done, and whoever waits for it is answered.",
    injected="two hundred times `true`, sixteen at a time, and one connection that waits for all of them",
    seen_failing="a runner that waits for the signal of its job's end without having blocked it before the fork",
)
def test_f29_a_job_that_ends_at_once_is_not_missed(host: Host) -> None:
    host.configure(maxConcurrency=16)
    host.start()
    with host.client() as client:
        answers = client.call("task.submit_many", tasks=[{"command": ["true"], "cwd": "/"}] * MANY)["results"]
        ids = [answer["id"] for answer in answers]

        def all_done() -> bool:
            return bool(client.call("task.wait", ids=ids, timeout=5)["finished"])

        until(all_done, "all are done")
        tasks = client.call("task.wait", ids=ids, timeout=5)["tasks"]
    assert [(t["outcome"], t["exit_code"]) for t in tasks] == [("done", 0)] * MANY
    rows = read_runs(host.paths).values()
    assert [(row["status"], row["attempt"]) for row in rows] == [("completed", 1)] * MANY
    settle(host)
