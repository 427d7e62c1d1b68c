"""Disks that are full, gone or slow, and files that others damage, remove, lock or pin (F49 to F63)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.disk import Disk, small_disk
from kit.host import Host
from kit.invariants import Ledger
from kit.processes import alive
from kit.starting import WITHOUT_OVERRIDE
from kit.waiting import until

from polpod.runner import contract, small_files

KIB = 2**10


@contextmanager
def on_a_small_disk(host: Host, size: str, **settings: object) -> Iterator[Disk]:
    """The state directory is on a disk of its own, until the daemon has stopped."""
    with small_disk(host.paths.path, size) as disk:
        host.configure(**settings)
        yield disk
        if host.daemon is not None and host.daemon.poll() is None:
            host.stop()
    host.configure()


def waits_for(go: Path, then: str = "exit 0") -> str:
    """A shell text that goes on once the file is there."""
    return f"while [ ! -e {go} ]; do sleep 0.02; done; {then}"


def refused_for_space(host: Host, length: int) -> bool:
    """Whether the daemon takes no description of this length, for that reason and no other."""
    with host.client() as client:
        client.send("task.submit", shell="true", cwd="/", hold=True, description="d" * length)
        answer = client.receive()
    assert "result" in answer or answer["error"]["data"]["type"] == "disk_full", answer
    return "error" in answer


# Full disks


@pytest.mark.root
@pytest.mark.parametrize("size", ["5m", "9m", "18m"])
def test_a_disk_that_the_databases_fill_themselves_is_usable_as_soon_as_anything_is_freed(
    host: Host, size: str
) -> None:
    with on_a_small_disk(host, size) as disk:
        host.start()
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        disk.fill(leave=os.statvfs(host.paths.path).f_bavail * 4096 - 256 * KIB)
        go = host.root / "go"
        running = host.submit(shell=waits_for(go, "exit 7"))
        host.running(running)
        until(lambda: all(refused_for_space(host, 100_000) for _ in range(5)), "the disk is full")
        go.touch()
        disk.free()
        assert host.finished(running)["result"]["exit_code"] == 7
        assert host.finished(host.submit("true"))["status"] == "done"


# Witnesses that cannot be read


@pytest.mark.parametrize("nobody_watches", [True, False], ids=["while nobody watched", "under its eyes"])
def test_an_outcome_that_cannot_be_read_now_is_waited_for(host: Host, nobody_watches: bool) -> None:
    """Only that there is no record says that there is none: an error of the disk, or of the host, says nothing."""
    host.start(under=WITHOUT_OVERRIDE)
    task_id = host.submit("sleep", "1000")
    run = host.running(task_id)
    witness = Path(host.paths.run(run["id"]).exit)
    row = Ledger(host.paths).look()[run["id"]]
    if nobody_watches:
        host.kill()
    os.kill(run["pid"], signal.SIGSTOP)  # it will not write its own
    ended = dict.fromkeys(contract.OUTCOME) | {
        "id": row["id"], "nonce": row["nonce"], "status": "failed", "reason": "exited", "exit_code": 7,
        "ended_at": contract.timestamp(),
    }  # fmt: skip
    small_files.write(str(witness), contract.encode_exit(ended), os.O_CREAT)
    witness.chmod(0)
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not alive(run["pid"]), "the runner is dead")
    if nobody_watches:
        host.start(under=WITHOUT_OVERRIDE)
    until(lambda: host.log().count("what became of run 1, looking again") >= 2, "it looks, and looks again")
    assert host.runs(task_id)[0]["status"] == "running"
    witness.chmod(0o600)
    task = host.finished(task_id)
    assert (task["status"], task["result"]["exit_code"], task["recoveries"]) == ("failed", 7, 0)
