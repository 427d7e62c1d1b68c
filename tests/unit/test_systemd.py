"""What is said to systemd, and what is taken from it, on a real datagram socket and in a real environment."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polpod import systemd
from polpod.errors import StartError


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of $NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def said(heard: socket.socket) -> dict[str, str]:
    """The next message."""
    return dict(line.split("=", 1) for line in heard.recv(4096).decode().splitlines())


def closed(manager: systemd.Systemd) -> None:
    assert manager._notifier is not None
    manager._notifier.socket.close()


def test_each_thing_is_said_in_its_words(heard: socket.socket) -> None:
    manager = systemd.take()
    manager.ready()
    manager.status("12 running,\n  340 queued, in “größe”")
    manager.extend(1.5)
    manager.pet()
    manager.stopping()
    before = time.monotonic_ns() // 1000
    manager.reloading()
    assert [said(heard) for _ in range(5)] == [
        {"READY": "1"},
        {"STATUS": "12 running, 340 queued, in “größe”"},
        {"EXTEND_TIMEOUT_USEC": "1500000"},
        {"WATCHDOG": "1"},
        {"STOPPING": "1"},
    ]
    last = said(heard)
    assert last["RELOADING"] == "1"
    assert before <= int(last["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    closed(manager)


def test_what_is_not_taken_at_once_is_said_later_and_nobody_waits(heard: socket.socket) -> None:
    manager = systemd.take()
    sent = 0
    while not manager._unsaid:
        manager.status(f"status {sent}")
        sent += 1
    manager.ready()
    manager.status("the last")
    while True:
        try:
            assert "READY" not in said(heard)
        except BlockingIOError:
            break
    manager.pet()
    assert said(heard) == {"STATUS": "the last", "READY": "1", "WATCHDOG": "1"}
    closed(manager)


def test_the_environment_is_taken_and_kept_for_the_next_image_of_the_process(
    heard: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = dict.fromkeys(systemd.VARIABLES, "1") | {"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]}
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    manager = systemd.take()
    assert not os.environ.keys() & left.keys()
    assert manager.environment == left
    closed(manager)


@pytest.mark.parametrize(
    ("pid", "expected"), [(os.getpid(), 2.5), (1, None), (None, None)], ids=["ours", "another", "nobody"]
)
def test_the_watchdog_waits_for_the_process_that_is_named(
    heard: socket.socket, monkeypatch: pytest.MonkeyPatch, pid: int | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2500000")
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(pid))
    manager = systemd.take()
    assert manager.watchdog == expected
    closed(manager)


def test_without_systemd_nothing_is_said() -> None:
    assert "NOTIFY_SOCKET" not in os.environ
    manager = systemd.take()
    manager.ready()
    assert (manager.hears, manager.watchdog, manager.listening(), manager.environment) == (False, None, None, {})


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # sdnotify leaves its socket to the collector
def test_a_socket_of_systemd_that_is_gone_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.take().ready()
    assert "cannot be notified" in caplog.text


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """Two descriptors in a row, which children inherit."""
    read_end, write_end = os.pipe()
    first = fcntl.fcntl(read_end, fcntl.F_DUPFD, 500)
    second = fcntl.fcntl(write_end, fcntl.F_DUPFD, 501)
    yield [first, second]
    for descriptor in (read_end, write_end, first, second):
        os.close(descriptor)


LISTENING = {"LISTEN_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (LISTENING | {"LISTEN_FDS": "1"}, 0),
        (LISTENING | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "polpod.socket"}, 0),
        (LISTENING | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:polpod"}, 1),
    ],
)
def test_the_listening_socket_is_the_one_that_is_ours(
    ends: list[int], environment: dict[str, str], expected: int
) -> None:
    found = systemd.Systemd(environment, None).listening(ends[0])
    assert found == ends[expected]
    assert not os.get_inheritable(found)


def test_a_socket_for_another_process_is_not_ours(ends: list[int]) -> None:
    assert systemd.Systemd({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, None).listening(ends[0]) is None
    assert os.get_inheritable(ends[0])


def test_sockets_that_cannot_be_told_apart_are_refused(ends: list[int]) -> None:
    with pytest.raises(StartError, match="2 sockets, of which 0") as refused:
        systemd.Systemd(LISTENING | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, None).listening(ends[0])
    assert refused.value.exit_code == 2
