"""Fifty jobs run, and something happens to the daemon or to systemd: none of them notices (DESIGN §12)."""

from __future__ import annotations

import pytest
from kit.fault import fault
from kit.service import UNIT, Crowd, Service
from kit.waiting import SLOWNESS, until

NUMBER = 50 if SLOWNESS == 1 else 5


@pytest.fixture
def crowd(service: Service) -> Crowd:
    service.start()
    return Crowd(service, NUMBER)


def settle(crowd: Crowd) -> None:
    """Everything ends as it would have, and nothing is left."""
    crowd.unharmed()
    crowd.finish()
    crowd.service.systemctl("stop", UNIT)
    crowd.service.settled()


def test_a_kill_of_the_main_process(crowd: Crowd) -> None:
    crowd.service.came_back(crowd.service.kill("KILL"))
    settle(crowd)


@pytest.mark.controllers
def test_an_oom_kill_of_the_daemon(crowd: Crowd) -> None:
    """Its memory, and nobody else's, is all at once too much."""
    service = crowd.service
    pid = service.pid()
    service.systemctl("set-property", "--runtime", UNIT, "MemoryMax=1M", "MemorySwapMax=0")
    until(lambda: service.pid() != pid, "the daemon is killed")
    service.systemctl("set-property", "--runtime", UNIT, "MemoryMax=infinity")
    service.came_back(pid)
    assert "killed by the OOM killer" in service.box.journal()
    settle(crowd)


def test_the_watchdog_fires_on_a_daemon_that_hangs(service: Service) -> None:
    service.configure(maxConcurrency=60)
    service.override(UNIT, "[Service]\nWatchdogSec=8")
    service.start()
    crowd = Crowd(service, NUMBER)
    service.came_back(service.kill("STOP"))
    assert "Watchdog timeout" in service.box.journal()
    crowd.unharmed()
    crowd.finish()
    assert service.show("NRestarts") == "1"  # who does not hang is left alone


def test_a_reload_keeps_the_process_and_every_run(crowd: Crowd) -> None:
    service = crowd.service
    pid, started = service.pid(), service.status()["started_at"]
    service.systemctl("reload", UNIT)
    assert service.pid() == pid
    assert service.status()["started_at"] > started
    settle(crowd)


def test_a_reload_refuses_settings_that_it_cannot_read(crowd: Crowd) -> None:
    service = crowd.service
    before = service.status()
    service.configure(maxConcurrency="many")
    assert service.box.run("systemctl", "reload", UNIT).returncode != 0
    assert "maxConcurrency" in service.box.journal()
    assert service.show("ActiveState") == "active"
    assert service.status()["started_at"] == before["started_at"]
    settle(crowd)


@pytest.mark.parametrize("what", ["restart", "stop", "kill"])
@fault(
    43,
    "systemd ends the unit, and with it all that is in its cgroup",
    promise="Jobs are in units of their own, which nothing ties to the daemon's. With `onShutdown: keep` a restart and a "
    "stop leave them alone; a kill of the whole unit always does.",
    injected="`systemctl restart`, `stop` and `start`, and `kill --signal=KILL`, with fifty jobs",
    seen_failing="units of zygotes that are bound to the daemon's, with `KillMode=control-group`",
)
def test_f43_what_ends_the_unit_ends_no_job(service: Service, what: str) -> None:
    service.configure(maxConcurrency=60, onShutdown="keep")
    service.start()
    crowd = Crowd(service, NUMBER)
    pid = service.pid()
    if what == "kill":
        service.systemctl("kill", "--signal=KILL", UNIT)
    else:
        service.systemctl(what, UNIT)
    if what == "stop":
        assert service.pid() == 0
        service.start()
    service.came_back(pid)
    settle(crowd)


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
@fault(
    44,
    "systemd moves processes, or removes cgroups, that were put where they are without its leave",
    promise="Each run's cgroup is below a unit that delegates it: systemd leaves it as it is.",
    injected="`systemctl daemon-reload` and `daemon-reexec` with fifty jobs; who is in which cgroup, before and after",
    seen_failing="units of zygotes without `Delegate=yes`",
)
def test_f44_systemd_leaves_the_cgroups_of_runs_alone(crowd: Crowd, verb: str) -> None:
    service = crowd.service
    pid, groups, places = service.pid(), service.groups(), crowd.places()
    assert len(groups) == NUMBER
    service.systemctl(verb)
    assert (service.pid(), service.groups(), crowd.places()) == (pid, groups, places)
    settle(crowd)
