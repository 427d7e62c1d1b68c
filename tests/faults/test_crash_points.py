"""Death at every named instruction of daemon, zygote and runner: the same work ends in the same way (DESIGN §14)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kit.fault import fault
from kit.host import FINISHED, Host
from kit.invariants import Ledger
from kit.waiting import until

from polpod import crash

LATER = (
    "launch.asked:4", "launch.forked:4", "launch.gone:3", "launch.inserted:2", "launch.assigned:2", "launch.prepared:2",
    "collect.read:3", "collect.seen:3", "collect.applied:3", "collect.removed:2", "collect.collected:2",
    "submit.committed:7", "zygote.request:5",
)  # fmt: skip
"""In the middle of a batch, or of the work."""

EXECUTED_BUT_UNKNOWN = {"runner.released", "runner.job_ended", "runner.proven"}
"""The job may have done all or nothing when its runner died, so that it is done again."""

LOST = EXECUTED_BUT_UNKNOWN | {"runner.claimed"}

ELSEWHERE = ("mission.", "schedule.", "deadline.", "a2a.")
"""What these tasks do not come by: the tests of these parts die there."""

TASKS = 12
SLOTS = 8


class Work:
    """A dozen tasks of all kinds, submitted, cancelled and waited for through any number of deaths."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.go = host.root / "go"
        self.trace = host.root / "trace"
        self.ids: dict[str, str] = {}

    def submit(self) -> None:
        for name in "ac":
            self._add(name, "exit 0")
        self._add("b", "exit 0", expectations=[{"type": "test", "command": f"grep -qx b {self.trace}"}])
        self._add("after-a", "exit 0", depends_on=["a"])
        self._add("after-both", "exit 0", depends_on=["after-a", "b"])
        self._add("fails", "exit 3")
        self._add("blocked", "exit 0", depends_on=["fails"])
        self._add(
            "third-time", f"[ $(grep -cx third-time {self.trace}) -ge 3 ] || exit 9", max_retries=2, retry_delay=0.02
        )
        self._add("never", "exit 4", max_retries=1, retry_delay=0.02)
        self._add("long", f"while [ ! -e {self.go} ]; do sleep 0.02; done; exit 5")
        self._add("stubborn", "trap '' TERM; while :; do sleep 0.02; done", kill_grace=0.3)
        self._add("unneeded", "sleep 1000", kill_grace=0.3)

    def finish(self) -> None:
        """Cancel what is to be cancelled, once it runs, and let the long one end."""
        for name in ("stubborn", "unneeded", "long"):
            until(partial(self._started, name), f"{name} runs")
        select = {"ids": [self.ids["stubborn"], self.ids["unneeded"]]}
        self._host.surely("task.cancel", select=select)
        self.go.touch()
        until(self._over, "everything is over", 60)

    def check(self, point: str) -> None:
        """Everything ended as it had to, and was done as often as it had to be."""
        tasks = {name: self._host.surely("task.get", id=task_id)["task"] for name, task_id in self.ids.items()}
        assert {name: task["status"] for name, task in tasks.items()} == {
            **dict.fromkeys(("a", "b", "c", "after-a", "after-both", "third-time"), "done"),
            **dict.fromkeys(("fails", "never", "long"), "failed"),
            **dict.fromkeys(("stubborn", "unneeded"), "cancelled"),
            "blocked": "pending",
        }
        assert tasks["blocked"]["state"] == "blocked"
        assert {n: t["retries"] for n, t in tasks.items() if t["retries"]} == {"third-time": 2, "never": 1}
        codes = {n: t["result"]["exit_code"] for n, t in tasks.items() if t["status"] in ("done", "failed")}
        assert codes == dict.fromkeys(codes, 0) | {"fails": 3, "never": 4, "long": 5}
        recoveries = sum(task["recoveries"] for task in tasks.values())
        # A job that went on for long enough has a second witness of its end (polpod/services/witness.py).
        assert recoveries == (point in LOST) or (recoveries == 0 and point in EXECUTED_BUT_UNKNOWN)
        assert all(
            self._host.runs(i)[-1]["reason"] == "cancelled" for i in map(self.ids.__getitem__, ("stubborn", "unneeded"))
        )

        expected = Counter(dict.fromkeys(self.ids, 1) | {"third-time": 3, "never": 2})
        del expected["blocked"]
        twice = Counter(self.trace.read_text().split()) - expected
        assert twice.total() <= (point in EXECUTED_BUT_UNKNOWN), twice
        assert expected - Counter(self.trace.read_text().split()) == Counter()
        assert sum(self._host.surely("daemon.status")["tasks"].values()) == TASKS

    def _add(self, name: str, shell: str, depends_on: Sequence[str] = (), **fields: Any) -> None:
        fields["depends_on"] = [self.ids[on] for on in depends_on]
        script = f"echo {name} >> {self.trace}; {shell}"
        answer = self._host.surely(
            "task.submit", shell=script, title=name, cwd=str(self._host.root), idempotency_key=name, **fields
        )
        self.ids[name] = answer["id"]

    def _started(self, name: str) -> bool:
        self._host.survive()
        return self.trace.exists() and name in self.trace.read_text().split()

    def _over(self) -> bool:
        self._host.survive()
        tasks = self._host.surely("task.list", all=True)["tasks"]
        return all(task["status"] in FINISHED for task in tasks if task["title"] != "blocked")


@pytest.mark.parametrize("point", [*(p for p in crash.POINTS if not p.startswith(ELSEWHERE)), *LATER])
@fault(
    74,
    "a slot is taken by a task that neither runs nor gives it back",
    promise="Slots are counted from tasks and their live runs, never beside them: after any death each can be used.",
    injected="SIGKILL at every named instruction of daemon, zygote and runner, under a dozen tasks of all kinds; then as "
    "many tasks as there are slots, at once",
    seen_failing="the status as what a slot is counted by: tasks that were tried twice kept theirs",
)
def test_f74_death_at_any_instruction_leaves_no_slot_taken(point: str, host: Host) -> None:
    name = point.partition(":")[0]
    once = host.root / "died"
    dies: dict[str, Any] = {"POLPOD_CRASH_AT": point, "POLPOD_CRASH_ONCE": str(once)}
    host.configure(maxConcurrency=SLOTS)
    ledger, work = Ledger(host.paths), Work(host)
    BEGIN.get(name.partition(".")[0], _die_at_work)(host, work, dies)
    work.finish()
    until(once.exists, f"{point} was passed")
    ledger.look()

    work.check(name)
    host.survive()
    _use_every_slot(host)
    assert host.stop() == 0
    ledger.settled()


def _use_every_slot(host: Host) -> None:
    go = host.root / "every-slot"
    ids = [host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.02; done") for _ in range(SLOTS)]
    for task_id in ids:
        host.running(task_id)
    go.touch()
    assert {host.finished(task_id)["status"] for task_id in ids} == {"done"}
    assert {queue["busy"] for queue in host.call("queue.list")["queues"]} == {0}


def _die_at_work(host: Host, work: Work, dies: dict[str, Any]) -> None:
    """The first daemon, or what it starts, dies in the middle of the work."""
    host.start(**dies)
    work.submit()


def _die_in_recovery(host: Host, work: Work, dies: dict[str, Any]) -> None:
    """The second daemon dies while it finds out what became of the first one's work, with runs of every kind."""
    host.start()
    work.submit()
    until(lambda: Path(work.trace).exists() and "stubborn" in work.trace.read_text().split(), "work is going on")
    host.kill()
    second = host.start(wait=False, **dies)
    until(lambda: second.poll() is not None, "the second daemon died")
    host.start()


def _die_in_an_upload(host: Host, work: Work, dies: dict[str, Any]) -> None:
    """The first daemon dies between the content and the record of an artifact."""
    host.start(**dies)
    work.submit()
    with host.client() as client, suppress(OSError, EOFError):
        begun = client.call("artifact.begin", path="f", size=0, task_id=work.ids["a"])["id"]
        client.call("artifact.end", id=begun, sha256=hashlib.sha256().hexdigest())


BEGIN: dict[str, Callable[[Host, Work, dict[str, Any]], None]] = {
    "recover": _die_in_recovery,
    "artifact": _die_in_an_upload,
}
