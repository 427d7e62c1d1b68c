"""What is over for long enough is forgotten, and nothing else; who reads the journal slowly is told of the gap (F60)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from kit.fault import fault
from kit.host import Host
from kit.organisation import a_cost, a_task
from kit.waiting import until

from polpod import persistence
from polpod.persistence import PersistenceConfig, SQLiteConfig

LONG_AGO = "2020-01-02T03:04:05.000000Z"
CANARY = "canary-5d1f"


@contextmanager
def database(path: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=60)) as db, db:
        yield db


def age(host: Host, *, events: int = 0) -> None:
    """Make everything that is over, and the first `events` events, years old; nothing may be going on."""
    old = json.dumps(LONG_AGO)
    with database(host.paths.tasks_db) as db:
        db.execute(
            "UPDATE tasks SET finished_at = ?, doc = json_set(doc, '$.finished_at', json(?)) "
            "WHERE finished_at IS NOT NULL",
            (LONG_AGO, old),
        )
        db.execute(
            "UPDATE executions SET doc = json_set(doc, '$.finished_at', json(?)) "
            "WHERE doc ->> '$.finished_at' IS NOT NULL",
            (old,),
        )
        db.execute(
            "UPDATE events SET at = ?, doc = json_set(doc, '$.at', json(?)) WHERE seq <= ?", (LONG_AGO, old, events)
        )
    with database(host.paths.runs_db) as db:
        (trigger,) = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").fetchone()
        db.execute("DROP TRIGGER runs_outcome_is_final")
        db.execute("UPDATE runs SET created_at = ?, ended_at = ? WHERE ended_at IS NOT NULL", (LONG_AGO, LONG_AGO))
        db.execute(trigger)


def restart_aged(host: Host, **options: Any) -> None:
    assert host.stop() == 0
    age(host, **options)
    host.start()


def rows(path: str, query: str) -> list[Any]:
    with database(path) as db:
        return [value for (value,) in db.execute(query)]


def task_ids(host: Host) -> set[str]:
    return {task["id"] for task in host.call("task.list", all=True, limit=1000)["tasks"]}


def run_ids(host: Host) -> set[int]:
    return {run["id"] for run in host.call("run.list", limit=1000)["runs"]}


def polpoctl(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polpoctl", argv[0], "--socket", host.socket, *argv[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


@pytest.fixture
def aged(host: Host) -> dict[str, str]:
    """Tasks of every kind by name, all of them years old, under a daemon that has had its first pass of retention."""
    host.start()
    ids = {
        "done": host.submit(shell=f"echo {CANARY}", env={"SECRET": CANARY}),
        "failed": host.submit("false", max_retries=1, retry_delay=0.01),
        "needed": host.submit("false"),
        "needed-in-the-end": host.submit("false"),
        "held": host.submit("true", hold=True),
        "cancelled": host.submit("true", hold=True),
    }
    for name in ("done", "failed", "needed", "needed-in-the-end"):
        host.finished(ids[name])
        Path(host.paths.damaged_exit(host.runs(ids[name])[-1]["id"])).touch()
    ids["waiting"] = host.submit("true", depends_on=[ids["needed"]])
    ids["given-up"] = host.submit("true", depends_on=[ids["needed-in-the-end"]])
    host.call("task.cancel", select={"ids": [ids["cancelled"], ids["given-up"]]})
    restart_aged(host)
    until(lambda: ids["given-up"] not in task_ids(host), "the first pass is over")
    return ids


def test_finished_tasks_go_whole_and_what_somebody_waits_for_stays(host: Host, aged: dict[str, str]) -> None:
    kept = {aged[name] for name in ("needed", "held", "waiting")}
    late = aged["needed-in-the-end"]  # it had to stay until the one that waited for it was gone
    assert task_ids(host) - {late} == kept
    host.call("store.prune")
    assert task_ids(host) == kept
    until(lambda: {run["task_id"] for run in host.call("run.list")["runs"]} == {aged["needed"]}, "their runs are gone")
    (run,) = host.runs(aged["needed"])
    assert {path.name for path in Path(host.paths.logs).iterdir()} == {f"{run['id']}.log", f"{run['id']}.exit.json"}
    until(
        lambda: host.call("daemon.status")["tasks"] == {"failed": 1, "pending": 2}, "it has counted what its rows say"
    )
    assert host.call("daemon.status")["runs"] == {"failed": 1}
    # A number is never given twice.
    assert int(host.submit("true")) > max(map(int, aged.values()))


def test_a_spec_goes_with_the_last_task_that_has_it(host: Host) -> None:
    host.start()
    fields = {"shell": "true", "env": {"SECRET": CANARY}}
    first, second = host.submit(**fields), host.submit(**fields)
    host.finished(first), host.finished(second)
    specs = f"SELECT count(*) FROM specs WHERE doc LIKE '%{CANARY}%'"

    host.call("task.remove", select={"ids": [first]})
    assert host.call("store.prune")["specs"] == 0
    assert rows(host.paths.tasks_db, specs) == [1]

    host.call("task.remove", select={"ids": [second]})
    assert host.call("store.prune", dry_run=True)["specs"] == 1
    assert rows(host.paths.tasks_db, specs) == [1]
    assert host.call("store.prune")["specs"] == 1
    assert rows(host.paths.tasks_db, specs) == [0]
    third = host.submit(**fields)
    assert host.finished(third)["status"] == "done"


@fault(
    60,
    "retention takes the log of what runs, or of what failed and nobody has seen yet",
    promise="Only finished tasks that nothing waits for go, the oldest first, whole and with their logs; a run that lives, one "
    "that is not collected, and those of a task that is not over stay, whatever the limit. `store prune --dry-run` says "
    "what would go.",
    injected="a limit of four runs beside a job that is tried again, a task that waits for its retry, and four that failed",
    seen_failing="keeping the runs of a task that is not finished (rules/retention.py)",
)
def test_f60_of_too_many_runs_the_oldest_go_and_never_those_of_work_that_is_not_finished(host: Host) -> None:
    """W22."""
    host.configure(retention={"runs": 4})
    host.start()
    waiting = host.submit("false", max_retries=1, retry_delay=1000)
    until(lambda: host.task(waiting)["retries"] == 1, "it waits for its retry")
    live = host.submit(shell="[ $POLPO_ATTEMPT = 1 ] || exec sleep 1000; exit 1", max_retries=1, retry_delay=0.01)
    until(lambda: len(host.runs(live)) == 2, "it runs again")
    host.running(live)
    tasks = []
    for _ in range(4):
        tasks.append(host.submit("false", max_retries=int(not tasks), retry_delay=0.01))
        host.finished(tasks[-1])
    collected = "SELECT count(*) FROM runs WHERE collected_at IS NOT NULL"
    until(lambda: rows(host.paths.runs_db, collected) == [7], "all that ended is collected")
    for run in host.call("run.list")["runs"]:
        Path(f"{run['log_path']}.usage").touch()  # what it used, as the runners of longer runs keep it

    would = host.call("store.prune", dry_run=True)
    assert (would["tasks"], would["runs"]) == (3, 4)
    assert task_ids(host) == {waiting, live, *tasks}
    done = host.call("store.prune")
    assert done | {"events": 0} == would | {"events": 0}
    assert task_ids(host) == {waiting, live, tasks[-1]}
    kept = host.call("run.list")["runs"]
    assert sorted(run["task_id"] for run in kept) == sorted([waiting, live, live, tasks[-1]])
    logs = {f"{run['id']}.log" for run in kept}
    assert {path.name for path in Path(host.paths.logs).glob("[0-9]*")} == logs | {f"{log}.usage" for log in logs}
    assert host.call("store.prune")["runs"] == 0


def test_what_a_mission_did_long_ago_goes_and_its_last_execution_stays(host: Host) -> None:
    """A mission that is carried out every night does not fill the disk."""
    host.start()
    work = [
        {"title": "build", "command": ["true"]},
        {"title": "test", "command": ["false"], "dependsOn": ["build"], "maxRetries": 0},
        {"title": "ship", "command": ["true"], "dependsOn": ["test"]},
    ]
    host.call("mission.create", name="nightly", document=json.dumps({"tasks": work}))
    for _ in range(3):
        host.call("mission.execute", id="nightly")
        assert host.call("mission.wait", id="nightly", timeout=30)["finished"]
    (third, _, first) = (x["id"] for x in host.call("mission.executions", id="nightly")["executions"])

    def tasks_of(execution: str) -> list[str]:
        return rows(host.paths.tasks_db, f"SELECT id FROM tasks WHERE execution_id = '{execution}'")

    gone, stays = tasks_of(first), tasks_of(third)
    until(lambda: not rows(host.paths.runs_db, "SELECT id FROM runs WHERE collected_at IS NULL"), "all is collected")
    age(host)
    would = host.call("store.prune", dry_run=True)
    done = host.call("store.prune")
    assert (would["tasks"], would["runs"]) == (done["tasks"], done["runs"]) == (6, 4)
    assert [x["id"] for x in host.call("mission.executions", id="nightly")["executions"]] == [third]
    assert task_ids(host) == set(stays)
    assert len(list(Path(host.paths.logs).glob("[0-9]*.log"))) == 2
    pruned = host.call("event.list", after=0, kinds=["mission:pruned"])["events"]
    assert [event["body"]["number"] for event in pruned] == [1, 2]
    assert host.call("mission.document", id="nightly")["document"]
    host.call("mission.resume", id="nightly", retry_failed=True)
    assert host.call("mission.wait", id="nightly", timeout=30)["finished"]
    assert host.call("mission.execute", id="nightly")["execution"]["number"] == 4
    assert host.call("mission.wait", id="nightly", timeout=30)["finished"]
    with host.client() as client:
        assert client.error("task.get", id=gone[1]) == "not_found"


def test_costs_go_with_their_task_and_an_organisations_own_is_no_business_of_the_daemon(host: Host) -> None:
    """DESIGN §8: one table, two owners; the daemon does not touch, show or start what an organisation saved."""
    host.start()
    kept, gone = host.submit("true"), host.submit("true")
    host.finished(kept), host.finished(gone)
    assert host.stop() == 0

    async def keep_books() -> tuple[persistence.Task, ...]:
        backend = persistence.create_backend(PersistenceConfig(sqlite=SQLiteConfig(path=host.paths.tasks_db)))
        await backend.connect()
        await backend.cost_records.save(a_cost(task_id=kept))
        await backend.tasks.save(a_task(id="theirs", status="in_progress", assigned_to="ann"))
        tasks = await backend.tasks.list_tasks()
        await backend.disconnect()
        return tasks

    async def books() -> tuple[list[str], float]:
        backend = persistence.create_backend(PersistenceConfig(sqlite=SQLiteConfig(path=host.paths.tasks_db)))
        await backend.connect()
        tasks, cost = await backend.tasks.list_tasks(), await backend.cost_records.aggregate()
        await backend.disconnect()
        return [task.id for task in tasks], cost

    before = trio.run(keep_books)
    assert [(task.id, task.status) for task in before] == [
        (kept, "completed"),
        (gone, "completed"),
        ("theirs", "in_progress"),
    ]
    age(host)
    host.start()
    host.call("store.prune")
    assert task_ids(host) == set()
    until(lambda: host.call("daemon.status")["tasks"] == {}, "it has counted what its rows say")
    for verb, task_id, word in (
        ("task.remove", "theirs", "not_found"),
        ("task.cancel", "theirs", "not_found"),
    ):
        (refused,) = host.call(verb, select={"ids": [task_id]})["results"]
        assert refused["error"]["data"]["type"] == word
    assert host.stop() == 0
    assert trio.run(books) == (["theirs"], 0.0)


def test_a_task_whose_run_is_not_collected_yet_stays(host: Host) -> None:
    """W6."""
    host.start()
    task_id = host.submit("true")
    host.finished(task_id)
    collected = "SELECT count(*) FROM runs WHERE collected_at IS NOT NULL"
    until(lambda: rows(host.paths.runs_db, collected) == [1], "it is collected")
    age(host)
    with database(host.paths.runs_db) as db:
        db.execute("UPDATE runs SET collected_at = NULL")
    done = host.call("store.prune")
    assert (done["tasks"], done["runs"]) == (0, 0)
    with database(host.paths.runs_db) as db:
        db.execute("UPDATE runs SET collected_at = ended_at")
    done = host.call("store.prune")
    assert (done["tasks"], done["runs"]) == (1, 1)


def test_what_a_task_that_cannot_be_read_stands_on_stays(host: Host) -> None:
    host.start()
    fields = {"shell": "true", "env": {"SECRET": CANARY}}
    bad, twin = host.submit(**fields), host.submit(**fields)
    host.finished(bad), host.finished(twin)
    with database(host.paths.tasks_db) as db:
        db.execute("UPDATE tasks SET doc = substr(doc, 1, length(doc) - 9) WHERE id = ?", (bad,))
    host.call("task.list", all=True)
    restart_aged(host)
    until(lambda: {run["task_id"] for run in host.call("run.list")["runs"]} == {bad}, "the other's run is gone")
    assert host.call("store.prune")["specs"] == 0
    assert rows(host.paths.tasks_db, f"SELECT count(*) FROM specs WHERE doc LIKE '%{CANARY}%'") == [1]


def test_what_a_killed_pass_left_is_found_by_the_next(host: Host) -> None:
    """Its steps are the task, the logs, the rows; after each of them it may have died."""
    host.start()
    half, most = host.submit("true"), host.submit("true")
    for task_id in (half, most):
        host.finished(task_id)
    os.unlink(host.runs(most)[0]["log_path"])
    host.call("task.remove", select={"ids": [half, most]})
    restart_aged(host)
    until(lambda: run_ids(host) == set(), "the runs are gone")
    assert list(Path(host.paths.logs).glob("[0-9]*.log")) == []


def test_a_log_that_cannot_be_removed_keeps_its_run_and_no_other(host: Host) -> None:
    host.start()
    ids = [host.submit("true") for _ in range(3)]
    first, *others = [host.finished(i) and host.runs(i)[0] for i in ids]
    Path(first["log_path"]).unlink()
    Path(first["log_path"]).mkdir()
    restart_aged(host)
    until(lambda: run_ids(host) == {first["id"]}, "the others are gone")
    assert not any(os.path.exists(run["log_path"]) for run in others)
    assert f"{first['log_path']} stays" in host.log()
    assert host.call("store.prune")["runs"] == 0
    Path(first["log_path"]).rmdir()
    assert host.call("store.prune")["runs"] == 1


def test_a_dry_run_counts_and_changes_nothing(host: Host) -> None:
    host.configure(retention={"runs": 1, "events": 5})
    host.start()
    for task_id in [host.submit(shell="echo 1", title=str(n), cwd="/", umask=n) for n in range(3)]:
        host.finished(task_id)
    until(lambda: rows(host.paths.runs_db, "SELECT count(*) FROM runs WHERE collected_at IS NULL") == [0], "collected")
    before = task_ids(host), run_ids(host), host.call("event.list", after=0)["events"]
    told = json.loads(polpoctl(host, "store", "prune", "--dry-run", "--json").stdout)
    assert (task_ids(host), run_ids(host), host.call("event.list", after=0)["events"]) == before
    assert (told["tasks"], told["runs"], told["specs"]) == (2, 2, 2)
    assert told["log_bytes"] > 0
    assert told["events"] == len(before[2]) - 5
    done = json.loads(polpoctl(host, "store", "prune", "--json").stdout)
    assert done == told | {"events": told["events"] + told["tasks"]}  # what went is in the journal
    assert "0" in polpoctl(host, "store", "prune").stdout


def test_the_journal_is_shortened_and_a_slow_reader_is_told(host: Host) -> None:
    host.configure(retention={"events": 4})
    host.start()
    for task_id in [host.submit("true") for _ in range(3)]:
        host.finished(task_id)
    newest = host.call("event.list")["next"]
    host.call("store.prune")
    page = host.call("event.list", after=2)
    assert [event["seq"] for event in page["events"]] == list(range(newest - 3, newest + 1))
    assert page["first"] == newest - 3
    seen = polpoctl(host, "events", "--after", "2", "--json")
    assert seen.stderr == f"polpoctl: events 3 to {newest - 4} are not kept any more\n"
    assert len(seen.stdout.splitlines()) == 4


def test_the_newest_event_stays_however_old_so_that_numbers_never_fall_back(host: Host) -> None:
    host.configure(retention={"events": 1})
    host.start()
    host.finished(host.submit("true"))
    newest = host.call("event.list")["next"]
    restart_aged(host, events=10_000)
    until(lambda: host.call("event.list")["first"] >= newest, "the first pass is over")
    host.submit("true", hold=True)
    assert host.call("event.list")["next"] > newest
