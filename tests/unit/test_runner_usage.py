"""What a runner keeps of what its job uses: of all that descends from it, in a file that stays small."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.processes import ended_at_last

from polpod.runner.usage import FIRST_PAUSE, MOST, SUFFIX, Usage, read

MIB = 2**20


@pytest.fixture
def usage(tmp_path: Path) -> Usage:
    return Usage(f"{tmp_path}/1.log", None)


def samples(tmp_path: Path) -> list[tuple[float, float, int]]:
    return read(f"{tmp_path}/1.log{SUFFIX}")


def test_a_grandchild_counts(usage: Usage, tmp_path: Path) -> None:
    usage.run()
    hungry = (
        "import sys; held = bytearray(b'x') * (256 << 20); sum(range(3_000_000)); print(flush=True); sys.stdin.read()"
    )
    argv = ["sh", "-c", '"$@"; :', "sh", sys.executable, "-c", hungry]
    with ended_at_last(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        usage.run()
        child.communicate()
    usage.run()
    before, during, after = samples(tmp_path)
    # Far less than it holds: what else descends from this process may grow and shrink meanwhile.
    assert during[2] - before[2] > 180 * MIB
    assert during[1] > before[1]
    assert after[2] < during[2] - 180 * MIB
    assert 0 < before[0] < during[0] < after[0]


def test_a_long_run_has_half_as_many_samples_each_time_that_there_are_enough(usage: Usage, tmp_path: Path) -> None:
    for _ in range(MOST - 1):
        usage.run()
    assert len(samples(tmp_path)) == MOST - 1
    last = samples(tmp_path)[-1]
    usage.run()
    kept = samples(tmp_path)
    assert len(kept) == MOST // 2
    assert kept == sorted(kept)
    assert kept[-1][0] > last[0]
    before = time.monotonic()
    usage.run()
    assert usage.due - before >= 2 * FIRST_PAUSE
    assert len(samples(tmp_path)) == MOST // 2 + 1
    assert os.listdir(tmp_path) == [f"1.log{SUFFIX}"]


def test_where_nothing_can_be_kept_the_run_goes_on(tmp_path: Path) -> None:
    usage = Usage(f"{tmp_path}/gone/1.log", None)
    due = usage.due
    usage.run()
    assert usage.due > due - FIRST_PAUSE


def test_what_a_job_puts_in_its_place_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_bytes(struct.pack("<ddQ", float("nan"), 0, 0) + struct.pack("<ddQ", 1, 2, 3) + b"rest")
    assert read(str(path)) == [(1, 2, 3)]
    path.write_bytes(b"\0" * 10 * MIB)
    assert len(read(str(path))) == MOST
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a file"):
        read(str(path))
