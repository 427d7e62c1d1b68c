"""A runner that is told of limits sets them before anything is executed, or executes nothing (DESIGN §12)."""

from __future__ import annotations

import os
import sys

import pytest
from runner_kit import State, Zygote

UNPRIVILEGED = ["setpriv", "--bounding-set=-sys_nice"] if os.geteuid() == 0 else []
NOT_LIMITED = "(runs cannot be limited so any more: `polpoctl doctor` says why)"


@pytest.mark.root
def test_a_limit_is_set_when_the_job_begins(state: State) -> None:
    # This file every cgroup has, whatever its controllers.
    assert state.base is not None
    group = state.base.run(1).path
    run = state.shell(f"cat {group}/cgroup.max.depth", level="cgroup", limits={"cgroup.max.depth": "3"})
    assert run.start().finish()["status"] == "completed"
    assert run.log == b"3\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("file", "value", "why"),
    [
        ("memory.of_no_kernel", "1", "No such file or directory"),
        ("cgroup.max.depth", "deep", "Invalid argument"),
    ],
)
def test_without_its_limit_nothing_is_executed(state: State, file: str, value: str, why: str) -> None:
    run = state.shell("echo executed", level="cgroup", limits={"memory.swap.max": "0", file: value})
    row = run.start().finish()
    assert (row["status"], row["reason"], row["job_pid"]) == ("failed", "spawn_failed", None)
    assert row["error"] == f"limit {file}: {why} {NOT_LIMITED}"
    assert run.log == b""


def test_without_a_cgroup_no_limit_can_be_set(state: State) -> None:
    run = state.shell("echo executed", limits={"pids.max": "5"})
    row = run.start().finish()
    assert (row["status"], row["reason"]) == ("failed", "spawn_failed")
    assert row["error"] == f"limit pids.max: the run has no cgroup {NOT_LIMITED}"
    assert run.log == b""


def test_a_niceness_that_the_task_asked_for_goes_before_polpod_s_own(state: State) -> None:
    run = state.add("nice", nice=5, own_nice=11)
    assert run.start().finish()["status"] == "completed"
    assert run.log == b"11\n"


def test_a_niceness_that_may_not_be_given_is_said_and_nothing_is_executed(state: State) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    run = state.shell("echo executed", own_nice=own - 1)
    command = [*UNPRIVILEGED, "prlimit", "--nice=0", sys.executable, "-I", "-m", "polpod.runner.zygote"]
    with Zygote(command=command) as zygote:
        row = run.start(zygote).finish()
    assert (row["status"], row["reason"], row["exit_code"]) == ("failed", "spawn_failed", 126)
    hint = "below what it inherits that needs root, CAP_SYS_NICE, or LimitNICE= in the unit that runs are in"
    assert row["error"] == f"nice {own - 1}: EACCES, Permission denied ({hint})"
    assert run.log == b""
