"""The zygote: one request, one answer, runners that outlive it; and the runner without it (DESIGN §3)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit.waiting import until
from runner_kit import State, Zygote, ended

from polpod.runner import identity


def test_the_answer_names_the_runner(state: State) -> None:
    run = state.shell("exit 0").start(go=False)
    assert os.readlink(f"/proc/self/fd/{run.pidfd}") in (
        "anon_inode:[pidfd]",
        f"pidfd:[{identity.inode_of(run.pidfd)}]",
    )
    until(lambda: (p := identity.read(run.pid)) and p.session == run.pid, "it leads a session of its own")
    process = identity.read(run.pid)
    assert process is not None
    proof = identity.proven(run.pid, process.start_ticks, pidfd_inode=identity.inode_of(run.pidfd))
    assert proof is not None
    os.close(proof)
    assert process.parent != state.zygote.process.pid
    run.tell()
    run.finish()


def test_names_in_ps(state: State) -> None:
    run = state.shell("echo up; exec sleep 1000").start().said(b"up").running()
    assert Path(f"/proc/{run.pid}/comm").read_text() == "polpod-run-1\n"
    assert Path(f"/proc/{state.zygote.process.pid}/comm").read_text() == "polpod-zygote\n"


def test_many_requests_before_the_first_answer(state: State) -> None:
    runs = {run.id: run for run in (state.add("true") for _ in range(50))}
    told, go = os.pipe()
    for run in runs.values():
        state.zygote.ask(run.id, run.directory.path, told)
    os.close(told)
    for _ in range(50):
        reply, pidfd = state.zygote.answer()
        assert pidfd is not None
        runs[reply["run_id"]].pidfd = pidfd
    os.write(go, b"!" * 50)
    os.close(go)
    assert {run.finish()["status"] for run in runs.values()} == {"completed"}


def test_a_zygote_leaves_no_zombies_and_no_descriptors(state: State) -> None:
    pid = state.zygote.process.pid
    before = os.listdir(f"/proc/{pid}/fd")
    for _ in range(20):
        state.shell("exit 0").start().finish()
    until(lambda: os.listdir(f"/proc/{pid}/fd") == before, "what was passed to it is closed")
    until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text(), "nothing is left to reap")


def test_a_zygote_ends_with_its_daemon_and_its_runners_do_not(state: State) -> None:
    with Zygote() as zygote:
        run = state.shell("echo up; read line; exit 3", stdin=_fifo(state)).start(zygote)
        with open(_fifo(state), "w"):
            run.said(b"up")
            zygote.socket.close()
            assert zygote.process.wait(60) == 0
    assert run.finish()["exit_code"] == 3


def test_a_killed_zygote_takes_no_runner_with_it(state: State) -> None:
    with Zygote() as zygote:
        run = state.shell("echo up; read line; exit 3", stdin=_fifo(state)).start(zygote)
        with open(_fifo(state), "w"):
            run.said(b"up")
            zygote.process.kill()
            assert zygote.process.wait(60) == -signal.SIGKILL
        assert run.finish()["exit_code"] == 3


def test_a_zygote_heeds_term_and_not_the_terminal(state: State) -> None:
    with Zygote() as zygote:
        state.shell("exit 0").start(zygote).finish()  # it has settled
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            zygote.process.send_signal(number)
        assert state.shell("exit 0").start(zygote).finish()["status"] == "completed"
        zygote.process.terminate()
        assert zygote.process.wait(60) == -signal.SIGTERM


def test_a_runner_holds_nothing_of_the_daemon_s(state: State) -> None:
    held, ours = os.pipe()
    os.set_inheritable(ours, True)
    code = (
        "import os, sys; os.execv(sys.executable, [sys.executable, '-I', '-m', 'polpod.runner.zygote', *sys.argv[1:]])"
    )
    with Zygote(command=[sys.executable, "-I", "-c", code]) as zygote:
        run = state.shell("echo up; exec sleep 1000").start(zygote).said(b"up")
        places = {os.readlink(f"/proc/{run.pid}/fd/{n}") for n in os.listdir(f"/proc/{run.pid}/fd")}
    allowed = (state.paths.path, "/dev/null", "pipe:")  # its files, and the pipes to its own job
    assert [p for p in places if not p.startswith(allowed)] == []
    assert {os.readlink(f"/proc/{run.pid}/fd/{n}") for n in (0, 1, 2)} == {"/dev/null"}
    os.close(held)
    os.close(ours)


@pytest.mark.root
def test_no_process_for_a_runner_is_answered(state: State) -> None:
    # A limit on processes, and a user whom it binds.
    code = """if 1:
        import os, resource, sys
        from polpod.runner import zygote
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        zygote.main(int(sys.argv[1]))"""
    with Zygote(command=[sys.executable, "-I", "-c", code]) as zygote:
        told, go = os.pipe()
        zygote.ask(17, "/nowhere", told)
        reply, pidfd = zygote.answer()
        os.close(told)
        os.close(go)
    assert pidfd is None
    assert reply["run_id"] == 17
    assert "temporarily unavailable" in reply["error"]
    assert reply["errno"] == errno.EAGAIN


def test_a_runner_without_zygote(state: State) -> None:
    run = state.shell("exit 3")
    told, go = os.pipe()
    command = [sys.executable, "-I", "-m", "polpod.runner", run.directory.path, str(told)]
    with subprocess.Popen(command, pass_fds=[told]) as process:
        os.close(told)
        until(lambda: not os.path.exists(run.directory.spec), "it waits for its go")
        assert process.poll() is None
        os.write(go, b"!")
        os.close(go)
        assert process.wait(60) == 0
    assert run.row["exit_code"] == 3
    assert run.row["pid"] == process.pid


def test_ten_at_once_do_not_lose_each_other(state: State) -> None:
    runs = [state.shell(f"exit {n}").start(go=False) for n in range(10)]
    for run in runs:
        run.tell()
    assert [run.finish()["exit_code"] for run in runs] == list(range(10))
    assert all(ended(run.pidfd, 0) for run in runs)


def _fifo(state: State) -> str:
    path = os.path.join(state.paths.path, "fifo")
    if not os.path.exists(path):
        os.mkfifo(path)
    return path
