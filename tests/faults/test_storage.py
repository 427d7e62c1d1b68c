"""Disks that are full, gone or slow, and files that others damage, remove, lock or pin (F49 to F63)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.disk import Disk, small_disk
from kit.host import Host
from kit.waiting import until

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
