"""Reload in place: same process, same socket, same runs, and clients that do not notice (DESIGN §7, §12)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kit.client import Client
from kit.host import Host
from kit.invariants import Ledger
from kit.processes import children
from kit.waiting import until

from polpod.wire.frames import LIMIT


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


def polpoctl(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polpoctl", "--root", str(host.root), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def descriptors(pid: int) -> set[str]:
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


def test_runs_and_clients_do_not_notice(host: Host) -> None:
    daemon = host.start()
    go = host.root / "go"
    running = host.submit(shell=f"echo up; while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    before = host.running(running)
    with Client(host.socket) as idle, Client(host.socket) as waiting:
        idle.call("daemon.health")
        waiting.send("task.wait", ids=[running])
        half = socket.socket(socket.AF_UNIX)
        half.connect(host.socket)
        half.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "daemon.st')
        said = polpoctl(host, "--json", "reload")
        assert (said.returncode, json.loads(said.stdout)["pid"]) == (0, daemon.pid), said.stderr
        half.sendall(b'atus"}\n')
        assert json.loads(half.recv(65536))["result"]["pid"] == daemon.pid
        half.close()
        assert idle.call("daemon.status")["pid"] == daemon.pid
        go.touch()
        assert waiting.receive()["result"]["tasks"][0]["status"] == "failed"
    assert host.finished(running)["result"]["exit_code"] == 7
    assert [(r["id"], r["attempt"]) for r in host.runs(running)] == [(before["id"], 1)]
    assert host.stop() == 0
    assert not os.path.lexists(host.socket)
    Ledger(host.paths).settled()


def test_submissions_in_flight_are_answered_once(host: Host) -> None:
    host.start()
    ids: list[str] = []
    problems: list[BaseException] = []

    def submit() -> None:
        try:
            with Client(host.socket) as client:
                ids.extend(client.call("task.submit", command=["true"], cwd="/", hold=True)["id"] for _ in range(150))
        except BaseException as exc:  # noqa: BLE001 - told by the test
            problems.append(exc)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        assert polpoctl(host, "reload").returncode == 0
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(ids) == len(set(ids)) == 600
    stored = host.call("task.list", all=True, limit=1000)["tasks"]
    assert sorted(t["id"] for t in stored) == sorted(ids)


def test_new_settings_are_in_force(host: Host) -> None:
    daemon = host.start()
    for title in "abc":
        host.submit("sleep", "1000", title=title)
    until(lambda: host.call("daemon.status")["runs"].get("running") == 2, "two of them run")
    host.configure(maxConcurrency=3)
    assert polpoctl(host, "reload").returncode == 0
    until(lambda: host.call("daemon.status")["runs"].get("running") == 3, "the third runs, too")
    assert host.call("daemon.status")["pid"] == daemon.pid
    assert host.stop() == 0


@pytest.mark.parametrize("text", ["{", '{"settings": {"maxConcurrency": 0}}'])
def test_what_would_not_start_changes_nothing(host: Host, text: str) -> None:
    host.start()
    before = host.call("daemon.status")["started_at"]
    Path(host.paths.config).write_text(text)
    said = polpoctl(host, "reload")
    assert said.returncode == 1
    assert "polpo.json" in said.stderr
    assert "goes on as it is" in said.stderr
    assert host.call("daemon.status")["started_at"] == before


def test_tasks_are_not_moved_by_a_reload(host: Host) -> None:
    daemon = host.start()
    live = host.submit("sleep", "1000")
    host.running(live)
    for settings in ({"storage": "file"}, {"storage": "postgres", "databaseUrl": "postgresql://u:cret@127.0.0.1:1/db"}):
        host.configure(**settings)
        said = polpoctl(host, "reload")
        assert said.returncode == 1
        assert "store copy" in said.stderr
        assert "cret" not in said.stderr
        assert daemon.poll() is None
    host.configure(databaseUrl="postgresql://of/nobody")
    assert polpoctl(host, "reload").returncode == 0
    assert host.task(live)["status"] == "in_progress"


def test_tasks_in_memory_are_not_lost_by_a_reload() -> None:
    with Host(storage="memory") as host:
        daemon = host.start()
        live = host.submit("sleep", "1000")
        host.running(live)
        for settings in ({"storage": "memory"}, {"storage": "sqlite"}):
            host.configure(**settings)
            said = polpoctl(host, "reload")
            assert said.returncode == 1
            assert "in memory" in said.stderr
            assert daemon.poll() is None
            assert host.task(live)["status"] == "in_progress"


def test_nothing_piles_up_over_many_reloads(host: Host) -> None:
    daemon = host.start()
    assert polpoctl(host, "reload").returncode == 0
    until(lambda: host.finished(host.submit("true"))["status"] == "done", "it works")
    before = descriptors(daemon.pid)
    for _ in range(5):
        assert polpoctl(host, "reload").returncode == 0
    until(lambda: host.finished(host.submit("true"))["status"] == "done", "it works")
    until(lambda: len(descriptors(daemon.pid)) <= len(before), "no descriptor is left over")
    assert host.stop() == 0


def test_closed_standard_streams_are_nobody_s(host: Host) -> None:
    """Else the next files that are opened would be taken for them, by us and by jobs."""
    host.start(under=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    task_id = host.submit("echo", "said")
    assert host.finished(task_id)["status"] == "done"
    assert Path(host.paths.log(1)).read_text() == "said\n"
    assert host.stop() == 0


def test_a_job_s_limit_of_descriptors_is_as_polpod_found_it_at_first(host: Host) -> None:
    """polpod raises its own; programs that use select(2) fail with a high one."""
    host.start(under=["prlimit", "--nofile=512:4096"])
    assert polpoctl(host, "reload").returncode == 0
    host.finished(host.submit(shell="ulimit -Sn; ulimit -Hn"))
    assert Path(host.paths.log(1)).read_text().split() == ["512", "4096"]
    assert host.stop() == 0


def test_no_zygote_is_left_unreaped(host: Host) -> None:
    daemon = host.start()
    for _ in range(3):
        assert polpoctl(host, "reload").returncode == 0
    until(lambda: len(children(daemon.pid)) == 1, "the zygotes of earlier generations are gone")
    assert host.stop() == 0


def test_a_reload_while_tasks_start_leaves_none_without_its_runner(host: Host) -> None:
    host.configure(maxConcurrency=64)
    host.start()
    host.call("task.submit_many", defaults={"cwd": "/"}, tasks=[{"command": ["true"]}] * 1000)
    assert host.call("daemon.status")["tasks"].get("pending", 0) > 0, "it is in the middle of them"
    for _ in range(3):
        assert polpoctl(host, "reload").returncode == 0
    until(lambda: host.call("daemon.status")["tasks"] == {"done": 1000}, "all are done", 120)
    until(lambda: host.call("daemon.status")["runs"] == {"completed": 1000}, "the last one is collected, too")
    assert host.stop() == 0
    Ledger(host.paths).settled()


def test_a_signal_in_the_middle_of_a_reload_is_obeyed(host: Host) -> None:
    daemon = host.start()
    for _ in range(20):
        host.call("task.list")  # threads are there that could take a signal
    with Client(host.socket) as backing_up, Client(host.socket) as reloading:
        blocked = {"jsonrpc": "2.0", "id": 1, "method": "task.wait", "params": {"ids": [host.submit("sleep", "1000")]}}
        change = {"jsonrpc": "2.0", "id": 2, "method": "task.submit", "params": {"command": ["true"], "cwd": "/"}}
        backing_up.send_raw(json.dumps([change, blocked]).encode() + b"\n")  # cannot be handed over, and takes long
        until(lambda: len(host.call("task.list", all=True)["tasks"]) == 2, "it is being answered")
        reloading.call("daemon.reload")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    Ledger(host.paths).settled()


def test_a_batch_that_changes_something_and_waits_is_not_carried_out_twice(host: Host) -> None:
    host.start()
    waited_for = host.submit("sleep", "1000")
    with Client(host.socket) as client:
        wait = {"jsonrpc": "2.0", "id": 1, "method": "task.wait", "params": {"ids": [waited_for]}}
        change = {"jsonrpc": "2.0", "id": 2, "method": "task.submit", "params": {"command": ["true"], "cwd": "/"}}
        client.send_raw(json.dumps([change, wait]).encode() + b"\n")
        until(lambda: len(host.call("task.list", all=True)["tasks"]) == 2, "it is being answered")
        assert polpoctl(host, "reload").returncode == 0
        with pytest.raises((EOFError, ConnectionError)):  # it is not told what became of its change, and can see
            client.receive()
        assert len(host.call("task.list", all=True)["tasks"]) == 2
    assert host.stop() == 0


def test_a_client_with_more_long_polls_than_are_answered_at_a_time_does_not_notice(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done")
    with Client(host.socket) as client:
        for _ in range(70):
            client.send("task.wait", ids=[task_id])
        assert polpoctl(host, "reload").returncode == 0
        go.touch()
        assert {client.receive()["id"] for _ in range(70)} == set(range(1, 71))
    assert host.stop() == 0


def test_long_polls_are_bounded_in_what_they_make_us_keep(host: Host) -> None:
    """Their frames are kept for the next generation; together they may not be more than all others may be (F86)."""
    host.start()
    task_id = host.submit("sleep", "1000")
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "task.wait", "params": {"ids": [task_id]}}).encode()
    with Client(host.socket) as idle, Client(host.socket) as busy:
        for client in (idle, busy):
            for _ in range(20):
                client.send_raw(request.ljust(LIMIT) + b"\n")
        with pytest.raises((EOFError, ConnectionError)):
            idle.receive()
    until(lambda: host.call("daemon.health")["ok"], "it is well")
    assert host.stop() == 0


def test_a_socket_that_was_replaced_just_before_is_not_taken_for_ours(host: Host) -> None:
    daemon = host.start()
    with host.client() as client:
        os.unlink(host.socket)
        other = socket.socket(socket.AF_UNIX)
        other.bind(host.socket)  # by somebody who does not listen there
        client.call("daemon.reload")
    until(lambda: "listening anew" in host.log(), "it listens where its clients look for it")
    other.close()
    assert host.call("daemon.status")["pid"] == daemon.pid
    assert host.stop() == 0


def test_of_systemd_s_sockets_only_ours_is_looked_for_again(host: Host) -> None:
    """The others end with the generation that they were passed to; their descriptors are something else by then."""
    ours, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with ours, other:
        for listener, path in ((ours, host.socket), (other, host.root / "other")):
            listener.bind(str(path))
            listener.listen()
        passed = (ours.fileno(), other.fileno())
        as_systemd_does = 'exec 3<&"$1" 4<&"$2"; shift 2; export LISTEN_PID=$$; exec "$@"'
        daemon = host.start(
            under=["bash", "-c", as_systemd_does, "bash", *map(str, passed)],
            pass_fds=passed,
            LISTEN_FDS="2",
            LISTEN_FDNAMES="polpod:other",
        )
    for _ in range(2):
        assert polpoctl(host, "reload").returncode == 0
    assert host.call("daemon.status")["pid"] == daemon.pid
    assert host.stop() == 0
