"""When a log is looked at, and what is punched out of it (F62, F63)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from polpod.runner.loglimit import LONGEST_PAUSE, SHORTEST_PAUSE, LogLimit

KIB = 1024
MIB = 1024 * KIB


class Log:
    """A log, its limit of 1 MiB with a head of 64 KiB, and a clock."""

    def __init__(self, path: Path, flags: int = os.O_WRONLY | os.O_APPEND | os.O_CREAT) -> None:
        self.path = path
        self.fd = os.open(path, flags)
        self.now = 100.0
        self.limit = LogLimit(self.fd, MIB, 64 * KIB, clock=lambda: self.now)

    def write(self, size: int) -> None:
        os.write(self.fd, b"x" * size)

    def look(self) -> float:
        """Let the next look come; returns how long it was waited for."""
        waited, self.now = self.limit.due - self.now, self.limit.due
        self.limit.run()
        return waited

    @property
    def on_disk(self) -> int:
        return os.fstat(self.fd).st_blocks * 512


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log")
    yield log
    os.close(log.fd)


def test_a_log_within_its_limit_is_left_alone(log: Log) -> None:
    log.write(MIB)
    log.look()
    assert log.path.read_bytes() == b"x" * MIB


def test_what_is_too_much_becomes_a_hole_behind_the_head(log: Log) -> None:
    log.write(3 * MIB)
    log.look()
    data = log.path.read_bytes()
    assert len(data) == 3 * MIB
    assert data[: 64 * KIB] == b"x" * (64 * KIB)
    assert log.on_disk <= MIB
    assert data[64 * KIB : 2 * MIB].strip(b"\0") == b""
    assert data[-800 * KIB :] == b"x" * (800 * KIB)


def test_holes_grow_as_the_log_does(log: Log) -> None:
    for _ in range(50):
        log.write(300 * KIB)
        log.look()
        assert log.on_disk <= MIB + 64 * KIB
    assert log.path.read_bytes()[: 64 * KIB] == b"x" * (64 * KIB)


def test_a_quiet_log_is_looked_at_seldom(log: Log) -> None:
    pauses = [log.look() for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)


def test_a_fast_log_is_looked_at_often(log: Log) -> None:
    log.write(900 * KIB)
    log.look()
    assert log.look() < 0.1
    log.write(3 * MIB)
    log.look()
    assert log.look() == pytest.approx(SHORTEST_PAUSE)


def test_a_truncated_log_starts_again(log: Log) -> None:
    log.write(3 * MIB)
    log.look()
    os.ftruncate(log.fd, 0)
    log.write(2 * MIB)
    log.look()
    assert log.on_disk <= MIB
    assert log.path.read_bytes()[: 64 * KIB] == b"x" * (64 * KIB)


def test_where_no_hole_can_be_punched_the_log_keeps_every_byte(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.write(3 * MIB)
    os.close(log.fd)
    log = Log(tmp_path / "log", os.O_RDONLY)  # as good a refusal as a file system's
    log.look()
    assert log.limit.due == math.inf
    assert log.on_disk >= 3 * MIB
    os.close(log.fd)
