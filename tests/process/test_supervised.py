"""A daemon that systemd started: what it says, what it takes over, and what it keeps to itself."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from kit.client import Client
from kit.fake_systemd import FakeSystemd
from kit.host import Host
from kit.jobs import waits_for
from kit.other_user import NOBODY, call_as
from kit.processes import zygote
from kit.unkillable import Server
from kit.waiting import until

from polpod.systemd import VARIABLES


@pytest.fixture
def manager() -> Iterator[FakeSystemd]:
    with FakeSystemd() as manager:
        yield manager


@pytest.fixture
def listening(host: Host) -> Iterator[FakeSystemd]:
    """One that listens where the host's daemon would."""
    with FakeSystemd(host.socket) as manager:
        yield manager


def test_ready_is_said_when_the_socket_answers(host: Host, manager: FakeSystemd) -> None:
    manager.start(host)
    assert host.daemon is not None
    assert host.call("daemon.status")["pid"] == host.daemon.pid
    said = [set(message) for message in manager.heard]
    assert said.index({"STATUS"}) < said.index({"EXTEND_TIMEOUT_USEC"}) < said.index({"READY"})


def test_the_status_line_says_what_goes_on(host: Host, manager: FakeSystemd) -> None:
    host.configure(maxConcurrency=1)
    manager.start(host)
    manager.status("idle")
    go = host.root / "go"
    tasks = [host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done") for _ in range(3)]
    manager.status("1 running, 2 queued")
    manager.forget()
    go.touch()
    for task_id in tasks:
        host.finished(task_id)
    manager.status("idle")


def test_it_says_why_nothing_starts(host: Host, manager: FakeSystemd) -> None:
    host.configure(reserve=2**53)
    manager.start(host)
    manager.status("idle; less than 8,589,934,592 MiB are free: nothing starts or is accepted")


def test_a_daemon_that_hangs_does_not_pet_the_watchdog(host: Host, manager: FakeSystemd) -> None:
    manager.start(host, watchdog=0.2)
    assert host.daemon is not None
    for _ in range(3):
        manager.forget()
        manager.hears("a pet", lambda message: "WATCHDOG" in message)
    host.daemon.send_signal(signal.SIGSTOP)
    until(lambda: Path(f"/proc/{host.daemon.pid}/stat").read_text().split()[2] == "T", "it is stopped")
    assert manager.is_silent(1.0)
    host.daemon.send_signal(signal.SIGCONT)
    manager.hears("a pet again", lambda message: "WATCHDOG" in message)


@pytest.mark.root
def test_an_event_loop_that_hangs_does_not_pet_it_though_all_threads_are_well(host: Host, manager: FakeSystemd) -> None:
    """It looks at its socket every few seconds: here, on a file system that stopped answering."""
    directory = host.root / "run"
    directory.mkdir()
    host.socket = str(directory / "polpod.sock")
    manager.start(host, watchdog=0.2, POLPO_SOCKET=host.socket)
    server = Server(directory)
    try:
        server.trap()
        assert manager.is_silent(1.0)
    finally:
        server.close()
    manager.hears("a pet again", lambda message: "WATCHDOG" in message)


def test_a_watchdog_for_another_process_is_not_petted(host: Host, manager: FakeSystemd) -> None:
    host.start(wait=False, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="100000", WATCHDOG_PID="1")
    manager.status("idle")
    host.stop()
    manager.listen()
    assert not any("WATCHDOG" in message for message in manager.heard)


def test_a_slow_stop_says_what_it_waits_for_and_asks_for_the_time(host: Host, manager: FakeSystemd) -> None:
    ready, go = host.root / "ready", host.root / "go"
    host.configure(killGrace=60_000, shutdownTimeout=240_000)
    manager.start(host)
    host.submit(shell=f"trap '' TERM; touch {ready}; {waits_for(go)}")
    until(ready.exists, "the job ignores SIGTERM")
    manager.forget()
    assert host.daemon is not None
    host.daemon.send_signal(signal.SIGTERM)
    manager.status("stopping: waiting for 1 run")
    go.touch()
    assert host.daemon.wait(60) == 0
    manager.listen()
    said = [set(message) for message in manager.heard]
    assert said.index({"STOPPING"}) < said.index({"EXTEND_TIMEOUT_USEC"})


def test_a_stop_that_is_asked_for_over_the_socket_is_said_too(host: Host, manager: FakeSystemd) -> None:
    manager.start(host)
    host.call("daemon.shutdown")
    manager.hears("STOPPING", lambda message: "STOPPING" in message)


def test_a_reload_is_said_and_the_next_generation_goes_on_saying(host: Host, listening: FakeSystemd) -> None:
    listening.start(host, watchdog=0.5)
    assert host.daemon is not None
    first = until(lambda: zygote(host.daemon.pid), "there is a zygote")
    listening.status("idle")
    listening.forget()
    host.call("daemon.reload")
    listening.status("reloading")
    listening.hears("READY", lambda message: "READY" in message)
    said = [message for message in listening.heard if message.keys() & {"RELOADING", "READY"}]
    assert ["MONOTONIC_USEC" in message for message in said] == [True, False]
    listening.status("idle")
    listening.forget()
    listening.hears("a pet", lambda message: "WATCHDOG" in message)
    assert host.call("daemon.status")["pid"] == host.daemon.pid
    second = until(lambda: {zygote(host.daemon.pid)} - {first, None}, "there is another zygote").pop()
    assert not names(second) & set(VARIABLES)


def names(pid: int) -> set[str]:
    """Of the variables in this process' environment."""
    return {entry.partition(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}


def test_what_systemd_leaves_in_the_environment_goes_no_further(host: Host, listening: FakeSystemd) -> None:
    listening.start(host, watchdog=60)
    task_id = host.submit(shell="env; echo all of it; exec sleep 60")
    run = host.running(task_id)
    assert host.daemon is not None
    child = zygote(host.daemon.pid)
    assert listening.listener is not None
    inode = f"socket:[{os.fstat(listening.listener.fileno()).st_ino}]"
    for pid in (child, run["pid"]):
        assert not names(pid) & set(VARIABLES), pid
        assert inode not in [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()], pid
    log = Path(run["log_path"])
    until(lambda: "all of it" in log.read_text(), "the job printed its environment")
    text = log.read_text()
    assert "POLPO_RUN_ID=" in text
    assert not [name for name in VARIABLES if f"{name}=" in text]


def test_who_connects_before_the_daemon_is_there_is_answered_by_it(host: Host, listening: FakeSystemd) -> None:
    with Client(host.socket) as early:
        early.send("daemon.status")
        listening.start(host)
        assert host.daemon is not None
        status = early.receive()["result"]
    assert (status["pid"], status["socket"]) == (host.daemon.pid, host.socket)


def test_nobody_is_refused_while_the_daemon_is_replaced(host: Host, listening: FakeSystemd) -> None:
    before = os.stat(host.socket)
    listening.start(host)
    for end in (host.kill, host.stop):
        end()
        with Client(host.socket) as waiting:
            waiting.send("daemon.status")
            listening.start(host)
            assert host.daemon is not None
            assert waiting.receive()["result"]["pid"] == host.daemon.pid
    host.stop()
    assert (os.stat(host.socket).st_ino, os.stat(host.socket).st_mode) == (before.st_ino, before.st_mode)


def test_a_path_that_was_removed_is_systemds_to_make_again(host: Host, listening: FakeSystemd) -> None:
    listening.start(host)
    os.unlink(host.socket)
    until(lambda: "only systemd can listen there anew" in host.log(), "it says so")
    assert not os.path.lexists(host.socket)


def test_another_path_than_systemds_is_said_and_not_used(host: Host) -> None:
    with FakeSystemd(str(host.root / "theirs")) as manager:
        manager.start(host)
        assert not os.path.lexists(host.socket)
        with Client(str(host.root / "theirs")) as client:
            assert client.call("daemon.status")["socket"] == str(host.root / "theirs")
    assert f"nobody listens on {host.socket}" in host.log()


def test_a_descriptor_that_is_no_listening_socket_is_refused(host: Host, manager: FakeSystemd) -> None:
    manager.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    manager.start(host, wait=False)
    assert host.daemon is not None
    assert host.daemon.wait(60) == 2
    assert "the socket from systemd is not one of ListenStream=/a/path" in host.log()


@pytest.mark.root
def test_the_group_of_systemds_socket_may_submit_and_nobody_else_connects(host: Host) -> None:
    os.chmod(host.root, 0o755)
    os.chmod(host.paths.path, 0o755)
    with FakeSystemd(host.socket, mode=0o660, group=NOBODY) as manager:
        manager.start(host)
        (submitted, stopped) = call_as(
            NOBODY, host.socket, [("task.submit", {"command": ["true"], "cwd": "/"}), ("daemon.shutdown", {})]
        )
        assert host.task(submitted["result"]["id"])["created_by"] == NOBODY
        assert stopped["error"]["data"]["type"] == "permission_denied"
        with pytest.raises(CalledProcessError, match="1") as refused:
            call_as(NOBODY - 1, host.socket, [("daemon.status", {})])
        assert b"PermissionError" in refused.value.stderr
