"""The service is stopped, or the machine shut down: everything ends in order, and goes on at the next start (DESIGN §7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from kit.service import SOCKET, UNIT, Service
from kit.waiting import until

NUMBER = 50
OBEDIENT = "echo begun; sleep 1000"
STUBBORN = "trap '' TERM; echo begun; (setsid sleep 1000 &); while :; do sleep 1; done"


def running(service: Service, ids: list[str], attempt: int) -> dict[str, list[dict[str, Any]]]:
    """The runs of each task, once each is in this attempt and its job has begun."""

    def all_begun() -> dict[str, list[dict[str, Any]]] | None:
        runs = service.runs()
        last = [runs[i][-1] for i in ids if i in runs]
        here = [run for run in last if (run["attempt"], run["status"]) == (attempt, "running")]
        said = [service.box.path(run["log_path"]) for run in here]
        begun = [path for path in said if path.exists() and path.read_text() == "begun\n"]
        return runs if len(begun) == len(ids) else None

    return until(all_begun, f"{len(ids)} jobs run")


def stop_and_start(service: Service) -> None:
    service.systemctl("stop", UNIT)
    assert service.show("Result") == "success"
    theirs = partial(service.box.run, "ps", "-u", "polpo", "-o", "pid,args=")
    until(lambda: theirs().stdout.count("\n") <= 1, "nothing of theirs is left")  # the zygote is of another unit
    service.settled()
    service.start()


def reboot(service: Service) -> None:
    service.systemctl("enable", SOCKET, UNIT)
    service.box.reboot()
    assert "Failed with result" not in service.box.journal()
    service.healthy()


@pytest.mark.parametrize("how", [stop_and_start, reboot])
def test_what_is_interrupted_runs_again_without_a_retry(service: Service, how: Callable[[Service], None]) -> None:
    service.start()
    ids = service.submit(NUMBER, OBEDIENT)
    running(service, ids, 1)
    how(service)
    runs, tasks = running(service, ids, 2), service.tasks()
    assert {tuple((r["status"], r["reason"]) for r in runs[i]) for i in ids} == {
        (("killed", "shutdown"), ("running", None))
    }
    assert {(tasks[i]["retries"], tasks[i]["recoveries"]) for i in ids} == {(0, 0)}


def test_a_stop_has_its_time_and_leaves_nothing(service: Service) -> None:
    """Jobs that do not obey, and what they put beside themselves, are ended by force before the unit's own time is over."""
    service.configure(maxConcurrency=10, killGrace=3000)
    service.start()
    running(service, service.submit(10, STUBBORN), 1)
    begun = time.monotonic()
    stop_and_start(service)
    assert time.monotonic() - begun < 60


def test_a_power_cut_costs_a_recovery_and_no_retry(service: Service) -> None:
    service.start()
    service.systemctl("enable", SOCKET, UNIT)
    ids = service.submit(10, OBEDIENT)
    running(service, ids, 1)
    service.box.cut()
    service.healthy()
    runs, tasks = running(service, ids, 2), service.tasks()
    assert {tuple((r["status"], r["reason"]) for r in runs[i]) for i in ids} == {(("lost", "lost"), ("running", None))}
    assert {(tasks[i]["retries"], tasks[i]["recoveries"]) for i in ids} == {(0, 1)}
