"""What jobs keep by their token: checkpoints, artifacts, costs, messages; and what the owner keeps about people and plans."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from kit.client import Client, Refused
from kit.host import Host
from kit.jobs import POLPOCTL, tells_token, waits_for
from kit.other_user import NOBODY, call_as, let_in
from kit.waiting import until

from polpod import persistence
from polpod.persistence import PersistenceConfig, SQLiteConfig
from polpod.services.rpc.methods.cost import MOST
from polpod.store.databases import TASKS
from polpod.store.group import open_store
from polpod.store.location import Sqlite
from polpod.store.organisation import CostRecords, StoredCost
from polpod.store.records import Tx

MEMBER = os.geteuid() == 0
"""Without root nobody can become another user: then the same calls are made as the owner, who may."""
UID = NOBODY if MEMBER else os.geteuid()
DEFINITION = {
    "id": "release",
    "name": "Release",
    "nodes": [{"id": "a", "type": "start", "label": "begin"}, {"id": "b", "type": "end", "label": "end"}],
    "edges": [{"id": "e", "source_node_id": "a", "target_node_id": "b"}],
}


@pytest.fixture
def started(host: Host) -> Host:
    host.configure(maxConcurrency=4, artifacts={"maxBytes": 3 << 20, "maxTotalBytes": 4 << 20})
    host.start()
    return host


def ctl(host: Host, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "polpoctl", *argv[:1], "--socket", host.socket, *argv[1:]]
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, cwd=host.root, check=False)


def said(host: Host, *argv: str, stdin: str = "") -> Any:
    """What a command that succeeds prints as JSON."""
    done = ctl(host, argv[0], "--json", *argv[1:], stdin=stdin)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def speaker(host: Host, client: Client, name: str = "one", **fields: Any) -> str:
    """The task of a run that the client speaks for from now on; it goes on until `<name>.go` is there."""
    told = host.root / f"{name}.token"
    task_id = host.submit(shell=f"{tells_token(told)}; {waits_for(host.root / f'{name}.go')}", **fields)
    until(told.exists, "the job has a token")
    run_id, token = told.read_text().split()
    client.call("run.identify", run_id=int(run_id), token=token)
    return task_id


# Checkpoints.


def test_a_job_that_was_killed_goes_on_where_it_was(started: Host) -> None:
    """SIGKILL of the job between two checkpoints; its retry finds the last."""
    resumed = started.root / "resumed"
    job = f"""
    if before=$({POLPOCTL} checkpoint get); then printf %s "$before" > {resumed}; exit 0; fi
    printf '{{"page": 1, "precise": 12345678901234567890}}' | {POLPOCTL} checkpoint save || exit 9
    printf '{{"page": 2, "precise": 12345678901234567890}}' > state.json
    {POLPOCTL} checkpoint save state.json || exit 9
    kill -9 $$
    """
    task_id = started.submit(shell=job, max_retries=1)
    task = started.finished(task_id)
    assert (task["status"], task["attempts"]) == ("done", 2), Path(started.runs(task_id)[-1]["log_path"]).read_text()
    assert resumed.read_text() == '{"page": 2, "precise": 12345678901234567890}'
    assert [run["signal"] for run in started.runs(task_id)] == [signal.SIGKILL, None]
    got = said(started, "checkpoint", "get", "--task", task_id)
    assert (got["turn_number"], got["task_id"], got["execution_id"]) == (2, task_id, "1")


def test_a_checkpoint_that_was_answered_outlives_the_daemon(started: Host) -> None:
    with started.client() as client:
        task_id = speaker(started, client)
        client.call("checkpoint.save", context_json='{"a": 1}')
    started.kill()
    started.start()
    assert json.loads(started.call("checkpoint.get", task_id=task_id)["checkpoint"]["context_json"]) == {"a": 1}


def test_a_checkpoint_belongs_to_its_task_alone(started: Host) -> None:
    with started.client() as one, started.client() as two:
        first, second = speaker(started, one, "one"), speaker(started, two, "two")
        one.call("checkpoint.save", context_json='{"mine": true}')
        assert two.call("checkpoint.get")["checkpoint"] is None
        assert two.error("checkpoint.get", task_id=first) == "permission_denied"
        assert one.call("checkpoint.get", task_id=first)["checkpoint"]["task_id"] == first
        assert started.call("checkpoint.get", task_id=second)["checkpoint"] is None
        assert started.call("checkpoint.get", task_id=first)["checkpoint"] is not None
    let_in(started.paths.path, started.socket)
    (member,) = call_as(UID, started.socket, [("checkpoint.get", {"task_id": first})])
    assert ("error" in member) is MEMBER


@pytest.mark.parametrize("bad", ["[1]", "x", "{", '"x"', "{} {}"])
def test_what_is_no_json_object_is_no_checkpoint(started: Host, bad: str) -> None:
    with started.client() as client:
        speaker(started, client)
        assert client.error("checkpoint.save", context_json=bad) == "invalid"
        assert client.call("checkpoint.get")["checkpoint"] is None
    assert ctl(started, "checkpoint", "save", stdin=bad).returncode == 2


def test_only_the_newest_checkpoints_are_kept_and_none_may_be_large(started: Host) -> None:
    with started.client() as client:
        task_id = speaker(started, client)
        for number in range(15):
            assert client.call("checkpoint.save", context_json=json.dumps({"n": number}))["turn_number"] == number + 1
        assert json.loads(client.call("checkpoint.get")["checkpoint"]["context_json"]) == {"n": 14}
        with closing(sqlite3.connect(f"file:{started.paths.tasks_db}?mode=ro", uri=True)) as db:
            assert db.execute("SELECT min(turn), max(turn), count(*) FROM checkpoints").fetchone() == (6, 15, 10)
        assert client.error("checkpoint.save", context_json=json.dumps({"n": "x" * 2**20})) == "too_large"
        (started.root / "one.go").touch()
        started.finished(task_id)
        assert client.error("checkpoint.save", context_json="{}") == "conflict"
    assert ctl(started, "checkpoint", "save", stdin="{}").returncode == 6


def test_a_job_saves_where_it_is_while_polpod_stops(started: Host) -> None:
    ready = started.root / "ready"
    script = started.root / "saves"
    script.write_text(f"echo '{{\"at\": 7}}' | {POLPOCTL} checkpoint save")
    task_id = started.submit(shell=f"trap 'sh {script}; exit 1' TERM; touch {ready}; while :; do sleep 0.05; done")
    until(ready.exists, "the job would save")
    assert started.stop() == 0
    started.start()
    assert json.loads(started.call("checkpoint.get", task_id=task_id)["checkpoint"]["context_json"]) == {"at": 7}


# Artifacts.


def test_a_job_keeps_files_that_anybody_who_may_can_fetch(started: Host) -> None:
    large = started.root / "large"
    large.write_bytes(os.urandom(2**20 * 2 + 77))
    (started.root / "empty").touch()
    ids = started.root / "ids"
    task_id = started.submit(shell=f"{POLPOCTL} artifact put --type tests large empty > {ids}", project="site")
    assert started.finished(task_id)["status"] == "done", started.log()
    first, second = ids.read_text().split()
    artifacts = {entry["id"]: entry for entry in said(started, "artifact", "list", "--task", task_id)}
    assert artifacts.keys() == {first, second}
    kept = artifacts[first]
    assert (kept["path"], kept["type"], kept["task_id"], kept["project_id"]) == ("large", "tests", task_id, "site")
    assert kept["size_bytes"] == large.stat().st_size
    assert kept["sha256"] == hashlib.sha256(large.read_bytes()).hexdigest()
    assert ctl(started, "artifact", "get", first, "-o", "copy").returncode == 0
    assert (started.root / "copy").read_bytes() == large.read_bytes()
    assert ctl(started, "artifact", "get", second).stdout == ""
    assert said(started, "artifact", "get", first)["id"] == first
    stored = Path(started.paths.content) / "artifacts" / first
    stored.write_bytes(b"damaged")
    damaged = ctl(started, "artifact", "get", first, "-o", "copy")
    assert (damaged.returncode, "damaged" in damaged.stderr) == (1, True)
    assert (started.root / "copy").read_bytes() == large.read_bytes()


def test_an_artifact_is_whole_or_not_there(started: Host) -> None:
    task_id = started.submit("true")
    with started.client() as client:
        begun = client.call("artifact.begin", path="f", size=3, task_id=task_id)["id"]
        assert client.error("artifact.write", id=begun, offset=1, data="YQ==") == "conflict"
        assert client.error("artifact.write", id=begun, offset=0, data="YWFhYQ==") == "too_large"
        assert client.error("artifact.write", id=begun, offset=0, data="not base64") == "invalid"
        assert client.call("artifact.write", id=begun, offset=0, data="YWE=")["size"] == 2
        assert client.error("artifact.end", id=begun, sha256="0" * 64) == "invalid"  # a byte is missing
        assert client.error("artifact.write", id=begun, offset=2, data="YQ==") == "not_found"
        begun = client.call("artifact.begin", path="f", size=1, task_id=task_id)["id"]
        client.call("artifact.write", id=begun, offset=0, data="YQ==")
        assert client.error("artifact.end", id=begun, sha256="0" * 64) == "invalid"  # it is another one
        assert client.call("artifact.list")["artifacts"] == []
        begun = client.call("artifact.begin", path="f", size=1, task_id=task_id)["id"]
    started.kill()
    started.start()
    with started.client() as client:
        assert client.error("artifact.write", id=begun, offset=0, data="YQ==") == "not_found"
    assert not (Path(started.paths.content) / "uploads").exists()


def test_uploads_under_way_are_bounded(started: Host) -> None:
    """Those of each run or user, so that none keeps the others out, and all together."""
    task_id = started.submit("true")
    with ExitStack() as open_ones:
        for n in range(4):
            run = open_ones.enter_context(started.client())
            speaker(started, run, str(n))
            begun = [run.call("artifact.begin", path="f", size=0)["id"] for _ in range(8)]
            assert run.error("artifact.begin", path="f", size=0) == "unavailable"
        owner = open_ones.enter_context(started.client())
        assert owner.error("artifact.begin", path="f", size=0, task_id=task_id) == "unavailable"
        run.call("artifact.end", id=begun[0], sha256=hashlib.sha256().hexdigest())
        owner.call("artifact.begin", path="f", size=0, task_id=task_id)


def test_announced_uploads_count_for_the_quota(started: Host) -> None:
    task_id = started.submit("true")
    with started.client() as client:
        client.call("artifact.begin", path="f", size=3 << 20, task_id=task_id)
        assert client.error("artifact.begin", path="f", size=2 << 20, task_id=task_id) == "disk_full"
        client.call("artifact.begin", path="f", size=1 << 20, task_id=task_id)


def test_content_without_its_record_is_swept(host: Host) -> None:
    """SIGKILL between the content and the record of an artifact: it never was, and takes no room."""
    host.start(POLPOD_CRASH_AT="artifact.stored")
    (host.root / "f").write_text("x")
    task_id = host.submit("true")
    assert ctl(host, "artifact", "put", "--task", task_id, "f").returncode == 4
    content = Path(host.paths.content) / "artifacts"
    assert len(list(content.iterdir())) == 1
    (content / "theirs").touch()
    until(host.survive, "the daemon died")
    until(lambda: [path.name for path in content.iterdir()] == ["theirs"], "it is swept")
    assert host.call("artifact.list")["artifacts"] == []


def test_artifacts_have_their_quota_and_removing_makes_room(started: Host) -> None:
    task_id = started.submit("true")
    started.finished(task_id)
    for name, size in (("two", 2 << 20), ("three", 3 << 20), ("four", 4 << 20), ("one", 1 << 20)):
        (started.root / name).write_bytes(b"x" * size)
    put = ("artifact", "put", "--task", task_id)
    assert ctl(started, *put, "four").returncode == 1  # more than one may have
    kept = ctl(started, *put, "two")
    assert kept.returncode == 0
    full = ctl(started, *put, "three")
    assert (full.returncode, "polpoctl artifact remove" in full.stderr) == (75, True)
    assert ctl(started, "artifact", "remove", kept.stdout.strip()).returncode == 0
    assert ctl(started, *put, "three").returncode == 0
    started.call("task.remove", select={"ids": [task_id]})  # what it kept goes along, and makes room
    other = started.submit("true")
    assert ctl(started, "artifact", "put", "--task", other, "two").returncode == 0
    assert [entry["path"] for entry in said(started, "artifact", "list")] == ["two"]


def test_bytes_that_are_no_base64_are_refused(started: Host) -> None:
    with started.client() as client:
        speaker(started, client)
        begun = client.call("artifact.begin", path="f", size=1)["id"]
        assert [client.error("artifact.write", id=begun, offset=0, data=bad) for bad in ("A", "é", "!")] == [
            "invalid"
        ] * 3


def all_pages(client: Client, method: str, records: str, **params: Any) -> list[dict[str, Any]]:
    """All records, page by page, each of which is an answer that fits."""
    page = client.call(method, **params)
    found = list(page[records])
    while page["next"] is not None:
        page = client.call(method, **params, after=page["next"])
        assert page[records]
        found += page[records]
    return found


def test_a_page_of_artifacts_fits_into_an_answer(started: Host) -> None:
    with started.client() as client:
        speaker(started, client)
        about = {"path": "f", "description": "\x01" * 4096, "size": 0}  # each of them takes six bytes of JSON
        for _ in range(200):
            begun = client.call("artifact.begin", **about)["id"]
            client.call("artifact.end", id=begun, sha256=hashlib.sha256(b"").hexdigest())
        found = all_pages(client, "artifact.list", "artifacts", limit=1000)
        assert len({artifact["id"] for artifact in found}) == len(found) == 200


def test_an_artifact_is_nobody_else_s_business(started: Host) -> None:
    (started.root / "f").write_text("secret")
    with started.client() as one, started.client() as two:
        first = speaker(started, one, "one")
        speaker(started, two, "two")
        artifact_id = ctl(started, "artifact", "put", "--task", first, "f").stdout.strip()
        assert one.call("artifact.get", id=artifact_id)["end"] is True
        assert two.error("artifact.get", id=artifact_id) == "permission_denied"
        assert two.error("artifact.remove", id=artifact_id) == "permission_denied"
        assert two.error("artifact.begin", path="f", size=1, task_id=first) == "permission_denied"
        assert two.call("artifact.list")["artifacts"] == []
        begun = one.call("artifact.begin", path="f", size=1)["id"]
        assert two.error("artifact.write", id=begun, offset=0, data="YQ==") == "not_found"
    let_in(started.paths.path, started.socket)
    (member, listed) = call_as(UID, started.socket, [("artifact.get", {"id": artifact_id}), ("artifact.list", {})])
    assert ("error" in member) is MEMBER
    assert (listed["result"]["artifacts"] == []) is MEMBER


# Costs, messages, statistics.


def test_costs_are_added_up_and_are_part_of_the_metrics(started: Host) -> None:
    add = f"{POLPOCTL} cost add --usd 0.25 --provider acme --model m1 --in 100 --out 50"
    task_id = started.submit(shell=f"{add} && {add} && {POLPOCTL} cost report --json > report")
    assert started.finished(task_id)["status"] == "done"
    own = json.loads((started.root / "report").read_text())
    assert own == [{"group": "polpod", "calls": 2, "usd": 0.5, "input_tokens": 200, "output_tokens": 100}]
    other = started.submit("true")
    assert ctl(started, "cost", "add", "--usd", "1", "--provider", "p", "--model", "m", "--in", "1").returncode == 2
    assert ctl(started, "cost", "add", "--usd", "1", "--provider", "p", "--model", "m").returncode == 2
    many = {"task_id": other, "usd": 1, "provider": "p", "model": "m", "input_tokens": 2**53}
    with started.client() as client:
        assert client.error("cost.add", **many) == "invalid"  # their sum would be an integer that nobody reads
    said(started, "cost", "add", "--usd", "1", "--provider", "p", "--model", "m", "--in", "1", "--task", other)
    by_task = {spent["group"]: spent["usd"] for spent in said(started, "cost", "report", "--by", "task")}
    assert by_task == {task_id: 0.5, other: 1.0}
    assert [spent["usd"] for spent in said(started, "cost", "report", "--by", "day")] == [1.5]
    (group,) = said(started, "stats")["groups"]
    assert group["cost_usd"] == 0.5


def test_a_task_has_so_many_costs_and_no_more(host: Host) -> None:
    host.configure()
    host.start()
    task_id, other = host.submit("true"), host.submit("true")
    assert host.finished(task_id)
    assert host.finished(other)
    cost = {"usd": 0, "provider": "p", "model": "m"}
    record = msgspec.convert(host.call("cost.add", task_id=task_id, **cost)["cost"], persistence.CostRecord)
    host.stop()

    def fill(tx: Tx) -> None:
        for _ in range(MOST - 2):
            tx.append(CostRecords, StoredCost(0, record))

    store = open_store(Sqlite(host.paths.tasks_db), TASKS)
    store.write(fill)
    store.close()
    host.start()
    with host.client() as client:
        client.call("cost.add", task_id=task_id, **cost)
        assert client.error("cost.add", task_id=task_id, **cost) == "too_large"
        client.call("cost.add", task_id=other, **cost)
        calls = {spent["group"]: spent["calls"] for spent in client.call("cost.report", by="task")["costs"]}
    assert calls == {task_id: MOST, other: 1}
    refused = ctl(host, "cost", "add", "--usd", "0", "--provider", "p", "--model", "m", "--task", task_id)
    assert (refused.returncode, "10000 costs" in refused.stderr) == (1, True)


def test_messages_are_read_in_the_order_in_which_they_were_sent(started: Host) -> None:
    ctl(started, "message", "send", "builds", "who is there?")
    task_id = started.submit(
        shell=f"{POLPOCTL} message send builds 'I am' && {POLPOCTL} message history builds --json > h"
    )
    assert started.finished(task_id)["status"] == "done"
    for messages in (json.loads((started.root / "h").read_text()), said(started, "message", "history", "builds")):
        assert [(m["from"], m["content"]) for m in messages] == [
            (f"uid {os.geteuid()}", "who is there?"),
            ("polpod", "I am"),
        ]
    assert messages[1]["metadata"]["task_id"] == task_id
    assert [m["content"] for m in said(started, "message", "history", "builds", "-n", "1")] == ["I am"]
    assert said(started, "message", "history", "other") == []
    events = started.call("event.list", after=0, kinds=["message:sent"])["events"]
    assert [event["subject"] for event in events] == ["channel/builds"] * 2
    assert "I am" not in json.dumps(events)


def test_statistics_are_made_from_the_metrics(started: Host) -> None:
    """§13.189."""
    for shell, queue in (("true", "a"), ("true", "a"), ("exit 1", "a"), ("true", "b")):
        started.finished(started.submit(shell=shell, queue=queue, labels={"os": "x"}, project="p"))
    stats = said(started, "stats")
    assert [(g["group"], g["count"], round(g["success_rate"], 3)) for g in stats["groups"]] == [
        ("a", 3, 0.667),
        ("b", 1, 1.0),
    ]
    runs = started.call("run.list")["runs"]
    in_a = sorted(run["duration"] for run in runs if run["queue"] == "a")
    assert stats["groups"][0]["median_duration"] == in_a[1]
    assert stats["groups"][0]["p95_duration"] == in_a[2]
    measured = [run["max_rss"] for run in runs if run["max_rss"] is not None]
    assert stats["total"]["peak_memory"] == max(measured, default=None)
    assert stats["total"]["cpu_seconds"] == pytest.approx(sum(run["cpu_seconds"] for run in runs))
    for by, group in (("label", "os=x"), ("project", "p"), ("agent", "polpod")):
        assert [(g["group"], g["count"]) for g in said(started, "stats", "--by", by)["groups"]] == [(group, 4)]
    assert said(started, "stats", "--since", "2100-01-01T00:00:00Z") == {"groups": [], "total": None}
    assert ctl(started, "stats").stdout.splitlines()[0].startswith("a\t3\t0.6667\t")
    with started.client() as client:  # an instant of a year that UTC does not have
        assert client.error("stats.runs", since="0001-01-01T00:00:00+14:00") == "invalid"


# People and plans.


def test_a_key_is_told_once_and_only_its_hash_is_kept(started: Host) -> None:
    assert ctl(started, "user", "add", "ada", "--role", "manager").returncode == 0
    made = ctl(started, "key", "add", "ada", "ci")
    key = made.stdout.strip()
    assert key.startswith("polpo_")
    assert key not in made.stderr
    (listed,) = said(started, "key", "list")
    assert (listed["name"], listed["role"]) == ("ci", "operator")
    assert "key_hash" not in listed
    assert "password_hash" not in said(started, "user", "list")[0]
    assert started.stop() == 0
    stored = Path(started.paths.tasks_db).read_bytes()
    assert hmac.digest(Path(started.paths.key_secret).read_bytes(), key.encode(), "sha256").hex().encode() in stored
    assert hashlib.sha256(key.encode()).hexdigest().encode() not in stored
    for path in Path(started.paths.path).rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes(), path
    assert key not in started.log()


def test_of_several_keys_all_that_there_are_are_revoked(started: Host) -> None:
    said(started, "user", "add", "ada")
    one, other = (said(started, "key", "add", "ada", name)["key"]["id"] for name in ("a", "b"))
    done = ctl(started, "key", "revoke", one, "none", other)
    assert (done.returncode, "none" in done.stderr) == (1, True)
    assert [key["revoked"] for key in said(started, "key", "list")] == [True, True]


def test_a_user_takes_its_keys_along(started: Host) -> None:
    user = said(started, "user", "add", "ada")["user"]
    said(started, "key", "add", user["id"], "ci")
    assert ctl(started, "user", "remove", user["id"]).returncode == 0
    assert said(started, "key", "list") == []
    missing = ctl(started, "key", "add", "ada", "ci")
    assert (missing.returncode, "polpoctl user add" in missing.stderr) == (3, True)


@pytest.mark.parametrize(
    ("noun", "add", "stdin", "id"),
    [
        ("user", ("ada",), "", None),
        ("project", ("site", "The site", "--budget", "5"), "", "site"),
        ("preset", ("calm",), '{"tone": "calm"}', "calm"),
        ("workflow", (), json.dumps(DEFINITION), "release"),
        ("context", ("ada", "run-1", "approval-1", "--task", "5"), '{"turn": 3}', None),
        ("collaboration", ("ada",), '{"meeting_contribution": 0.5, "interaction_summary": "quick"}', None),
    ],
)
def test_each_noun_is_listed_shown_added_and_removed(
    started: Host, noun: str, add: tuple[str, ...], stdin: str, id: str | None
) -> None:
    added = ctl(started, noun, "add", *add, stdin=stdin)
    assert (added.returncode, added.stderr) == (0, "")
    shown_id = added.stdout.strip()
    assert shown_id == (id or shown_id)
    if noun not in ("context", "collaboration"):  # which have no name that one alone may have
        again = ctl(started, noun, "add", *add, stdin=stdin)
        assert (again.returncode, f"polpoctl {noun} list" in again.stderr) == (1, True)
    started.kill()
    started.start()
    (entry,) = said(started, noun, "list")
    assert said(started, noun, "show", shown_id) == entry
    assert ctl(started, noun).stdout.startswith(shown_id)
    assert ctl(started, noun, "remove", shown_id).returncode == 0
    assert ctl(started, noun, "show", shown_id).returncode == 3
    kinds = [event["kind"] for event in started.call("event.list", after=0, kinds=[f"{noun}:*"])["events"]]
    assert kinds == [f"{noun}:added", f"{noun}:removed"]


def test_a_page_of_large_presets_fits_into_an_answer(started: Host) -> None:
    with started.client() as client:
        for name in "abcde":
            client.call("preset.add", name=name, config_json=json.dumps({"x": "x" * (2**20 - 9)}))
        assert [preset["name"] for preset in all_pages(client, "preset.list", "presets")] == list("abcde")


def test_a_field_of_a_workflow_that_there_is_not_is_refused_and_not_lost(started: Host) -> None:
    (first, *nodes), mistyped = DEFINITION["nodes"], {"posision_x": 1.0}
    for definition, path in (
        (DEFINITION | {"descripton": "x"}, "$.definition.descripton"),
        (DEFINITION | {"nodes": [first | mistyped, *nodes]}, "$.definition.nodes[0].posision_x"),
    ):
        with pytest.raises(Refused, match=re.escape(path)):
            started.call("workflow.add", definition=definition)
    started.call("workflow.add", definition=DEFINITION | {"nodes": [first | {"config": {"of": ["anything"]}}, *nodes]})


def test_a_workflow_is_changed_by_who_read_its_last_version(started: Host) -> None:
    said(started, "workflow", "add", stdin=json.dumps(DEFINITION))
    read = said(started, "workflow", "show", "release")
    changed = read | {"name": "Release 2", "created_by": "somebody"}
    saved = said(started, "workflow", "save", stdin=json.dumps(changed))["workflow"]
    assert (saved["version"], saved["name"], saved["created_by"]) == (2, "Release 2", read["created_by"])
    assert saved["created_at"] == read["created_at"] <= saved["updated_at"]
    late = ctl(started, "workflow", "save", stdin=json.dumps(read | {"name": "Too late"}))
    assert (late.returncode, "version 2 by now, not 1" in late.stderr) == (1, True)
    assert said(started, "workflow", "show", "release") == saved
    assert ctl(started, "workflow", "save", stdin=json.dumps(DEFINITION)).returncode == 2
    assert ctl(started, "workflow", "save", stdin=json.dumps(read | {"id": "other"})).returncode == 3
    assert ctl(started, "workflow", "save", stdin=json.dumps(saved | {"nodes": []})).returncode == 2
    with started.client() as client:
        stale = {"id": "release", "version": 1, "definition": DEFINITION}
        assert client.error("workflow.save", **stale) == "conflict"
    kinds = [event["kind"] for event in started.call("event.list", after=0, kinds=["workflow:*"])["events"]]
    assert kinds == ["workflow:added", "workflow:saved"]


def test_there_is_one_ceo_and_no_person_is_the_system(started: Host) -> None:
    assert ctl(started, "user", "add", "ada", "--role", "ceo").returncode == 0
    second = ctl(started, "user", "add", "bob", "--role", "ceo")
    assert (second.returncode, "there is a ceo already" in second.stderr) == (1, True)
    with started.client() as client:
        assert client.error("user.add", username="x", role="system") == "invalid"


def test_the_system_user_is_left_alone(started: Host) -> None:
    async def make() -> None:
        backend = persistence.create_backend(PersistenceConfig(sqlite=SQLiteConfig(path=started.paths.tasks_db)))
        await backend.connect()
        at = datetime.now(UTC)
        system = persistence.User(
            id="system", username="system", password_hash="!", role="system", created_at=at, updated_at=at
        )
        await backend.users.save(system)
        await backend.disconnect()

    assert started.stop() == 0
    trio.run(make)
    started.start()
    assert said(started, "user", "list") == []
    assert ctl(started, "user", "remove", "system").returncode == 3
    assert started.stop() == 0
    with closing(sqlite3.connect(f"file:{started.paths.tasks_db}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM users").fetchone() == (1,)


def test_what_is_no_workflow_is_refused_with_the_reason(started: Host) -> None:
    done = ctl(started, "workflow", "add", stdin=json.dumps(DEFINITION | {"nodes": DEFINITION["nodes"][:1]}))
    assert (done.returncode, "of type end, not one" in done.stderr) == (2, True)
    assert ctl(started, "preset", "add", "x", stdin="[").returncode == 2


def test_the_owner_writes_and_members_read(started: Host) -> None:
    let_in(started.paths.path, started.socket)
    answers = call_as(
        UID,
        started.socket,
        [
            ("project.list", {}),
            ("user.list", {}),
            ("key.list", {}),
            ("project.add", {"id": "x"}),
            ("user.add", {"username": "x"}),
            ("context.list", {}),
        ],
    )
    assert ["error" in answer for answer in answers] == [False] * 3 + [MEMBER] * 3
    with started.client() as client:
        speaker(started, client)
        with pytest.raises(Refused):
            client.call("user.list")
        assert client.error("project.add", id="y") == "permission_denied"
