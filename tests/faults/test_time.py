"""Clocks that are set, hosts that stand still or start anew: what was promised for a time holds (F34, F64 to F68)."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kit.clock import Clock
from kit.fabricated import runs_db
from kit.fault import fault
from kit.host import Host
from kit.invariants import settle
from kit.jobs import waits_for
from kit.namespaces import time_namespace
from kit.processes import alive, state, zygote
from kit.waiting import until

HOUR = 3600.0
TEN_YEARS = 10 * 365.25 * 24 * HOUR


@pytest.fixture
def clock(host: Host) -> Clock:
    return Clock(host.root / "clock")


def once(mark: Path, then: str) -> str:
    """A shell text that does this the first time, and then nothing."""
    return f"[ -e {mark} ] || {{ > {mark}; {then}; }}"


@fault(
    34,
    "the clock was set, and a live process looks like another, since its start is computed from the time of day",
    promise="A process is known by its start in ticks since boot, its pidfd's inode, and the lock that it holds; no clock "
    "takes part. Its run is adopted, and can be ended.",
    injected="restarts of the daemon with its clock an hour ahead, an hour back, and in another time namespace (its clock "
    "functions replaced; the host's own is not set)",
    seen_failing="start ticks, or starts as times of day, compared instead of the pidfd's inode",
)
@pytest.mark.root
def test_f34_a_run_is_itself_whatever_the_clock_says(host: Host, clock: Clock) -> None:
    """W29."""
    host.configure(maxConcurrency=4)
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 3"))
    before = host.running(task_id)
    doomed = [host.submit("sleep", "1000", kill_grace=1000) for _ in range(3)]
    for other in doomed:
        host.running(other)

    def same() -> None:
        run = host.running(task_id)
        assert {n: run[n] for n in ("id", "pid", "started_at")} == {n: before[n] for n in ("id", "pid", "started_at")}
        ended = doomed.pop()
        host.call("task.cancel", select={"ids": [ended]})
        assert host.finished(ended)["status"] == "cancelled"  # its runner was told, and is obeyed before SIGKILL

    for shift in (HOUR, -HOUR):
        host.kill()
        clock.shift(shift)
        host.start(under=clock.under)
        same()
    host.kill()
    with time_namespace(boottime=100_000) as under:
        host.start(under=under)
        same()
        go.touch()
        assert host.finished(task_id)["result"]["exit_code"] == 3
        settle(host)


@fault(
    64,
    "the clock goes back an hour: limits, delays and looks wait for that hour, or a start hangs",
    promise="Limits and silence are measured by a clock that nobody sets; a delay between attempts begins anew at most; ids "
    "and order are counted, not timed.",
    injected="the clock of a running daemon goes back (its clock functions replaced), and again while it is dead",
    seen_failing="delays left as they were when the clock went back; with limits by the time of day it hung",
)
def test_f64_a_clock_that_goes_back_holds_up_nothing(host: Host, clock: Clock) -> None:
    host.configure(maxConcurrency=8)
    host.start(under=clock.under)
    trace = host.root / "trace"
    host.call("queue.set", name="line", slots=1, paused=True)
    limited = host.submit("sleep", "1000", max_duration=1.5, kill_grace=0.2)
    silent = host.submit("sleep", "1000", stale_threshold=0.5, kill_grace=0.2)
    again = host.submit(shell=once(host.root / "first", "exit 1"), max_retries=1, retry_delay=2)
    early = host.submit(shell=f"echo early >> {trace}", queue="line")
    until(lambda: host.task(again)["retries"] == 1, "it waits for its retry")
    clock.shift(-HOUR)
    late = host.submit(shell=f"echo late >> {trace}", queue="line")
    assert int(late) > int(early)
    assert host.task(late)["created_at"] < host.task(early)["created_at"]
    host.call("queue.set", name="line", paused=False)
    assert host.finished(again)["status"] == "done"
    assert host.finished(limited)["result"]["reason"] == "timeout"
    assert host.finished(silent)["result"]["reason"] == "stale"
    assert host.finished(late)["status"] == "done"
    assert trace.read_text().split() == ["early", "late"]

    last = host.submit(shell=once(host.root / "second", "exit 1"), max_retries=1, retry_delay=2)
    until(lambda: host.task(last)["retries"] == 1, "it waits for its retry")
    host.kill()
    clock.shift(-2 * HOUR)
    host.start(under=clock.under)
    assert host.finished(last)["status"] == "done"
    settle(host)


@fault(
    65,
    "the clock goes ten years ahead, or was so at boot and is set right later: everything times out at once",
    promise="No limit, no claim and no silence is judged by the time of day; retention does not take for old what became so "
    "at a stroke; what was to be tried again in a second is, also when the clock comes back. A schedule is kept once for all that time, and goes on "
    "within the hour when the clock comes back.",
    injected="the clock of a daemon goes ten years ahead (its clock functions replaced), with a restart, a pass of retention, "
    "and a failure there; then back",
    seen_failing="retention that believes the clock; delays left as they were",
)
def test_f65_ten_years_at_a_stroke_end_nothing(host: Host, clock: Clock) -> None:
    """W29."""
    host.configure(maxConcurrency=4)
    host.start(under=clock.under)
    old = host.submit("echo", "kept")
    assert host.finished(old)["status"] == "done"
    assert host.call("store.prune")["tasks"] == 0
    go = host.root / "go"
    limits = {"max_duration": 10 * HOUR, "stale_threshold": HOUR, "max_retries": 1}
    ids = [host.submit(shell=waits_for(go, "exit 3"), **limits) for _ in range(3)]
    before = {task_id: host.running(task_id)["pid"] for task_id in ids}
    host.call("mission.create", document='{"tasks": [{"title": "a", "command": ["true"]}]}', name="hourly")
    minute = (datetime.now(UTC).minute + 30) % 60  # so that its time does not come meanwhile
    host.call("schedule.set", id="hourly", expression=f"{minute} * * * *", timezone="UTC")
    clock.shift(TEN_YEARS)
    assert host.finished(host.submit("true"))["status"] == "done"
    host.kill()
    host.start(under=clock.under)
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    assert host.task(host.submit("true"))["created_at"] > "2030"
    assert {task_id: host.running(task_id)["pid"] for task_id in ids} == before
    until(lambda: host.call("schedule.get", id="hourly")["schedule"]["last_outcome"] == "completed", "it was kept")
    assert host.call("schedule.get", id="hourly")["schedule"]["next_at"] > "2030"
    assert host.call("store.prune")["tasks"] == 0
    assert Path(host.runs(old)[0]["log_path"]).read_text() == "kept\n"
    again = host.submit(shell=once(host.root / "first", "exit 1"), max_retries=1, retry_delay=2)
    until(lambda: host.task(again)["retries"] == 1, "it waits for its retry")
    clock.shift(0)
    assert host.finished(again)["status"] == "done"
    host.call("mission.create", document='{"tasks": [{"title": "a", "command": ["true"]}]}')  # it looks at the clock
    soon = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    until(lambda: host.call("schedule.get", id="hourly")["schedule"]["next_at"] < soon, "its times are counted anew")
    assert host.call("mission.get", id="hourly")["mission"]["execution_count"] == 1
    assert [host.runs(task_id)[0]["kill_reason"] for task_id in ids] == [None] * 3
    assert host.call("event.list", kinds=["agent:stale"])["events"] == []
    host.call("task.cancel", select={"ids": ids[1:]})
    go.touch()
    assert {host.finished(task_id)["status"] for task_id in ids[1:]} <= {"cancelled", "failed"}
    until(lambda: host.task(ids[0])["retries"] == 1, "it ended as it wanted to")
    assert host.finished(ids[0])["result"]["exit_code"] == 3
    settle(host)


@fault(
    67,
    "host or virtual machine stand still for a while, and what stood still with them is called silent, and ended",
    promise="Suspended time counts for nothing: the clock is CLOCK_MONOTONIC. Where it went on nevertheless, silence counts "
    "only while somebody looked; a max_duration counts that time.",
    injected="SIGSTOP to daemon, zygote, runner and job for longer than stale_threshold, and SIGCONT, the daemon first (no "
    "test host can be suspended)",
    seen_failing="silence counted over the time in which nobody looked",
)
def test_f67_who_stood_still_with_everybody_is_not_called_silent(host: Host) -> None:
    """W29."""
    host.configure(containment="session")  # a cgroup counts the CPU time that it takes to be stopped
    daemon = host.start()
    word = host.root / "word"
    os.mkfifo(word)
    task_id = host.submit(shell=f"read word < {word}; echo $word", stale_threshold=6, max_duration=HOUR)
    run = host.running(task_id)
    zygote_pid = until(lambda: zygote(daemon.pid), "there is a zygote")
    everybody = (daemon.pid, run["job_pid"], run["pid"], zygote_pid)
    until(lambda: host.call("event.list", kinds=["agent:stale"])["events"], "half of its time is over")
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: {state(pid) for pid in everybody} == {"T"}, "everything stands still")
    end = time.monotonic() + 6.5
    until(lambda: time.monotonic() > end, "the rest of its time is over, too")
    os.kill(daemon.pid, signal.SIGCONT)
    assert host.call("daemon.status")["pid"] == daemon.pid
    for pid in everybody[1:]:
        os.kill(pid, signal.SIGCONT)
    word.write_text("awake\n")
    assert host.finished(task_id)["status"] == "done"
    (run,) = host.runs(task_id)
    assert (run["kill_reason"], Path(run["log_path"]).read_text()) == (None, "awake\n")
    assert [e["body"]["action"] for e in host.call("event.list", kinds=["agent:stale"])["events"]] == ["warning"]
    settle(host)


@fault(
    68,
    "the host starts anew: runs of before are running for ever, or their pids are somebody else's",
    promise="Runs of another boot are lost, saying so, and their tasks are queued again or, with side effects, wait for a "
    "person; what had ended is collected, a cancel holds, and what waited waits.",
    injected="all processes of a busy instance end at once, and its rows are given another boot, with another clock and "
    "another pid namespace",
    seen_failing="boot ids not compared",
)
def test_f68_after_a_reboot_everything_is_judged_and_the_queue_goes_on(host: Host) -> None:
    host.configure(maxConcurrency=6)
    daemon = host.start(POLPOD_CRASH_AT="kill.requested")
    go = host.root / "go"
    seen = [host.root / name for name in ("plain", "unclaimed")]
    plain, unclaimed = (host.submit(shell=once(s, "exec sleep 1000")) for s in seen)
    parked = host.submit("sleep", "1000", side_effects=True)
    doomed = host.submit("sleep", "1000", max_retries=3)
    ended = host.submit(shell=waits_for(go, "exit 3"))
    running = {task_id: host.running(task_id) for task_id in (plain, unclaimed, parked, doomed, ended)}
    until(lambda: all(s.exists() for s in seen), "their jobs run")
    host.call("queue.set", name="paused", paused=True)
    waiting = {
        "held": host.submit("true", hold=True),
        "awaiting_approval": host.submit("true", needs_approval=True),
        "ready": host.submit("true", queue="paused"),
        "delayed": host.submit("true", not_before=(datetime.now(UTC) + timedelta(days=1)).isoformat()),
    }
    after = host.submit("true", depends_on=[plain, unclaimed])
    with pytest.raises((EOFError, ConnectionError)):
        host.call("task.cancel", select={"ids": [doomed]})
    daemon.wait()
    go.touch()
    until(lambda: not alive(running[ended]["pid"]), "one run ended, and nobody saw it")
    until(host.end_runners, "everything has ended")
    with runs_db(host.paths) as db:
        db.execute(
            "UPDATE runs SET boot_id = 'another', pid_ns = 1, started_mono = started_mono + 1000000000000000, "
            "claim_until_mono = claim_until_mono + 1000000000000000, kill_boot = iif(kill_boot IS NULL, NULL, 'another') "
            "WHERE status = 'running'"
        )
        db.execute(
            "UPDATE runs SET status = 'starting', pid = NULL, pid_ns = NULL, start_ticks = NULL, job_pid = NULL, "
            "started_at = NULL, started_mono = NULL WHERE task_id = ?",
            (unclaimed,),
        )
    host.start()
    for task_id in (plain, unclaimed):
        task = host.finished(task_id)
        assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 1)
        lost, again = host.runs(task_id)
        assert (lost["status"], lost["reason"], lost["error"]) == ("lost", "lost", "the host was started anew")
        assert again["status"] == "completed"
    assert host.finished(parked)["status"] == "awaiting_approval"
    assert host.finished(doomed)["status"] == "cancelled"
    assert host.finished(ended)["result"]["exit_code"] == 3
    assert host.finished(after)["status"] == "done"
    assert {host.task(task_id)["state"]: task_id for task_id in waiting.values()} == waiting
    assert [len(host.runs(task_id)) for task_id in (parked, doomed, ended)] == [1, 1, 1]
    settle(host)
