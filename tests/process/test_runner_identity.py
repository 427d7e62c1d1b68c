"""Whom a pid means: hostile and stale marks prove nothing, and nothing is signalled without proof (DESIGN §6, F32–F40)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.waiting import until
from runner_kit import State

from polpod.runner import containment, identity
from polpod.runner.containment import choose_base, own_cgroup


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def ticks(pid: int) -> int:
    value = identity.start_ticks(pid)
    assert value is not None
    return value


def inode(pid: int) -> int | None:
    pidfd = os.pidfd_open(pid)
    try:
        return identity.inode_of(pidfd)
    finally:
        os.close(pidfd)


def test_a_true_identity_is_proven(sleeper: subprocess.Popen[bytes]) -> None:
    """W3."""
    pid = sleeper.pid
    marks = {"boot": identity.boot_id(), "pid_ns": identity.pid_namespace(), "pidfd_inode": inode(pid)}
    pidfd = identity.proven(pid, ticks(pid), **marks)  # type: ignore[arg-type]
    assert pidfd is not None
    assert identity.send(pidfd, signal.SIGTERM)
    assert sleeper.wait(60) == -signal.SIGTERM
    assert not identity.send(pidfd, signal.SIGTERM)
    os.close(pidfd)


def test_a_wrong_mark_proves_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    pid = sleeper.pid
    assert identity.proven(pid, ticks(pid) + 1) is None
    assert identity.proven(pid, ticks(pid), boot="another boot") is None
    assert identity.proven(pid, ticks(pid), pid_ns=1) is None
    assert sleeper.poll() is None


def test_a_unique_inode_decides_in_place_of_ticks(sleeper: subprocess.Popen[bytes]) -> None:
    known = inode(sleeper.pid)
    assert known is not None, "pidfs is expected here (Linux 6.9)"
    pidfd = identity.proven(sleeper.pid, 1, pidfd_inode=known)
    assert pidfd is not None
    os.close(pidfd)
    assert identity.proven(sleeper.pid, ticks(sleeper.pid), pidfd_inode=known + 1) is None


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_some_pids_are_never_proven(pid: int) -> None:
    """W3."""
    assert identity.proven(pid, ticks(1)) is None


def test_nor_are_we_nor_our_threads() -> None:
    assert identity.proven(os.getpid(), ticks(os.getpid())) is None
    done, ready, ids = threading.Event(), threading.Event(), []

    def body() -> None:
        ids.append(threading.get_native_id())
        ready.set()
        done.wait(60)

    thread = threading.Thread(target=body)
    thread.start()
    assert ready.wait(60)
    try:
        assert identity.proven(ids[0], ticks(ids[0])) is None
    finally:
        done.set()
        thread.join()


def test_who_is_gone_is_not_proven(sleeper: subprocess.Popen[bytes]) -> None:
    known = ticks(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert identity.proven(sleeper.pid, known) is None
    assert identity.read(sleeper.pid) is None


@pytest.mark.root
def test_another_user_s_process_is_not_ours_to_prove() -> None:
    with subprocess.Popen(["sleep", "1000"], user=65534) as other:
        code = "import os, sys; from polpod.runner import identity as i; os.setuid(65533); "
        code += "print(i.proven(int(sys.argv[1]), i.start_ticks(int(sys.argv[1]))))"
        try:
            printed = subprocess.run(
                [sys.executable, "-I", "-c", code, str(other.pid)], capture_output=True, check=True
            )
            assert printed.stdout == b"None\n"
        finally:
            other.kill()


@pytest.mark.parametrize("name", ["a b", ") R 1 2 3 (", "x)"])
def test_a_process_s_name_does_not_confuse_its_reading(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "1000"]) as process:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == name, "it is executed")
        read = identity.read(process.pid)
        process.kill()
    assert read is not None
    assert (read.parent, read.group, read.threads) == (os.getpid(), os.getpgrp(), 1)


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    """W3."""
    sleeper.kill()
    zombie = until(lambda: (p := identity.read(sleeper.pid)) and p.state == "Z" and p, "it is a zombie")
    assert not zombie.alive


@pytest.mark.root
def test_the_base_is_named_by_the_real_path_of_the_state_directory(state: State, tmp_path: Path) -> None:
    os.symlink(state.paths.path, tmp_path / "alias")
    assert state.base is not None
    assert choose_base(str(tmp_path / "alias")) == state.base
    assert os.path.basename(state.base.path).startswith("polpo-")
    assert choose_base("/elsewhere") != state.base
    found = choose_base("/elsewhere")
    assert found is not None
    os.rmdir(found.path)


def test_our_own_cgroup_is_found(state: State) -> None:
    found = own_cgroup()
    assert found is not None
    mount, path = found
    assert str(os.getpid()) in Path(path, "cgroup.procs").read_text().split()
    assert path.startswith(mount)


@pytest.mark.root
def test_a_job_s_own_cgroups_go_with_its_run(state: State) -> None:
    inner = "mkdir $CGROUP/inner && echo 0 > $CGROUP/inner/cgroup.procs && echo up && exec sleep 1000"
    assert state.base is not None
    env = {"PATH": os.environ["PATH"], "CGROUP": state.base.run(1).path}
    run = state.shell(inner, level="cgroup", env=env).start().said(b"up").running()
    group = run.cgroup
    assert group is not None
    assert [p.pid for p in group.processes()] == [run.row["job_pid"]]
    assert not group.wait_empty(0)
    with pytest.raises(OSError, match="busy"):
        group.remove()
    run.kill_row("cancelled", 0)
    run.terminate()
    assert run.finish()["status"] == "killed"
    group.remove()
    assert not os.path.exists(group.path)
    group.remove()  # again is no error
    assert group.empty()


@pytest.mark.root
def test_waiting_for_a_cgroup_to_be_empty_ends_with_its_last_process(state: State) -> None:
    run = state.shell("echo up; exec sleep 1000", level="cgroup").start().said(b"up")
    group = run.cgroup
    assert group is not None
    ender = threading.Thread(target=lambda: containment.terminate(group))
    ender.start()
    assert group.wait_empty(60)
    ender.join()
    run.finish()


@pytest.mark.root
def test_waiting_for_a_cgroup_to_be_empty_sleeps(state: State) -> None:
    run = state.shell("echo up; exec sleep 1000", level="cgroup").start().said(b"up")
    assert run.cgroup is not None
    before = time.thread_time()
    assert not run.cgroup.wait_empty(2)
    assert time.thread_time() - before < 0.1, "it looked without a pause"


@pytest.mark.parametrize("level", ["cgroup", "session"])
@pytest.mark.root
def test_cpu_time_of_a_living_job(state: State, level: str) -> None:
    run = state.shell("echo up; while :; do :; done", level=level).start().said(b"up").running()
    found = run.containment()
    assert found.level == level
    until(lambda: (found.cpu_seconds() or 0) > 0.2, "it used some time")


@pytest.mark.root
@pytest.mark.parametrize("look", ["cpu_seconds", "kill", "empty", "processes"])
def test_a_cgroup_that_vanishes_between_opening_and_reading_is_empty(
    state: State, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The kernel says ENODEV then: one service looks while another, the run being over, removes it."""
    assert state.base is not None
    cgroup = state.base.run(1)
    cgroup.make()
    opened = os.open

    def open_and_remove(path: str, flags: int, mode: int = 0o777) -> int:
        fd = opened(path, flags, mode)
        monkeypatch.undo()
        cgroup.remove()
        return fd

    monkeypatch.setattr(os, "open", open_and_remove)
    assert getattr(cgroup, look)() in (None, 0, True, [])
    assert not os.path.exists(cgroup.path)


@pytest.mark.root
def test_processes_that_we_may_not_see_are_left_out() -> None:
    """Under `hidepid=1` they are listed in /proc, and that is all."""
    look = (
        "import os; from polpod.runner import identity; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "print(os.getpid() in identity.pids(), identity.read(1))"
    )
    mounted = f"mount -t proc -o hidepid=1 proc /proc && exec {sys.executable} -c '{look}'"
    ended = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("True None\n", "")
