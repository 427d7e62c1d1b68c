"""A zygote that cannot live, or does not answer, costs tasks their time, and the daemon nothing (F87)."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from kit.host import Host
from kit.invariants import Ledger
from kit.processes import alive, zygote
from kit.waiting import until

from polpod.services.zygote import REPLY_TIMEOUT


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of hosts started from now on, at a path of its own, where an upgrade may do to it what it likes."""
    environment = Path(sys.prefix)
    shutil.copy(environment / "pyvenv.cfg", tmp_path)
    (tmp_path / "lib").symlink_to(environment / "lib")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    return python


@pytest.mark.parametrize("broken", ["", "#!/bin/sh\necho a zygote was started; exit 1\n"], ids=["gone", "dies"])
def test_a_daemon_without_zygotes_goes_on_and_starts_nothing(host: Host, python: Path, broken: str) -> None:
    daemon = host.start()
    go = host.root / "go"
    running = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    host.running(running)
    first = until(lambda: zygote(daemon.pid), "there is a zygote")
    working = python.rename(python.with_name("working"))
    if broken:
        python.write_text(broken)
        python.chmod(0o755)
    since = time.monotonic()
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(first), "it is dead")
    go.touch()
    assert host.finished(running)["result"]["exit_code"] == 7
    waiting = host.submit("true")
    until(lambda: host.task(waiting)["launch_failures"], "it could not be started")
    assert host.log().count("a zygote was started") < 3 + time.monotonic() - since, "one a second"
    working.rename(python)
    assert host.finished(waiting)["status"] == "done"
    assert host.stop() == 0
    Ledger(host.paths).settled()


def silent(host: Host) -> int:
    """Start a daemon whose zygote, of this pid, worked and now stands still."""
    daemon = host.start()
    assert host.finished(host.submit("true"))["status"] == "done"
    first = until(lambda: zygote(daemon.pid), "there is a zygote")
    os.kill(first, signal.SIGSTOP)
    return first


def test_a_zygote_that_does_not_answer_is_replaced(host: Host) -> None:
    first = silent(host)
    task_id = host.submit("true")
    assert host.finished(task_id)["status"] == "done"
    assert not alive(first)
    assert len(host.runs(task_id)) >= 2
    assert host.stop() == 0
    Ledger(host.paths).settled()


def test_a_zygote_that_does_not_answer_holds_up_no_stop(host: Host) -> None:
    silent(host)
    task_id = host.submit("true")
    until(lambda: host.runs(task_id), "it is asked")
    assert host.stop(bound=REPLY_TIMEOUT) == 0
    host.start()
    assert host.finished(task_id)["status"] == "done"


def test_what_keeps_zygotes_away_is_said_once(host: Host) -> None:
    """As where polpo-zygote.socket was stopped: a line names what is missing, and not one for each try."""
    missing = host.root / "zygotes"
    host.start(under=("sh", "-c", f'exec "$@" --zygote-socket {missing}', "sh"))
    task_id = host.submit("true")
    until(lambda: host.task(task_id)["launch_failures"] >= 2, "the task has been tried twice")
    assert host.log().count(f"no zygote can be started: {missing}: No such file or directory") == 1
