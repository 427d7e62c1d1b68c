"""The kill ladder, climbed by the runner: whose word counts, and that nothing is left when it is said (DESIGN §6, B4)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kit import jobs, processes
from kit.waiting import until
from runner_kit import LEVELS, Run, State, ended

from polpod.runner import contract, identity

# Three that ignore TERM: the main process; one that left its session and its parent, and dropped all marks; a child.
STUBBORN = """if 1:
    import os, signal, sys
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 9)
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", '''if 1:
                import os, signal, time
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                open("escaped", "w").write(str(os.getpid()))
                time.sleep(1000)'''], {})
        os._exit(0)
    os.wait()
    os.fork()
    print("up", flush=True)
    while True:
        signal.pause()"""

FIRST_THREAD_ENDED = """if 1:
    import ctypes, os, signal, threading, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(200,)).start()
    print(os.getpid(), flush=True)
    ctypes.CDLL(None).pthread_exit(None)"""


def stubborn(state: State, tmp_path: Path, level: str, **changes: Any) -> tuple[Run, int]:
    """A running job of that kind, and the pid of the process that tried to escape."""
    run = state.add(sys.executable, "-I", "-S", "-c", STUBBORN, level=level, cwd=str(tmp_path), **changes).start()
    run.said(b"up\nup")
    escaped = tmp_path / "escaped"
    return run, int(until(lambda: escaped.exists() and escaped.read_text(), "it escaped"))


def alive(pid: int) -> bool:
    process = identity.read(pid)
    return process is not None and process.alive


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("reason", ["cancelled", "timeout", "stale", "shutdown"])
def test_killed_is_recorded_when_nothing_is_left(state: State, tmp_path: Path, level: str, reason: str) -> None:
    run, escaped = stubborn(state, tmp_path, level)
    job = run.running().row["job_pid"]
    run.kill_row(reason, 0.2)
    run.terminate()
    left_at_the_end = until(
        lambda: (alive(job), alive(escaped)) if run.row["status"] != "running" else None, "the run is terminal"
    )
    assert left_at_the_end == (False, False)
    row = run.finish()
    assert (row["status"], row["reason"], row["exit_code"], row["signal"]) == ("killed", reason, None, signal.SIGKILL)
    assert run.containment().empty()


@pytest.mark.parametrize("level", LEVELS)
def test_a_job_that_obeys_keeps_its_exit_code_as_a_fact(state: State, level: str) -> None:
    obedient = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    run = state.shell(obedient, level=level).start().said(b"up")
    run.kill_row("cancelled", 30)
    run.terminate()
    row = run.finish()
    assert (row["status"], row["reason"], row["exit_code"]) == ("killed", "cancelled", 0)
    assert b"bye" in run.log


def test_a_stopped_job_hears_its_term(state: State) -> None:
    run = state.shell("echo up; kill -STOP $$").start().said(b"up")
    job = run.running().row["job_pid"]
    until(lambda: (p := identity.read(job)) and p.state == "T", "the job is stopped")
    run.kill_row("cancelled", 30)
    run.terminate()
    row = run.finish()
    assert (row["status"], row["signal"]) == ("killed", signal.SIGTERM)


@pytest.mark.parametrize("level", LEVELS)
def test_what_survives_its_main_process_gets_its_term_too(state: State, tmp_path: Path, level: str) -> None:
    script = """
        trap 'exit 3' TERM
        setsid sh -c 'trap "echo told; exit" TERM; echo up; while :; do sleep 0.01; done' &
        while :; do sleep 0.01; done"""
    run = state.shell(script, level=level).start().said(b"up")
    run.kill_row("cancelled", 30)
    run.terminate()
    row = run.finish()
    assert (row["status"], row["exit_code"]) == ("killed", 3)
    assert b"told" in run.log


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", ["exec {}", "{} & exec sleep 1000"])
def test_who_is_a_zombie_with_threads_that_go_on_is_not_taken_for_dead(state: State, level: str, text: str) -> None:
    program = shlex.join([sys.executable, "-I", "-S", "-c", FIRST_THREAD_ENDED])
    run = state.add("sh", "-c", text.format(program), level=level).start()
    run.said(b"\n")
    pid = int(run.log)
    until(lambda: processes.state(pid) == "Z", "its first thread has ended")
    run.kill_row("cancelled", 0.2)
    run.terminate()
    until(lambda: run.row["status"] == "killed", "the run is terminal")
    assert processes.state(pid) == ""
    run.finish()


@pytest.mark.parametrize("level", LEVELS)
def test_a_job_that_left_its_process_group_gets_its_term(state: State, level: str) -> None:
    script = """if 1:
        import os, signal
        signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
        else:
            os.setpgid(child, child)
            os.setpgid(0, child)
            print("up", flush=True)
        while True:
            signal.pause()"""
    run = state.add(sys.executable, "-I", "-S", "-c", script, level=level).start().said(b"up")
    run.kill_row("cancelled", 30)
    run.terminate()
    row = run.finish()
    assert (row["status"], row["exit_code"]) == ("killed", 7)


def test_a_job_that_waits_for_its_input_and_is_not_to_begin_obeys(state: State) -> None:
    run = state.shell("exit 0", stdin=_fifo(state)).start(go=False)
    run.kill_row("cancelled", 30)
    run.tell()
    assert run.finish()["status"] == "killed"


def test_a_job_that_still_waits_for_its_input_obeys(state: State) -> None:
    run = state.shell("exit 0", stdin=_fifo(state)).start().running()
    job = run.row["job_pid"]
    until(lambda: Path(f"/proc/{job}/wchan").read_text() == "wait_for_partner", "it waits for a writer")
    run.kill_row("cancelled", 30)
    run.terminate()
    row = run.finish()
    assert (row["status"], row["signal"]) == ("killed", signal.SIGTERM)


def test_a_term_that_no_row_explains_is_signalled(state: State) -> None:
    run = state.shell("echo up; exec sleep 1000").start().said(b"up")
    run.terminate()
    row = run.finish()
    assert (row["status"], row["reason"], row["signal"]) == ("failed", "signalled", signal.SIGTERM)


def test_a_row_that_comes_after_the_term_still_explains_it(state: State, tmp_path: Path) -> None:
    deaf = "trap 'echo told' TERM; echo up; " + jobs.waits_for(tmp_path / "go")
    run = state.shell(deaf).start().said(b"up")
    run.terminate()
    run.said(b"told")
    run.kill_row("shutdown", 0)
    (tmp_path / "go").touch()
    row = run.finish()
    assert (row["status"], row["reason"]) == ("killed", "shutdown")


def test_who_ended_before_the_first_term_ends_as_it_ended(state: State) -> None:
    # The runner is stopped while its job ends, so it finds the end and the TERM at once: the end was first.
    run = state.shell("echo up; read line; exit 7", stdin=_fifo(state)).start()
    with open(_fifo(state), "w"):
        job = run.said(b"up").running().row["job_pid"]
        signal.pidfd_send_signal(run.pidfd, signal.SIGSTOP)
        until(lambda: identity.read(run.pid).state == "T", "the runner is stopped")  # type: ignore[union-attr]
    until(lambda: identity.read(job).state == "Z", "the job ended")  # type: ignore[union-attr]
    run.kill_row("cancelled", 0)
    run.terminate()
    signal.pidfd_send_signal(run.pidfd, signal.SIGCONT)
    row = run.finish()
    assert (row["status"], row["reason"], row["exit_code"]) == ("failed", "exited", 7)


def _fifo(state: State) -> str:
    path = os.path.join(state.paths.path, "fifo")
    if not os.path.exists(path):
        os.mkfifo(path)
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_a_kill_before_the_release_executes_nothing(state: State, tmp_path: Path, level: str) -> None:
    run = state.add("touch", str(tmp_path / "executed"), level=level).start(go=False)
    run.kill_row("cancelled", 0)
    run.tell()
    row = run.finish()
    assert (row["status"], row["reason"], row["leftovers"]) == ("killed", "cancelled", 0)
    assert not (tmp_path / "executed").exists()


def test_a_term_before_the_go_executes_nothing(state: State, tmp_path: Path) -> None:
    """W28."""
    run = state.add("touch", str(tmp_path / "executed")).start(go=False)
    until(lambda: not os.path.exists(run.directory.spec), "the runner has blocked its signals")
    run.terminate()
    run.tell()
    row = run.finish()
    assert (row["status"], row["reason"]) == ("failed", "signalled")
    assert not (tmp_path / "executed").exists()


def term_waits(pid: int) -> bool:
    """Whether the process has a SIGTERM that it has not taken yet."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["ShdPnd"], 16) & 1 << signal.SIGTERM - 1)


def test_a_row_that_comes_after_a_term_before_the_release_still_explains_it(state: State) -> None:
    """As in a stop that comes between the runner's look at its row and its look for the signal."""
    run = state.shell("exit 0", stdin=_fifo(state)).start(go=False)
    until(lambda: not os.path.exists(run.directory.spec), "the runner has blocked its signals")
    run.terminate()
    run.tell()
    run.running()
    until(lambda: not term_waits(run.pid), "the runner has looked at its row, and taken the signal")
    run.kill_row("shutdown", 0)  # while the job, which is not to begin, waits for a writer
    row = run.finish()
    assert (row["status"], row["reason"]) == ("killed", "shutdown")


@pytest.mark.parametrize("level", LEVELS)
def test_a_runner_alone_ends_what_runs_too_long(state: State, tmp_path: Path, level: str) -> None:
    changes: dict[str, Any] = {"max_duration": 1 - contract.DURATION_MARGIN, "kill_grace": 0.2}
    run = state.add(sys.executable, "-I", "-S", "-c", STUBBORN, level=level, cwd=str(tmp_path), **changes).start()
    row = run.finish()
    assert (row["status"], row["reason"], row["kill_reason"], row["kill_by"]) == (
        "killed",
        "timeout",
        "timeout",
        "runner",
    )
    assert row["kill_boot"] == identity.boot_id()
    assert row["duration"] < 60
    escaped = tmp_path / "escaped"  # unless a busy machine gave it no time to
    assert not (escaped.exists() and alive(int(escaped.read_text() or "0")))


def test_a_fork_storm_is_ended_at_level_session(state: State) -> None:
    storm = "trap '' TERM; echo up; f() { setsid sh -c 'sleep 1' & }; while :; do f; f; f; sleep 0.01; done"
    run = state.shell(storm, level="session").start().said(b"up")
    run.kill_row("cancelled", 0)
    run.terminate()
    assert run.finish()["status"] == "killed"
    assert run.containment().empty()


@pytest.mark.parametrize("level", LEVELS)
def test_the_daemon_can_end_the_tree_of_a_dead_runner(state: State, level: str) -> None:
    run = state.shell("setsid sleep 1000 & echo up; exec sleep 1000", level=level).start().said(b"up").running()
    signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
    assert run.finish()["status"] == "running"
    found = run.containment()
    assert not found.wait_empty(0)
    found.kill()
    assert found.wait_empty(60)


def test_at_level_session_the_job_dies_with_its_runner(state: State) -> None:
    run = state.shell("echo up; exec sleep 1000").start().said(b"up")
    job = run.running().row["job_pid"]
    signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
    until(lambda: not alive(job), "the job is dead")


@pytest.mark.root
def test_at_level_cgroup_the_job_survives_its_runner(state: State) -> None:
    run = state.shell("echo up; exec sleep 1000", level="cgroup").start().said(b"up")
    job = run.running().row["job_pid"]
    signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
    run.finish()
    assert [p.pid for p in run.containment().processes()] == [job]


def test_strangers_are_not_taken_for_the_job(state: State) -> None:
    # One only reads the log, one shows another run's marks, one has the leader's pid but not its start.
    run = state.shell("echo up; exec sleep 1000").start().said(b"up").running()
    signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
    run.finish()
    until(lambda: run.containment().empty(), "its job is dead")
    env = dict(os.environ) | {"POLPO_RUN_ID": str(run.id), "POLPO_RUN_MARK": "00000000"}
    with (
        open(run.spec["log_path"]) as log,
        subprocess.Popen(["sleep", "1000"], stdin=log) as reader,
        subprocess.Popen(["sleep", "1000"], env=env) as marked,
        subprocess.Popen(["sleep", "1000"], start_new_session=True) as leader,
    ):
        state.db.execute("UPDATE runs SET job_pid = ?, job_start_ticks = 1 WHERE id = ?", (leader.pid, run.id))
        try:
            found = run.containment()
            assert found.processes() == []
            found.kill()
            assert [p.poll() for p in (reader, marked, leader)] == [None, None, None]
        finally:
            for process in (reader, marked, leader):
                process.kill()


def test_marks_in_a_stranger_s_session_do_not_make_it_ours(state: State) -> None:
    run = state.shell("exit 0").start()
    run.finish()
    env = {"POLPO_RUN_ID": str(run.id), "POLPO_RUN_MARK": contract.run_mark(run.spec["nonce"])}
    copied = " ".join(f"{k}={v}" for k, v in env.items())
    script = f"env {copied} sleep 1001 & exec sleep 1002"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as stranger:
        try:
            found = until(
                lambda: [p for p in run.containment().processes() if _argument(p.pid) == b"1001"], "it is found"
            )
            assert [p.pid for p in run.containment().processes()] == [found[0].pid]
            run.containment().kill()
            assert stranger.poll() is None
        finally:
            stranger.kill()


def _argument(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1]


def test_a_process_with_the_run_s_marks_is_found_without_its_runner(state: State) -> None:
    run = state.shell(
        "setsid sleep 1001 > /dev/null 2>&1 & env -i setsid /bin/sleep 1002 & echo up", leftovers="keep"
    ).start()
    assert run.finish()["leftovers"] == 2

    def commands() -> set[bytes]:
        return {_argument(p.pid) for p in run.containment().processes()}

    until(lambda: commands() == {b"1001", b"1002"}, "both are found: one by its environment, one by its log")


@pytest.mark.root
def test_a_vanished_cgroup_does_not_keep_a_run_from_being_ended(state: State) -> None:
    # The processes are moved away and the directory is removed, as a service manager may do (F44).
    run = state.shell("setsid sleep 1000 & echo up; trap '' TERM; while :; do sleep 0.1; done", level="cgroup").start()
    run.said(b"up")
    assert run.cgroup is not None
    assert state.base is not None
    elsewhere = os.path.dirname(state.base.path)

    def moved() -> bool:
        for process in run.cgroup.processes():  # type: ignore[union-attr]
            with suppress(ProcessLookupError):
                Path(elsewhere, "cgroup.procs").write_text(str(process.pid))
        return run.cgroup.empty()  # type: ignore[union-attr]

    until(moved, "nothing is in the cgroup")
    run.cgroup.remove()
    run.kill_row("cancelled", 0)
    run.terminate()
    assert run.finish()["status"] == "killed"
    assert run.containment().level == "session"
    assert run.containment().empty()


@pytest.mark.root
def test_cgroups_deep_in_cgroups_do_not_keep_a_job_from_being_ended(state: State) -> None:
    run = state.shell(jobs.STUBBORN, level="cgroup").start()
    run.said(b"ready\n")
    assert run.cgroup is not None
    jobs.nest(run.cgroup.path)
    run.kill_row("cancelled", 0.2)
    run.terminate()
    until(lambda: run.row["status"] == "killed", "the run is terminal")
    run.finish()


@pytest.mark.root
def test_a_cgroup_that_is_not_there_starts_nothing(state: State, tmp_path: Path) -> None:
    run = state.add("touch", str(tmp_path / "executed"), level="cgroup")
    assert run.cgroup is not None
    run.cgroup.remove()
    assert run.start().finish()["status"] == "starting"
    assert "cgroup.procs" in str(run.trouble)
    assert not (tmp_path / "executed").exists()


def test_the_ladder_is_climbed_once_and_waits_out_the_grace(state: State) -> None:
    run = state.shell("trap 'echo told' TERM; echo up; while :; do sleep 0.01; done").start().said(b"up")
    run.kill_row("cancelled", 0.5)
    began = time.monotonic()
    run.terminate()
    until(lambda: b"told" in run.log or ended(run.pidfd, 0), "it was told, unless it had no time to hear it")
    run.terminate()  # again: the ladder is climbed once
    run.finish()
    assert time.monotonic() - began >= 0.5
