"""What a connection is told without asking again: events and logs by cursor, across everything that can cut it (DESIGN §11)."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kit.client import Client
from kit.host import Host
from kit.jobs import waits_for
from kit.waiting import until


@pytest.fixture
def started(host: Host) -> Iterator[Host]:
    host.configure(maxConcurrency=8)
    host.start()
    yield host
    assert "Traceback" not in host.log(), host.log()


def journal(host: Host) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        return list(db.execute("SELECT seq, kind FROM events ORDER BY seq"))


def metrics(host: Host) -> str:
    return str(host.call("daemon.metrics")["text"])


def told(client: Client, number: int) -> dict[str, Any]:
    """The next notification, which must be of this subscription."""
    message = client.receive()
    assert "id" not in message
    assert message["params"]["subscription"] == number
    params: dict[str, Any] = message["params"]
    return params


def test_a_subscriber_is_told_what_was_and_what_comes_each_once_and_in_order(started: Host) -> None:
    started.finished(started.submit("true"))
    with started.client() as client:
        number = client.call("event.subscribe", after=0)["subscription"]
        seen: list[int] = []
        later = None
        while later is None or not any(s >= later for s in seen):
            message = told(client, number)
            seen += [e["seq"] for e in message["events"]]
            assert message["next"] == seen[-1]
            assert message["missed"] == 0
            if later is None:
                started.finished(started.submit("true"))
                later = journal(started)[-1][0]
    assert seen[: len(journal(started))] == [seq for seq, _ in journal(started)][: len(seen)]


def test_one_is_told_only_what_was_asked_for(started: Host) -> None:
    with started.client() as client:
        first = client.call("event.subscribe", kinds=["task:created"])
        second = client.call("event.subscribe", subject="task/2")
        assert (first["subscription"], second["subscription"]) == (1, 2)
        started.submit("true", hold=True)
        assert [e["subject"] for e in told(client, 1)["events"]] == ["task/1"]
        started.submit("true", hold=True)
        heard = sorted(
            (m["params"]["subscription"], m["params"]["events"][0]["subject"])
            for m in (client.receive(), client.receive())
        )
        assert heard == [(1, "task/2"), (2, "task/2")]
        client.call("event.unsubscribe", subscription=1)
        started.submit("true", hold=True)
        assert client.call("task.list")["tasks"][0]["id"]
        assert client.error("event.unsubscribe", subscription=1) == "not_found"
        requests = [
            {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
            for method, params in (("event.subscribe", {"subscription": 9}), ("event.unsubscribe", {"subscription": 9}))
        ]
        client.send_raw(b"".join(json.dumps(request).encode() + b"\n" for request in requests))  # before it has begun
        assert [client.receive()["result"]["subscription"] for _ in requests] == [9, 9]
        assert client.error("event.subscribe", after=10_000) == "conflict"
        assert client.error("event.list", after=10_000, wait=30) == "conflict"
        assert client.error("event.subscribe", subscription=2) == "conflict"
        for _ in range(31):
            client.call("event.subscribe", kinds=["nothing:ever"])
        assert client.error("event.subscribe") == "too_large"


def test_who_does_not_read_is_told_how_far_it_is_behind_and_holds_up_nobody(started: Host) -> None:
    with started.client() as slow, started.client() as other:
        slow.call("event.subscribe", after=0)
        for n in range(0, 4000, 1000):
            tasks = [
                {"command": ["true"], "cwd": "/", "hold": True, "title": f"{'x' * 900} {n + i}"} for i in range(1000)
            ]
            other.call("task.submit_many", tasks=tasks)
        last = journal(started)[-1][0]
        seen: list[int] = []
        behind = []
        while not seen or seen[-1] < last:
            message = told(slow, 1)
            seen += [e["seq"] for e in message["events"]]
            behind.append(message["behind"])
        assert seen == list(range(1, last + 1))
        assert max(behind) > 1000
        assert behind[-1] == 0


def test_what_was_removed_before_it_could_be_told_is_counted(started: Host) -> None:
    for _ in range(3):
        started.finished(started.submit("true"))
    last = journal(started)[-1][0]
    with closing(sqlite3.connect(started.paths.tasks_db)) as db:
        db.execute("DELETE FROM events WHERE seq <= 5")
        db.commit()
    with started.client() as client:
        client.call("event.subscribe", after=2)
        message = told(client, 1)
        assert message["missed"] == 3
        assert [e["seq"] for e in message["events"]] == list(range(6, last + 1))


def test_a_log_is_told_as_it_is_written_and_its_end_is_said(started: Host) -> None:
    go = started.root / "go"
    task_id = started.submit(shell=f"echo one; {waits_for(go, 'echo two')}")
    started.running(task_id)
    with started.client() as client:
        answer = client.call("task.logs", id=task_id, follow=True)
        assert answer["data"] == ""
        seen = b""
        while b"one\n" not in seen:
            seen += b64decode(told(client, answer["subscription"])["data"])
        go.touch()
        end = False
        while not end:
            message = told(client, answer["subscription"])
            seen += b64decode(message["data"])
            end = message["end"]
        assert seen == b"one\ntwo\n"
        assert client.error("event.unsubscribe", subscription=answer["subscription"]) == "not_found"
        free = answer["subscription"]
        assert client.call("event.subscribe", subscription=free, kinds=["none"])["subscription"] == free
        again = client.call("task.logs", id=task_id, follow=True, offset=4)
        assert b64decode(told(client, again["subscription"])["data"]) == b"two\n"
    with started.client() as client:
        assert client.error("task.logs", id="999", follow=True) == "not_found"


def test_subscriptions_go_on_through_a_reload(started: Host) -> None:
    go = started.root / "go"
    task_id = started.submit(shell=f"echo one; {waits_for(go, 'echo two')}")
    started.running(task_id)
    with started.client() as client:
        events = client.call("event.subscribe", after=0)["subscription"]
        client.send("task.logs", id=task_id, follow=True)
        log = events + 1
        seen: list[int] = []
        written = b""

        def take(message: dict[str, Any]) -> bool:
            """Whether the log has ended."""
            nonlocal written
            if "subscription" not in message:  # the answer
                return False
            if message["subscription"] == events:
                seen.extend(e["seq"] for e in message["events"])
                return False
            assert message["subscription"] == log
            written += b64decode(message["data"])
            return bool(message["end"])

        while written != b"one\n":
            take(client.receive().get("params", {}))
        started.call("daemon.reload")
        go.touch()
        started.finished(task_id)
        last = journal(started)[-1][0]
        ended = False
        while not ended or seen[-1] < last:
            ended |= take(client.receive().get("params", {}))
        assert written == b"one\ntwo\n"
        assert seen == list(range(1, seen[-1] + 1))


def test_who_subscribes_as_polpod_reloads_takes_nobody_s_number(started: Host) -> None:
    go = started.root / "go"
    task_id = started.submit(shell=f"echo one; {waits_for(go, 'echo two')}")
    started.running(task_id)
    with started.client() as client:
        number = client.call("task.logs", id=task_id, follow=True)["subscription"]
        assert b64decode(told(client, number)["data"]) == b"one\n"
        started.call("daemon.reload")
        assert client.call("event.subscribe", kinds=["nothing:ever"])["subscription"] == number + 1
        go.touch()
        assert b64decode(told(client, number)["data"]) == b"two\n"


def test_an_answer_that_a_reload_cuts_off_is_given_afterwards(started: Host) -> None:
    tasks = [{"command": ["true"], "cwd": "/", "hold": True, "title": "x" * 900} for _ in range(600)]
    started.call("task.submit_many", tasks=tasks)
    last = journal(started)[-1][0]
    with started.client() as client:
        events = client.call("event.subscribe", after=0)["subscription"]
        until(client.readable, "it is told of them, which is longer than what a socket holds")
        client.send("task.logs", id="1", follow=True)
        until(lambda: '"task.logs",outcome="ok"' in metrics(started), "that is done, and its answer waits")
        started.call("daemon.reload")
        seen: list[int] = []
        log = None
        while log is None or not seen or seen[-1] < last:
            message = client.receive()
            if "id" in message:
                log = message["result"]["subscription"]
                continue
            assert message["params"]["subscription"] == events
            seen += [e["seq"] for e in message["params"]["events"]]
        assert seen == list(range(1, seen[-1] + 1))
        assert log == events + 1
        assert client.call("event.unsubscribe", subscription=log)
        assert client.error("event.unsubscribe", subscription=log + 1) == "not_found"


TASKS = int(os.environ.get("POLPOD_SUBSCRIBED_TASKS", "500"))
"""That run meanwhile; more take longer."""


@pytest.mark.timeout(600)
def test_a_subscriber_that_is_cut_off_fifty_times_misses_nothing(started: Host) -> None:
    """Where each cut happens is chance, from a seed."""
    rng = random.Random(7)
    submitted = threading.Event()

    def submit() -> None:
        for n in range(0, TASKS, 100):
            tasks = [{"command": ["true"], "cwd": "/", "title": str(n + i)} for i in range(100)]
            started.call("task.submit_many", tasks=tasks)
        submitted.set()

    work = threading.Thread(target=submit)
    work.start()
    seen: list[int] = []
    cut = 0
    done = 0
    while done < TASKS or cut < 50:
        with started.client() as client:
            client.call("event.subscribe", after=seen[-1] if seen else 0)
            for _ in range(rng.randrange(1, 40)):
                message = client.receive()["params"]
                seen += [e["seq"] for e in message["events"]]
                done += sum(e["kind"] == "task:transition" and e["body"]["to"] == "done" for e in message["events"])
                if done == TASKS and message["behind"] == 0:
                    break
            client.send_raw(b'{"half of a')
        cut += 1
        if done == TASKS and cut < 50:  # what is left of the cuts goes through all of it once more
            assert seen == list(range(1, seen[-1] + 1))
            seen, done = [], 0
    work.join()
    assert submitted.is_set()
    assert cut >= 50
    last = journal(started)
    assert seen == [seq for seq, _ in last][: len(seen)]
    until(lambda: started.call("daemon.status")["tasks"].get("done") == TASKS, "all of them are done")


def test_who_ends_a_subscription_in_the_middle_of_a_message_gets_the_rest_of_it(started: Host) -> None:
    task_id = started.submit("sh", "-c", "yes | head -c 3000000")
    started.finished(task_id)
    with started.client() as client:
        number = client.call("task.logs", id=task_id, follow=True)["subscription"]
        told(client, number)
        until(client.readable, "the next one begins, which is longer than what a socket holds")
        client.send("event.unsubscribe", subscription=number)
        until(lambda: "event.unsubscribe" in metrics(started), "that is done, before anything is read")
        client.send("daemon.health")
        messages = [client.receive()]
        while messages[-1].get("result", {}).get("ready") is None:
            messages.append(client.receive())
        assert [messages[-3]["params"]["subscription"], messages[-2]["result"]] == [number, {"subscription": number}]


def test_numbers_of_subscriptions_stay_such_as_can_be_named(started: Host) -> None:
    with started.client() as client:
        assert client.call("event.subscribe", subscription=2**31)["subscription"] == 2**31
        number = client.call("event.subscribe")["subscription"]
        assert client.call("event.unsubscribe", subscription=number)["subscription"] == number
