"""Fifty jobs run, and something happens to the daemon or to systemd: none of them notices (DESIGN §12)."""

from __future__ import annotations

import pytest
from kit.service import UNIT, Crowd, Service
from kit.waiting import until

NUMBER = 50


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
    """What an OOM kill is, too, where nothing counts the memory of a unit."""
    crowd.service.came_back(crowd.service.kill("KILL"))
    settle(crowd)


def test_the_watchdog_fires_on_a_daemon_that_hangs(service: Service) -> None:
    service.configure(maxConcurrency=60)
    service.override(UNIT, "[Service]\nWatchdogSec=2")
    service.start()
    crowd = Crowd(service, NUMBER)
    service.came_back(service.kill("STOP"))
    assert "Watchdog timeout" in service.box.journal()
    crowd.unharmed()
    crowd.finish()
    assert service.show("NRestarts") == "1"  # who does not hang is left alone


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
def test_systemd_loads_itself_or_its_units_anew(crowd: Crowd, verb: str) -> None:
    service = crowd.service
    pid, groups = service.pid(), service.groups()
    service.systemctl(verb)
    assert (service.pid(), service.groups()) == (pid, groups)
    settle(crowd)


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


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_what_is_to_be_kept_is_kept(service: Service, verb: str) -> None:
    service.configure(maxConcurrency=60, onShutdown="keep")
    service.start()
    crowd = Crowd(service, NUMBER)
    pid = service.pid()
    service.systemctl(verb, UNIT)
    if verb == "stop":
        until(lambda: service.pid() == 0, "the daemon is stopped")
        service.start()
    service.came_back(pid)
    settle(crowd)
