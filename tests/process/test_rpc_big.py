"""Much of everything: batches of a thousand, twenty thousand tasks, long logs, long waits (DESIGN §9, F58, F82)."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from kit.client import Client, Refused
from kit.host import Host, recovered
from kit.waiting import until

MIB = 2**20
HELD = {"shell": "true", "hold": True, "cwd": "/", "env": {}}
STORED = 20_000
MOMENT = 10.0
"""Seconds; far above what an answer takes, and far below the next look that would find the same without a bell."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Host]:
    """With STORED tasks of project `big` in it."""
    with recovered() as host:
        with host.client() as client:
            for _ in range(STORED // 1000):
                client.call("task.submit_many", defaults=HELD | {"project": "big"}, tasks=[{}] * 1000)
        yield host


@pytest.fixture
def client(daemon: Host) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


# Batches


def test_of_a_thousand_submissions_the_bad_ones_alone_are_refused(client: Client) -> None:
    kinds: list[tuple[dict[str, Any], str | None]] = [
        ({"command": ["true"]}, None),
        ({"command": "true"}, "invalid"),
        ({"command": ["true"], "cwd": "/no/such/directory"}, "invalid"),
        ({"command": ["true"], "depends_on": ["99999999"]}, "not_found"),
        ({"command": ["true"], "color": 1}, "invalid"),
        ({"command": ["true"], "labels": {"x": "y" * 2**18}}, "too_large"),
        ({}, "invalid"),
        ({"command": ["true"], "idempotency_key": "same"}, None),
        ({"command": ["false"], "idempotency_key": "same"}, "conflict"),
        ({"command": ["true"], "env": {"A": "1"}, "priority": 3, "title": "last"}, None),
    ]
    small = [k for k in kinds if k[1] != "too_large"]
    asked = [*kinds, *(small[n % len(small)] for n in range(990))]
    defaults = {"hold": True, "cwd": "/", "env": {}, "project": "many"}
    results = client.call("task.submit_many", defaults=defaults, tasks=[fields for fields, _ in asked])["results"]
    assert [r["error"]["data"]["type"] if "error" in r else None for r in results] == [word for _, word in asked]
    assert results[1]["error"]["data"]["path"] == "$.command"
    assert results[4]["error"]["data"]["path"] == "$.color"

    stored = [r["id"] for r in results if "error" not in r and r["created"]]
    listed = [t["id"] for t in pages(client, select={"project": "many"}, limit=1000)]
    assert listed == stored == sorted(stored, key=int)
    same = {r["id"] for (fields, _), r in zip(asked, results, strict=True) if fields == kinds[7][0]}
    assert len(same) == 1
    last = client.call("task.get", id=results[9]["id"])["task"]
    assert (last["title"], last["priority"], last["project"], last["spec"]["env"]) == ("last", 3, "many", ["A"])


def test_within_a_batch_later_ones_may_depend_on_earlier_ones(client: Client) -> None:
    first = int(client.call("task.submit", command=["true"], hold=True)["id"]) + 1
    defaults = {"command": ["true"], "cwd": "/", "hold": True}
    chain: list[dict[str, Any]] = [
        {},
        {"depends_on": [str(first)]},
        {"depends_on": ["x"]},
        {"depends_on": [str(first + 1)]},
    ]
    results = client.call("task.submit_many", defaults=defaults, tasks=chain)["results"]
    assert [r.get("id") for r in results] == [str(first), str(first + 1), None, str(first + 2)]
    assert [client.call("task.get", id=r["id"])["task"]["unmet"] for r in results if "id" in r] == [0, 1, 1]


# Pages


def pages(client: Client, **params: Any) -> Iterator[dict[str, Any]]:
    """All tasks, page by page."""
    after: int | None = None
    while True:
        page = client.call("task.list", all=True, after=after, **params)
        yield from page["tasks"]
        after = page["next"]
        if after is None:
            return


def test_pages_have_no_holes_and_no_doubles_while_others_submit(daemon: Host, client: Client) -> None:
    stop, added = threading.Event(), []

    def submit() -> None:
        with daemon.client() as other:
            while not stop.is_set():
                added.append(other.call("task.submit", **HELD, project="meanwhile")["id"])

    worker = threading.Thread(target=submit)
    worker.start()
    try:
        until(lambda: len(added) > 5, "others submit")
        seen = [t["id"] for t in pages(client, limit=777)]
    finally:
        stop.set()
        worker.join()
    assert seen == sorted(set(seen), key=int)
    numbers = set(map(int, seen))
    assert numbers == set(range(1, max(numbers) + 1))
    assert len(numbers) >= STORED
    of_project = [t["id"] for t in pages(client, select={"project": "meanwhile"}, limit=10)]
    assert of_project == added


def test_a_page_of_large_tasks_is_cut_where_its_answer_is_full(client: Client) -> None:
    fields = HELD | {"project": "large", "description": "d" * 250_000}
    ids = [client.call("task.submit", **fields)["id"] for _ in range(30)]
    first = client.call("task.list", select={"project": "large"}, limit=30)
    assert 1 < len(first["tasks"]) < 30
    assert first["next"] is not None
    assert [t["id"] for t in pages(client, select={"project": "large"}, limit=30)] == ids
    assert [t["id"] for t in pages(client, select={"ids": ids}, limit=25)] == ids


ABOUT_EVERYTHING: dict[str, dict[str, Any]] = {
    "one range again and again": {"ids": ["1-100000"] * 1000},
    "ranges of everything": {"ids": [f"{first}-{first + 99_999}" for first in range(1, 1000)]},
    "one id again and again": {"ids": ["no-such-id"] * 200_000},
    "one status again and again": {"status": ["failed"] * 100_000},
}


@pytest.mark.parametrize("select", ABOUT_EVERYTHING.values(), ids=ABOUT_EVERYTHING)
def test_a_selector_of_any_length_holds_up_nobody(client: Client, select: dict[str, Any]) -> None:
    """The writer looks up each id once: a range that was named a thousand times kept it busy for hours."""
    with suppress(Refused):
        client.call("task.release", select=select | {"queue": "of nobody"})
    assert client.call("task.submit", shell="true", hold=True)["created"]


def test_labels_that_name_nothing_are_not_everything(client: Client) -> None:
    with pytest.raises(Refused, match="name tasks") as refused:
        client.call("task.release", select={"labels": {}})
    assert refused.value.word == "invalid"


def test_more_kinds_of_events_than_a_query_can_hold_are_refused(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.call("event.list", kinds=["task:*"] * 5000)
    assert refused.value.word == "invalid"


def test_events_page_from_the_first_to_the_last_without_a_gap(client: Client) -> None:
    """W13."""
    seen: list[int] = []
    cursor = 0
    while page := client.call("event.list", after=cursor, limit=1000)["events"]:
        seen += [e["seq"] for e in page]
        cursor = seen[-1]
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > STORED
    newest = client.call("event.list", limit=10)
    assert [e["seq"] for e in newest["events"]] == seen[-10:]
    assert newest["first"] == 1

    about = client.call("event.list", after=0, subject="task/7")
    assert [(e["kind"], e["subject"]) for e in about["events"]] == [("task:created", "task/7")]
    started = client.call("event.list", after=0, kinds=["daemon:*"], limit=1000)["events"]
    assert [e["kind"] for e in started] == ["daemon:started"]


def test_a_page_of_long_events_is_cut_where_its_answer_is_full(client: Client) -> None:
    title = "\x01" * 1000  # six bytes each, as JSON
    defaults = HELD | {"title": title, "project": "loud"}
    first = client.call("event.list", limit=1)["next"]
    ids = [r["id"] for r in client.call("task.submit_many", defaults=defaults, tasks=[{}] * 800)["results"]]
    subjects, cursor = [], first
    while page := client.call("event.list", after=cursor, kinds=["task:created"], limit=1000)["events"]:
        subjects += [e["subject"] for e in page]
        cursor = page[-1]["seq"]
        assert len(page) < 800
    assert subjects == [f"task/{i}" for i in ids]
    newest = client.call("event.list", limit=1000)["events"]
    assert newest[-1]["subject"] == subjects[-1]


# Waiting


def test_waiting_for_a_thousand_tasks_ends_with_the_last_of_them(daemon: Host, client: Client) -> None:
    ids = [str(n) for n in range(1, 1001)]
    begun = time.monotonic()
    answer = client.call("task.wait", ids=ids, timeout=0)
    assert (answer["finished"], [t["id"] for t in answer["tasks"]]) == (False, ids)
    client.send_raw(_wait("all", ids) + _wait("any", ids, any=True))
    with daemon.client() as other:
        other.call("task.cancel", select={"ids": ["500"]})
        first = client.receive()
        assert (first["id"], first["result"]["finished"]) == ("any", True)
        assert [t["id"] for t in first["result"]["tasks"] if t["outcome"]] == ["500"]
        for start in range(0, 1000, 100):
            other.call("task.cancel", select={"ids": ids[start : start + 100]})
        last = time.monotonic()
    answer = client.receive()
    assert time.monotonic() - last < MOMENT
    assert time.monotonic() - begun < 30
    assert (answer["id"], answer["result"]["finished"]) == ("all", True)
    assert {t["outcome"] for t in answer["result"]["tasks"]} == {"cancelled"}


def _wait(number: str, ids: list[str], **params: object) -> bytes:
    params |= {"ids": ids, "timeout": 30}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "task.wait", "params": params}).encode() + b"\n"


def test_a_wait_ends_promptly_with_its_task_and_not_before(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.01; done; exit 9")
    host.running(task_id)
    with host.client() as client:
        assert client.call("task.wait", ids=[task_id], timeout=0.1)["finished"] is False
        client.send_raw(_wait("w", [task_id]))
        go.touch()
        ended = time.monotonic()
        answer = client.receive()
        assert time.monotonic() - ended < MOMENT
    (task,) = answer["result"]["tasks"]
    assert (task["outcome"], task["reason"], task["exit_code"]) == ("failed", "exited", 9)


# Logs


@pytest.fixture(scope="module")
def logged(daemon: Host) -> tuple[str, bytes]:
    """A task whose log has 20 MiB, and what it wrote: any bytes, invalid UTF-8 and terminal sequences among them."""
    chance = random.Random(82)
    lines = [
        b"\x1b[31mred\x1b[0m\r50%\r100%\n",
        b"\xff\xfe\x80 \xc3\n",
        b"\0\0\0\n",
        b"x" * 3000 + b"\n",
        "Grüße\n".encode(),
    ]
    data = b"".join(chance.choices(lines, k=33_000)) + chance.randbytes(20 * MIB)
    data = data[: 20 * MIB - 5] + b"\nlast"
    source = daemon.root / "source"
    source.write_bytes(data)
    task_id = daemon.submit("cat", str(source))
    assert daemon.finished(task_id)["status"] == "done"
    return task_id, data


@pytest.mark.parametrize("limit", [MIB, 777_777])
def test_a_long_log_in_pieces_is_what_was_written(client: Client, logged: tuple[str, bytes], limit: int) -> None:
    task_id, data = logged
    read, offset = bytearray(), 0
    while True:
        part = client.call("task.logs", id=task_id, offset=offset, limit=limit)
        piece = base64.b64decode(part["data"])
        assert (part["offset"], part["size"]) == (offset, len(data))
        assert len(piece) <= limit
        read += piece
        offset = part["next_offset"]
        if part["end"]:
            break
        assert piece
    assert bytes(read) == data


def test_the_tail_of_a_log_is_its_last_lines(client: Client, logged: tuple[str, bytes]) -> None:
    task_id, data = logged
    lines = data.split(b"\n")
    for count in (0, 1, 2, 10, 200):
        part = client.call("task.logs", id=task_id, tail=count)
        expected = b"\n".join(lines[len(lines) - count :])
        assert base64.b64decode(part["data"]) == expected[:MIB], count
        assert part["offset"] == len(data) - len(expected)
    assert client.call("task.logs", id=task_id, tail=10**9)["offset"] == 0


def test_reading_beyond_the_end_of_a_log_is_its_end(client: Client, logged: tuple[str, bytes]) -> None:
    task_id, data = logged
    for offset in (len(data), len(data) + 1, 2**53):
        part = client.call("task.logs", id=task_id, offset=offset, wait=30)
        assert (part["data"], part["end"]) == ("", True)
    run_id = client.call("task.get", id=task_id)["runs"][0]["id"]
    for other in ({"id": task_id, "run": run_id + 1000}, {"id": "1", "run": run_id}):
        with pytest.raises(Refused) as refused:
            client.call("task.logs", **other)
        assert refused.value.word == "not_found"


def test_a_log_is_followed_as_it_grows(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"printf one; while [ ! -e {go} ]; do sleep 0.01; done; printf two")
    with host.client() as client:
        first = client.call("task.logs", id=task_id, wait=30)
        while not first["data"]:  # its run has not begun yet
            first = client.call("task.logs", id=task_id, wait=30)
        assert (base64.b64decode(first["data"]), first["end"]) == (b"one", False)
        assert client.call("task.logs", id=task_id, offset=3)["data"] == ""
        go.touch()
        second = client.call("task.logs", id=task_id, offset=3, wait=30)
        assert base64.b64decode(second["data"]) == b"two"
        assert client.call("task.logs", id=task_id, offset=6, wait=30)["end"]


def test_what_json_cannot_say_is_a_defect_and_not_the_end(host: Host) -> None:
    host.start()
    task_id = host.submit("true", hold=True)
    with closing(sqlite3.connect(host.paths.tasks_db)) as db:
        (doc,) = db.execute("SELECT doc FROM tasks").fetchone()
        assert '"priority":0' in doc
        db.execute("UPDATE tasks SET doc = ?", (doc.replace('"priority":0', f'"priority":{2**70}'),))
        db.commit()
    with host.client() as client:
        with pytest.raises(Refused) as refused:
            client.call("task.get", id=task_id)
        assert refused.value.code == -32603
        assert client.call("daemon.health")["ok"] is not None
