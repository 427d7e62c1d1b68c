"""Limits that a task asks for: what cannot be set is refused with the reason, and no job ever runs without its limit.

Here the daemon cannot set any, since its runs have no cgroup; where it can, tests/faults/test_limits_hold.py.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.waiting import until

LIMITS: dict[str, Any] = {"memory_max": 2**30, "cpus": 0.5, "tasks_max": 9}
CONTROLLERS = {"memory_max": "memory", "cpus": "cpu", "tasks_max": "pids"}
UNPRIVILEGED = ("setpriv", "--bounding-set=-sys_nice") if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def unable() -> Iterator[Host]:
    """A host whose runs have no cgroups, and whose daemon may give nobody a lower niceness than its own."""
    with Host(containment="session") as host:
        host.start(under=(*UNPRIVILEGED, "prlimit", "--nice=0"))
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        yield host
        assert "Traceback" not in host.log(), host.log()


def why(field: str) -> str:
    return f"{field} needs the {CONTROLLERS[field]} controller of cgroup2, and polpo.json sets containment to session"


@pytest.mark.parametrize("field", LIMITS)
def test_a_limit_that_cannot_be_set_is_refused_with_the_reason_and_the_remedy(unable: Host, field: str) -> None:
    before = unable.call("daemon.status")
    with pytest.raises(Refused) as refused:
        unable.submit("true", **{field: LIMITS[field]})
    assert (refused.value.code, refused.value.word) == (-32000, "unsupported")
    assert str(refused.value) == f"{why(field)}: set it to auto"
    assert unable.call("daemon.status")["tasks"] == before["tasks"]
    lack = before["limits"][field]
    assert (f"{field} {lack['why']}", lack["next"]) == (why(field), "set it to auto")


def test_one_line_of_a_batch_with_such_a_limit_does_not_hinder_the_others(unable: Host) -> None:
    tasks = [{"command": ["true"]}, {"command": ["true"], "cpus": 1}, {"command": ["true"], "cpus": None}]
    first, second, third = unable.call("task.submit_many", tasks=tasks, defaults={"cwd": "/"})["results"]
    assert second["error"]["data"] == {"type": "unsupported"}
    assert [unable.finished(one["id"])["status"] for one in (first, third)] == ["done", "done"]


@pytest.mark.parametrize("field", LIMITS)
def test_an_edit_that_asks_for_it_is_refused_and_changes_nothing(unable: Host, field: str) -> None:
    task_id = unable.submit("true", hold=True)
    before = unable.task(task_id)
    with pytest.raises(Refused) as refused:
        unable.call("task.update", id=task_id, priority=5, **{field: LIMITS[field]})
    assert refused.value.word == "unsupported"
    assert unable.task(task_id) == before
    unable.call("task.update", id=task_id, **{field: None})  # what takes a limit away asks for none


def test_a_task_that_was_taken_once_is_named_by_its_key_though_its_limit_cannot_be_set_any_more(unable: Host) -> None:
    said: dict[str, Any] = {"command": ["true"], "cwd": "/", "env": {}, "idempotency_key": "k"}
    first = unable.call("task.submit", **said)
    assert unable.call("task.submit", **said, memory_max=2**30) == {"id": first["id"], "created": False}


def test_a_niceness_that_polpod_may_not_give_is_refused(unable: Host) -> None:
    lowest = unable.call("daemon.status")["limits"]["nice_from"]
    assert lowest == os.getpriority(os.PRIO_PROCESS, 0)
    for method, about in (("task.submit", {"command": ["true"], "cwd": "/"}), ("task.update", {"id": "1"})):
        with pytest.raises(Refused) as refused:
            unable.call(method, **about, nice=lowest - 1)
        assert refused.value.word == "permission_denied"
        assert str(refused.value) == (
            f"nice {lowest - 1}: jobs may have {lowest} and above, "
            "unless polpod is root's, or the unit that runs are in has LimitNICE="
        )


def test_a_job_has_the_niceness_that_was_asked_for(unable: Host) -> None:
    task_id = unable.submit("nice", nice=19)
    assert unable.finished(task_id)["status"] == "done"
    (run,) = unable.runs(task_id)
    with open(run["log_path"]) as log:
        assert log.read() == "19\n"
    assert unable.task(task_id)["nice"] == 19


@pytest.mark.parametrize("field", LIMITS)
def test_a_task_whose_limit_cannot_be_set_any_more_is_not_executed(host: Host, field: str) -> None:
    host.configure(containment="session")
    host.start()
    mark = host.root / "executed"
    task_id = host.submit("touch", str(mark), hold=True)
    assert host.stop() == 0
    with closing(sqlite3.connect(host.paths.tasks_db, isolation_level=None)) as db:  # as where it could be set
        ((doc,),) = db.execute("SELECT doc FROM tasks").fetchall()
        db.execute("UPDATE tasks SET doc = ?", (json.dumps(json.loads(doc) | {field: LIMITS[field]}),))
    host.start()
    host.call("task.release", select={"ids": [task_id]})
    task = host.finished(task_id)
    assert (task["status"], task["result"]["reason"]) == ("failed", "spawn_failed")
    assert "has no cgroup (runs cannot be limited so any more: `polpoctl doctor` says why)" in task["result"]["error"]
    assert not mark.exists()
    (sentence,) = host.call("task.why", id=task_id)["sentences"]
    assert "could not be executed: limit " in sentence


@pytest.fixture
def zygotes(host: Host) -> Iterator[socket.socket]:
    """Where the daemon asks for its zygote; who answers there is one, by what it says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(host.root / "zygotes"))
        listener.listen()
        listener.settimeout(60)
        host.start(under=("sh", "-c", f'exec "$@" --zygote-socket {host.root}/zygotes', "sh"))
        yield listener


def test_a_limit_is_decided_by_what_the_zygote_says_which_is_waited_for(host: Host, zygotes: socket.socket) -> None:
    until(lambda: host.call("daemon.health")["checks"]["recovered"], "it has recovered")
    zygote, _ = zygotes.accept()
    with zygote, host.client() as first, host.client() as second:
        host.submit("true", hold=True)  # who asks for no limit does not wait, or the two would not, after that
        first.send("task.submit", command=["true"], cwd="/", nice=-10)
        second.send("task.submit", command=["true"], cwd="/", nice=-11)
        host.call("daemon.status")  # which is answered after them if they do not wait
        assert not first.readable()
        assert not second.readable()
        zygote.send(json.dumps({"pid": os.getpid(), "nice_from": -10}).encode())
        assert first.receive()["result"]["created"]
        assert "jobs may have -10 and above" in second.receive()["error"]["message"]
        assert host.call("daemon.status")["limits"]["nice_from"] == -10


def test_a_unit_that_does_not_come_up_is_looked_for_in_the_journal(host: Host, zygotes: socket.socket) -> None:
    zygote, _ = zygotes.accept()
    zygote.close()
    until(lambda: "the zygote did not come up: journalctl -u 'polpo-zygote@*'" in host.log(), "the log names the unit")


def test_without_a_zygote_the_first_who_asks_waits_and_nobody_after_that(host: Host, zygotes: socket.socket) -> None:
    with host.client() as client:
        assert client.error("task.submit", command=["true"], cwd="/", nice=-20) == "permission_denied"
        since = time.monotonic()
        for _ in range(20):
            assert client.error("task.submit", command=["true"], cwd="/", nice=-20) == "permission_denied"
        assert time.monotonic() - since < 60  # of the 100 that it takes if each of them waits for 5
