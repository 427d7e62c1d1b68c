"""A host on which nothing can be started: the launcher pauses, says so, and probes; the daemon lives and rests (DESIGN §7, F87)."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kit.host import Host
from kit.invariants import Ledger
from kit.waiting import until

from polpod.services.launcher import PROBE_EVERY, Launcher


def paused(host: Host) -> Any:
    return host.call("daemon.status")["launcher"]["paused"]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_launcher_that_cannot_start_anything_pauses_probes_and_goes_on(host: Host) -> None:
    daemon = host.start()
    until(lambda: host.call("daemon.status")["state"] == "running", "recovery is over")
    directories = Path(host.paths.run_directories)
    directories.rmdir()
    directories.write_text("in the way")
    ids = [host.submit(shell="echo $POLPO_ATTEMPT") for _ in range(4)]
    assert "could not be started" in until(lambda: paused(host), "the launcher pauses")
    since = time.monotonic()
    assert "Nothing starts at the moment" in host.call("task.why", id=host.submit("true"))["sentences"][0]
    until(lambda: all(r["reason"] == "never_started" for i in ids for r in host.runs(i)), "none was started")

    # Nothing is ready when the probe is due: it waits for work, and does not spin (F24).
    host.call("task.cancel", select={"status": ["pending"]})
    until(lambda: time.monotonic() > since + PROBE_EVERY + 0.5, "the probe is due")
    before = cpu_seconds(daemon.pid)
    until(lambda: time.monotonic() > since + PROBE_EVERY + 1.5, "a second has passed")
    assert cpu_seconds(daemon.pid) - before < 0.2

    directories.unlink()
    directories.mkdir(mode=0o700)
    again = [host.submit("true") for _ in range(4)]
    for task_id in again:
        task = host.finished(task_id)
        assert (task["status"], task["retries"], task["recoveries"]) == ("done", 0, 0)
    assert paused(host) is None

    host.call("task.retry", select={"ids": ids[:1]})
    host.finished(ids[0])
    never_started, *_, done = host.runs(ids[0])
    assert (never_started["attempt"], done["attempt"]) == (1, len(host.runs(ids[0])))
    assert Path(done["log_path"]).read_text() == f"{done['attempt']}\n"  # what `runs` shows, as docs/jobs.md says
    assert host.stop() == 0
    Ledger(host.paths).settled()


def test_a_full_disk_pauses_the_launcher_and_refuses_work_but_not_answers(host: Host) -> None:
    host.start()
    waiting = host.submit("true", hold=True)
    host.kill()
    host.configure(reserve=2**53)
    daemon = host.start()
    host.call("task.release", select={"ids": [waiting]})
    assert "MiB are free" in until(lambda: paused(host), "the launcher pauses")
    with host.client() as client:
        assert client.error("task.submit", command=["true"], cwd="/") == "disk_full"
    since = time.monotonic()
    until(lambda: time.monotonic() > since + 1, "a second has passed")
    before = cpu_seconds(daemon.pid)
    until(lambda: time.monotonic() > since + 2, "another second has passed")
    assert cpu_seconds(daemon.pid) - before < 0.2
    assert host.task(waiting)["state"] == "ready"
    host.kill()
    host.configure()
    host.start()
    assert host.finished(waiting)["status"] == "done"


def test_a_launcher_is_not_paused_for_a_disk_that_has_room_again() -> None:
    """Though nothing is ready, the next start of which would show it: an alert would go on for as long."""
    full = True
    settings = SimpleNamespace(reserve=2**26)
    instance: Any = SimpleNamespace(
        disk_is_full=lambda: full, config=SimpleNamespace(settings=settings), launcher_paused=None
    )
    nobody: Any = None
    launcher = Launcher(instance, nobody, nobody, nobody, nobody)
    assert not launcher.may_start(0.0)
    assert instance.launcher_paused is not None
    full = False
    assert launcher.may_start(1.0)
    assert (instance.launcher_paused, launcher.probe_at) == (None, math.inf)
