"""Tests in namespaces of their own: pids that can be given anew, and signals that reach nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.processes import children, ended_at_last
from kit.waiting import until

INSIDE = "POLPOD_TEST_IN_PID_NAMESPACE"
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def in_pid_namespace(request: pytest.FixtureRequest, bound: float = 100.0) -> bool:
    """True inside.  Outside, this test is run by a pytest of its own as pid 1 of a pid namespace, and then False.

    Raises AssertionError with what that pytest said if it did not pass.
    """
    if INSIDE in os.environ:
        return True
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", request.node.nodeid]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {INSIDE: "1"}
    ended = subprocess.run(
        [*own, *pytest_],
        cwd=request.config.rootpath,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=bound,
    )
    assert ended.returncode == 0, ended.stdout
    return False


@contextmanager
def stranger(pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process of nobody's that has this pid, which is free; only inside.  It is alive in the end."""
    for _ in range(100):
        LAST_PID.write_text(str(pid - 1))
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if process.pid == pid:
            break
        process.kill()  # somebody was faster
        process.wait()
    else:
        raise AssertionError(f"pid {pid} cannot be had")
    with ended_at_last(process):
        yield process
        assert process.poll() is None, f"a stranger was ended by signal {-process.returncode}"


@contextmanager
def time_namespace(boottime: int) -> Iterator[tuple[str, ...]]:
    """A command that executes another in a time namespace: since boot, so many seconds more have passed there."""
    holder = subprocess.Popen(
        ["unshare", "--time", "--boottime", str(boottime), "--fork", "--kill-child", "sleep", "1000"],
        stdin=subprocess.DEVNULL,
    )
    with ended_at_last(holder):
        until(lambda: children(holder.pid), "somebody is in it")
        yield ("nsenter", f"--time=/proc/{holder.pid}/ns/time_for_children")
