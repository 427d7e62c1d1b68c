"""Places that a daemon cannot live in, and disks that have no room: it says so, touches nothing, and goes on when it can.

F8, F9, F49; DESIGN §10 (exit statuses).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.disk import Disk, small_disk
from kit.fault import fault
from kit.host import Host
from kit.other_user import NOBODY
from kit.starting import WITHOUT_OVERRIDE, polpod
from kit.waiting import until

ROOT = os.geteuid() == 0
MIB = 2**20


def refuses(host: Host, *arguments: str, status: int, says: str, under: tuple[str, ...] = ()) -> None:
    """polpod does not start, for this reason."""
    ended, output = polpod("--root", str(host.root), *arguments, under=under)
    assert (ended, "Traceback" in output) == (status, False), output
    assert says in output, output


# Two daemons


def test_a_daemon_of_another_directory_does_not_take_the_socket(host: Host) -> None:
    host.start()
    with Host() as other:
        refuses(other, "--socket", host.socket, status=75, says=host.socket)
        # What it had begun it has given back: it starts as soon as it has a socket of its own.
        other.start()
        assert other.call("daemon.status")["socket"] == other.socket
    assert host.daemon is not None
    assert host.call("daemon.status")["pid"] == host.daemon.pid


def test_removing_the_lock_file_lets_no_second_daemon_in(host: Host) -> None:
    host.start()
    Path(host.paths.lock).unlink()
    for _ in range(2):  # the first makes a lock file anew
        refuses(host, "--socket", str(host.root / "other.sock"), status=75, says="has this state directory")
    Path(host.paths.lock).write_bytes(b"\xff\n")
    refuses(host, status=75, says="has this state directory")
    until(lambda: host.call("daemon.health")["ok"], "the first is well")


# The socket


def test_what_takes_the_place_of_the_socket_of_a_living_daemon_is_waited_for(host: Host) -> None:
    host.start()
    assert host.daemon is not None
    path, beside = Path(host.socket), Path(f"{host.socket}.new")
    beside.write_text("precious")
    beside.replace(path)  # at no moment is there room for another socket
    until(lambda: "nobody can reach this daemon" in host.log(), "it says so")
    assert (path.read_text(), host.daemon.poll()) == ("precious", None)
    path.unlink()
    until(lambda: path.is_socket(), "it listens anew")
    assert host.call("daemon.status")["pid"] == host.daemon.pid
    assert host.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("lock", [b"", b"1\n", b"\xffgarbage" * 100], ids=["empty", "a stranger's", "garbage"])
@fault(
    9,
    "a pid file that is stale, empty or a stranger's, and a socket that nobody listens on",
    promise="No pid in a file decides anything: a lock does. A dead socket is replaced, and ours goes at the stop.",
    injected="garbage in the lock file, the socket of a dead process, then SIGKILL to the daemon and the same again",
    seen_failing="a lock file whose pid is believed; a socket that is bound where the dead one lies",
)
def test_f09_what_a_dead_daemon_left_is_no_obstacle(host: Host, lock: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(host.socket)
    for _ in range(2):
        Path(host.paths.lock).write_bytes(lock)
        daemon = host.start()
        assert host.call("daemon.status")["pid"] == daemon.pid
        assert Path(host.paths.lock).read_text() == f"{daemon.pid}\n"
        host.kill()
        assert Path(host.socket).is_socket()
    host.start()
    assert host.stop() == 0
    assert not Path(host.socket).exists()


def test_a_socket_on_which_somebody_answers_is_left_to_them(host: Host) -> None:
    """W40."""
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(host.socket)
        foreign.listen()
        inode = os.stat(host.socket).st_ino
        refuses(host, status=75, says=host.socket)
        assert os.stat(host.socket).st_ino == inode
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as foreign:
        os.unlink(host.socket)
        foreign.bind(host.socket)
        refuses(host, status=75, says=host.socket)


def test_what_is_no_socket_is_left_where_the_socket_should_be(host: Host) -> None:
    path = Path(host.socket)
    path.write_text("precious")
    refuses(host, status=1, says=f"{path}: there is something that is not a socket")
    assert path.read_text() == "precious"
    path.unlink()
    path.mkdir()
    refuses(host, status=1, says=f"{path}: there is something that is not a socket")
    path.rmdir()
    path.symlink_to("/no/such/file")
    refuses(host, status=1, says=f"{path}: there is something that is not a socket")
    path.unlink()
    host.start()


def test_a_path_too_long_for_a_socket_is_told_with_its_length(host: Host) -> None:
    for length in (108, 300):
        path = f"{host.root}/".ljust(length, "s")
        refuses(host, "--socket", path, status=2, says=f"{length} bytes are too long")
    host.start(POLPO_SOCKET=(path := f"{host.root}/".ljust(107, "s")), wait=False)
    until(lambda: Path(path).exists(), "107 bytes are not too long")


def test_a_socket_that_cannot_be_made_is_told_with_its_path(host: Host) -> None:
    closed = host.root / "closed"
    closed.mkdir(0o500)
    (host.root / "file").touch()
    for path in (closed / "s", closed / "deeper" / "s", host.root / "file" / "s"):
        refuses(host, "--socket", str(path), status=1, says=f"{path}: ", under=tuple(WITHOUT_OVERRIDE))


# The state directory


def test_a_state_directory_of_another_user_is_refused_and_not_touched(host: Host) -> None:
    state = Path(host.paths.path)
    if ROOT:
        os.chown(state, NOBODY, NOBODY)
    else:
        (state / "polpo.json").unlink()
        state.rmdir()
        state.symlink_to("/usr")
    before = sorted(os.listdir(state))
    refuses(host, status=1, says=f"{state} belongs to uid {NOBODY if ROOT else 0}")
    assert sorted(os.listdir(state)) == before
    if ROOT:
        os.chown(state, 0, 0)
    else:
        state.unlink()


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_state_directory_without_permission_is_refused_with_its_path(host: Host, used: bool) -> None:
    if used:
        host.start()
        host.submit("true", hold=True)
        assert host.stop() == 0
    state = Path(host.paths.path)
    state.chmod(0o500)
    refuses(host, status=1, says=str(state), under=tuple(WITHOUT_OVERRIDE))
    state.chmod(0o700)
    host.start()
    assert len(host.call("task.list")["tasks"]) == used


def test_a_file_in_the_place_of_something_of_ours_is_named(host: Host) -> None:
    for name in ("tmp", "logs"):
        path = Path(host.paths.path, name)
        path.touch()
        refuses(host, status=1, says=str(path))
        path.unlink()
    for name in ("polpod.lock", "state.db", "runs.db"):
        path = Path(host.paths.path, name)
        path.mkdir()
        refuses(host, status=1, says=str(path))
        path.rmdir()
    host.start()


def test_a_path_that_is_not_utf8_is_refused(host: Host) -> None:
    odd = os.fsdecode(os.fsencode(host.root) + b"/\xff")
    for arguments in (("--root", odd), ("--root", str(host.root), "--socket", odd)):
        status, output = polpod(*arguments)
        assert (status, "Traceback" in output) == (2, False), output
        assert "\\xff': not UTF-8" in output
    assert not os.path.exists(odd)


def test_a_root_that_cannot_have_a_state_directory_is_refused(host: Host) -> None:
    (host.root / "file").touch()
    for root in (host.root / "file", "/proc", "/dev/null"):
        status, output = polpod("--root", str(root))
        assert (status, "Traceback" in output) == (1, False), output
        assert f"{root}/.polpo" in output


def test_a_daemon_whose_state_directory_is_gone_ends_and_says_so(host: Host) -> None:
    daemon = host.start()
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    aside = host.root / "aside"  # at once, or it makes a socket anew in what is being removed
    os.rename(host.paths.path, aside)
    shutil.rmtree(aside)
    assert daemon.wait(60) == 1
    assert f"{host.paths.path}: No such file or directory" in host.log()
    assert "Traceback" not in host.log()
    assert not Path(host.paths.path).exists()


# Full disks


@pytest.fixture
def disk(host: Host) -> Iterator[Disk]:
    """The state directory's own, of 4 MiB."""
    with small_disk(host.paths.path, "4m") as disk:
        host.configure()
        yield disk
        if host.daemon is not None and host.daemon.poll() is None:
            host.stop()
    host.configure()


def refused_for_space(host: Host, **fields: Any) -> bool:
    """Whether the daemon takes no more work, for that reason and no other."""
    with host.client() as client:
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "task.submit",
            "params": {"shell": "true", "hold": True} | fields,
        }
        client.send_raw(json.dumps(message).encode() + b"\n")
        answer = client.receive()
    assert "result" in answer or answer["error"]["data"]["type"] == "disk_full"
    return "error" in answer


@fault(
    49,
    "the disk of the state directory is full",
    promise="Submits are refused as `disk_full` (exit code 75) and nothing starts; reads and what runs go on, and outcomes are "
    "kept in space that was taken before. As soon as there is space everything goes on by itself.",
    injected="a tmpfs of 4 MiB that is filled to the last page while a job runs and a task waits for its turn",
    seen_failing="trying again what must be written (services/insist.py); the space that a runner takes for its second "
    "witness (`take_spec` in runner/directory.py)",
)
@pytest.mark.root
def test_f49_on_a_full_disk_work_is_refused_and_what_runs_is_recorded(host: Host, disk: Disk) -> None:
    host.configure(maxConcurrency=1)
    host.start()
    go = host.root / "go"
    running = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    run_id = host.running(running)["id"]
    waiting = host.submit("true")
    wals = [Path(f"{path}-wal") for path in (host.paths.tasks_db, host.paths.runs_db)]
    until(lambda: not any(wal.stat().st_size for wal in wals), "no WAL has room for anything")
    disk.fill()
    until(lambda: refused_for_space(host, description="d" * 100_000), "the disk is full")
    argv = [
        sys.executable,
        "-m",
        "polpoctl",
        "submit",
        "--socket",
        host.socket,
        "--hold",
        "--title",
        "t" * 1000,
        "true",
    ]
    until(lambda: subprocess.run(argv, capture_output=True).returncode == 75, "polpoctl says that it is to try again")
    assert host.task(running)["state"] == "running"
    assert host.task(waiting)["status"] == "pending"
    assert host.call("daemon.status")["tasks"]
    go.touch()
    pid = host.runs(running)[0]["pid"]
    until(lambda: not Path(f"/proc/{pid}").exists(), "its runner has ended, whatever the disk says")
    assert os.path.exists(host.paths.run(run_id).exit), "its outcome is not in the row, which had no room"
    assert host.daemon is not None
    assert host.daemon.poll() is None
    disk.free()
    task = host.finished(running)
    assert (task["result"]["exit_code"], task["retries"], task["recoveries"]) == (7, 0, 0)
    assert len(host.runs(running)) == 1
    assert host.finished(waiting)["status"] == "done"
    assert host.finished(host.submit("true"))["status"] == "done"


def reached(host: Host) -> bool:
    with suppress(OSError, EOFError):
        return bool(host.call("daemon.status"))
    return False


@pytest.mark.root
def test_a_daemon_killed_on_a_full_disk_loses_nothing(host: Host, disk: Disk) -> None:
    host.start()
    go = host.root / "go"
    running = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    held = [host.submit("true", hold=True) for _ in range(10)]
    pid = host.running(running)["pid"]
    disk.fill()
    host.kill()
    go.touch()
    until(lambda: not Path(f"/proc/{pid}").exists(), "its runner has ended, whatever the disk says")
    started = host.start(wait=False)
    with suppress(subprocess.TimeoutExpired):  # it may live without space, or say that it cannot
        started.wait(3)
    disk.free()
    until(lambda: started.poll() is not None or reached(host), "it has decided which")
    if started.poll() is not None:
        assert started.returncode == 1
        assert "no space" in host.log() or "No space" in host.log()
        host.start()
    task = host.finished(running)
    assert (task["result"]["exit_code"], task["retries"], task["recoveries"]) == (7, 0, 0)
    assert [t["id"] for t in host.call("task.list", select={"status": ["pending"]})["tasks"]] == held


@pytest.mark.root
def test_a_daemon_that_dies_on_a_full_disk_comes_back_and_says_what_runs(host: Host, disk: Disk) -> None:
    """The files that SQLite shares are made anew at a start, and others may have taken their place (F49)."""
    disk.remount("size=16m")
    host.start()
    until(lambda: os.path.exists(host.paths.ballast), "there is ballast")
    go = host.root / "go"
    running = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    host.running(running)
    disk.fill()
    host.kill()
    for shared in Path(host.paths.path).glob("*-shm"):
        shared.unlink()
    disk.fill()
    host.start()
    assert host.task(running)["state"] == "running"
    assert not os.path.exists(host.paths.ballast)
    go.touch()
    disk.free()
    assert host.finished(running)["result"]["exit_code"] == 7


@pytest.mark.root
def test_a_start_on_a_full_disk_says_so(host: Host, disk: Disk) -> None:
    disk.fill()
    ended, output = polpod("--root", str(host.root))
    assert (ended, "Traceback" in output) == (1, False), output
    assert "space" in output
    disk.free()
    host.start()


@pytest.mark.root
def test_a_first_start_on_a_full_disk_leaves_nothing_that_keeps_it_from_the_next(host: Host, disk: Disk) -> None:
    Path(host.paths.config).unlink()
    disk.fill()
    refuses(host, status=1, says="space")
    disk.free()
    host.start()


@pytest.mark.root
def test_below_the_reserve_nothing_starts_and_it_goes_on_by_itself(host: Host, disk: Disk) -> None:
    host.configure(reserve=MIB, maxConcurrency=1)
    host.start()
    go = host.root / "go"
    running = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    host.running(running)
    ready = host.submit("true")
    disk.fill(leave=MIB // 2)
    with pytest.raises(Refused, match="1 MiB") as refused:
        host.submit("true")
    assert refused.value.word == "disk_full"
    with pytest.raises(Refused) as refused:
        host.call("task.submit_many", tasks=[{"shell": "true"}])
    assert refused.value.word == "disk_full"
    go.touch()
    assert host.finished(running)["result"]["exit_code"] == 7
    until(lambda: host.call("daemon.status")["launcher"]["paused"], "the launcher says why it starts nothing")
    assert "MiB" in host.call("daemon.status")["launcher"]["paused"]
    assert not host.call("daemon.health")["ok"]
    assert any("MiB" in sentence for sentence in host.call("task.why", id=ready)["sentences"])
    assert host.task(ready)["status"] == "pending"
    disk.free()
    assert host.finished(ready)["status"] == "done"
    until(lambda: host.call("daemon.health")["ok"], "all is well again")


def test_a_reserve_larger_than_the_disk_is_a_full_disk(host: Host) -> None:
    host.configure(reserve=2**52)
    host.start()
    assert refused_for_space(host)
    assert host.call("task.list")["tasks"] == []
    assert host.call("daemon.health")["checks"]["disk"] is False
    assert host.stop() == 0
    host.configure(reserve=0)
    host.start()
    assert not refused_for_space(host)
