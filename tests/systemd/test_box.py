"""The machine that the other tests of this directory trust: it is one, and nothing of it is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.box import CHECKOUT, PACKAGES, PYTHON, Box, clear
from kit.processes import alive
from kit.waiting import until


def test_it_has_its_own_processes_files_and_cgroups(box: Box) -> None:
    assert box.do("ps", "-p", "1", "-o", "comm=").strip() == "systemd"
    box.put("/etc/of-the-machine", "")
    assert not Path("/etc/of-the-machine").exists()
    slices = {path.name for path in box.path("/sys/fs/cgroup").glob("*.slice")}
    assert {path.name for path in box.cgroup.glob("*.slice")} == slices != set()
    assert box.run("sh", "-c", "echo 1 > /proc/sys/kernel/sysrq").returncode != 0


def test_it_runs_what_is_tested_as_anybody(box: Box) -> None:
    assert box.do("polpod", "--version", user="daemon").startswith("polpod ")
    assert box.run("polpod", "--unheard-of").returncode == 2
    assert box.run("polpoctl", "--socket", "/nowhere", "status").returncode == 4
    script = "import polpod; print(polpod.__file__)"
    assert box.do(PYTHON, "-I", "-c", script, user="daemon").strip() == str(PACKAGES / "polpod/__init__.py")


@pytest.mark.parametrize("how", ["reboot", "cut"])
def test_its_disk_outlives_a_boot(box: Box, how: str) -> None:
    boot, first = "/proc/sys/kernel/random/boot_id", box.path("/proc/sys/kernel/random/boot_id").read_text()
    box.put("/var/tmp/kept", "kept")
    box.put("/run/gone", "gone")
    getattr(box, how)()
    assert box.path(boot).read_text() != first
    assert box.path("/var/tmp/kept").read_text() == "kept"
    assert not box.path("/run/gone").exists()
    assert box.do("journalctl", "--list-boots", "--quiet", "--no-pager").count("\n") >= 2


def test_nothing_is_left_when_it_is_closed() -> None:
    with Box() as box:
        box.do("systemd-run", "--quiet", "sleep", "1000")
    assert not alive(box.pid)
    assert not box.directory.exists()
    assert not box.cgroup.exists()
    assert box.directory.name not in Path("/proc/self/mountinfo").read_text()


def test_nothing_lives_on_when_its_test_is_killed() -> None:
    """Empty directories and cgroups are all that is left then."""
    script = "from kit.box import Box; box = Box(); print(box.pid, box.directory, box.cgroup, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "tests")},
    ) as test:
        assert test.stdout is not None
        pid, directory, cgroup = test.stdout.readline().split()
        assert alive(int(pid))
        test.kill()
    until(lambda: not alive(int(pid)), "the machine is gone")
    assert list(Path(directory, "disk").iterdir()) == []
    clear(Path(directory), Path(cgroup))
