"""`polpoctl store salvage`: real databases with real damage, and what is saved of them (F53)."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.fault import fault
from kit.host import Host
from kit.invariants import settle
from kit.jobs import waits_for
from kit.processes import alive
from kit.starting import polpod
from kit.waiting import until

from polpod.maintenance import verbs
from polpod.store import replace

PAGE = 4096
TASKS = 300


def filled(host: Host) -> set[str]:
    """Many tasks, some of which are done; the daemon has stopped.  Returns their ids."""
    host.start()
    done = host.submit("true")
    assert host.finished(done)["status"] == "done"
    batch = [{"command": ["echo", str(n)], "cwd": "/", "hold": True, "title": f"title {n}"} for n in range(TASKS)]
    results = host.call("task.submit_many", tasks=batch)["results"]
    assert host.stop() == 0
    return {done, *(r["id"] for r in results)}


def pages_of(path: str, name: str) -> list[int]:
    """The leaf pages of a table or an index, by the pages that SQLite reads for it."""
    data = Path(path).read_bytes()
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    todo, leaves = [root], []
    while todo:
        number = todo.pop()
        page = data[(number - 1) * PAGE : number * PAGE]
        if page[0] not in (2, 5):  # https://www.sqlite.org/fileformat2.html, "B-tree Pages"
            leaves.append(number)
            continue
        cells = int.from_bytes(page[3:5], "big")
        pointers = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(cells)]
        todo += [int.from_bytes(page[p : p + 4], "big") for p in pointers] + [int.from_bytes(page[8:12], "big")]
    return sorted(leaves)


def overwrite(path: str, page: int, data: bytes = bytes(PAGE)) -> None:
    with open(path, "r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(data)


def salvaged(host: Host) -> dict[str, Any]:
    done = host.maintain("--json", "salvage")
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["check"]["ok"]
    return told


def of(told: dict[str, Any], table: str) -> dict[str, Any]:
    (one,) = (one for one in told["salvaged"] if one["table"] == table)
    return dict(one)


def listed(host: Host) -> set[str]:
    host.start()
    page = host.call("task.list", all=True, limit=1000)
    assert page["next"] is None
    return {t["id"] for t in page["tasks"]}


@fault(
    53,
    "the database is corrupt",
    promise="Whoever asks for what is damaged is told so, and a daemon that cannot go on without it ends, saying what helps; "
    "`store salvage` saves every row that can be read, keeps the damaged file, and says which tasks are lost; nothing that "
    "depended on them starts.",
    injected="zeros and noise in pages of tables and indexes of a real state.db, then `store salvage` and a new start",
    seen_failing="going on behind the first row that cannot be read (store/scan.py)",
)
@pytest.mark.parametrize("noise", [False, True], ids=["zeros", "noise"])
def test_f53_a_damaged_page_costs_the_tasks_on_it_and_no_others(host: Host, noise: bool) -> None:
    ids = filled(host)
    leaves = pages_of(host.paths.tasks_db, "tasks")
    assert len(leaves) > 10
    bad = (leaves[3], leaves[7], leaves[-1])
    for page in bad:
        overwrite(host.paths.tasks_db, page, random.Random(page).randbytes(PAGE) if noise else bytes(PAGE))
    damaged = Path(host.paths.tasks_db).read_bytes()
    assert host.maintain("check").returncode == 1

    told = salvaged(host)
    tasks = of(told, "tasks")
    lost = set(tasks["lost"])
    assert tasks["sure"]
    assert tasks["kept"] + len(lost) == len(ids)
    assert 0 < len(lost) < len(bad) * PAGE / 300
    assert all(of(told, table)["lost"] == [] for table in ("specs", "events", "settings"))
    assert Path(told["aside"], "state.db").read_bytes() == damaged
    assert listed(host) == ids - lost
    assert host.submit("true", hold=True) not in ids
    with host.client() as client:
        assert client.error("task.get", id=min(lost)) is not None
    (event,) = host.call("event.list", after=0, kinds=["store:salvaged"])["events"]
    assert event["body"]["tasks"] == {"kept": tasks["kept"], "lost": len(lost)}
    assert host.maintain("check").returncode == 0


def test_a_damaged_page_is_told_to_who_asks_for_what_is_on_it(host: Host) -> None:
    ids = filled(host)
    overwrite(host.paths.tasks_db, pages_of(host.paths.tasks_db, "tasks")[7])
    host.start()
    with pytest.raises(Refused, match=r"damaged.*`polpoctl store check` says"):
        host.call("task.list", all=True, limit=1000)
    until(lambda: sum(host.call("daemon.status")["tasks"].values()) == len(ids), "it has counted what its rows say")
    assert host.stop() == 0
    lost = set(of(salvaged(host), "tasks")["lost"])
    assert listed(host) == ids - lost
    assert lost


def test_a_wal_that_was_cut_costs_what_was_in_the_part_that_is_gone(host: Host) -> None:
    """SQLite's own mending, of which nobody is told: what was committed before the cut is there, in order."""
    host.start()
    go, state, wal = host.root / "go", Path(host.paths.tasks_db), Path(f"{host.paths.tasks_db}-wal")
    running = host.submit(shell=waits_for(go, "exit 7"))
    run = host.running(running)
    until(lambda: wal.stat().st_size == 0, "it is in the database")
    with closing(sqlite3.connect(state)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks").fetchone()  # while it reads, nobody empties the WAL
        ids = [running, *(host.submit("true", hold=True) for _ in range(20))]
        host.kill()
        before, frames = state.read_bytes(), wal.read_bytes()
    state.write_bytes(before)  # whoever closed it last emptied the WAL
    wal.write_bytes(frames[: len(frames) * 2 // 3 - 99])
    for shared in Path(host.paths.path).glob("*-shm"):
        shared.unlink()
    host.start()
    kept = [task["id"] for task in host.call("task.list")["tasks"]]
    assert kept == ids[: len(kept)]
    assert 5 < len(kept) < len(ids)
    assert host.running(running)["pid"] == run["pid"]
    go.touch()
    assert host.finished(running)["result"]["exit_code"] == 7
    assert host.finished(host.submit("true"))["status"] == "done"
    settle(host)


def test_what_depends_on_a_lost_task_is_held_up(host: Host) -> None:
    host.start()
    first = [host.submit("true", hold=True, description="x" * 3000) for _ in range(20)]
    waiting = [host.submit("true", depends_on=[i], description="x" * 3000) for i in first]
    assert host.stop() == 0
    overwrite(host.paths.tasks_db, pages_of(host.paths.tasks_db, "tasks")[2])
    lost = set(of(salvaged(host), "tasks")["lost"])
    assert lost & set(first)
    assert listed(host) == set(first + waiting) - lost
    for before, after in zip(first, waiting, strict=True):
        if after not in lost:
            assert host.task(after)["state"] in ("waiting", "blocked"), f"task {after} waits for task {before}"


def test_the_first_page_is_made_anew(host: Host) -> None:
    ids = filled(host)
    overwrite(host.paths.tasks_db, 1)
    status, output = polpod("--root", str(host.root))
    assert status == 1, output
    told = salvaged(host)
    assert [one["table"] for one in told["salvaged"] if one["lost"]] == []
    assert listed(host) == ids


@pytest.mark.parametrize("index", ["tasks_status_seq_queue", "sqlite_autoindex_tasks_1", "events_subject_seq"])
def test_damage_to_an_index_costs_nothing(host: Host, index: str) -> None:
    ids = filled(host)
    for page in pages_of(host.paths.tasks_db, index):
        overwrite(host.paths.tasks_db, page)
    told = salvaged(host)
    assert [one["table"] for one in told["salvaged"] if one["lost"]] == []
    assert listed(host) == ids


def test_lost_events_leave_their_places_in_the_journal(host: Host) -> None:
    filled(host)
    leaves = pages_of(host.paths.tasks_db, "events")
    for page in (leaves[2], leaves[-1]):
        overwrite(host.paths.tasks_db, page)
    lost = [int(seq) for seq in of(salvaged(host), "events")["lost"]]
    host.start()
    events = host.call("event.list", after=0, limit=1000)["events"]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert [e["seq"] for e in events if e["kind"] == "store:lost"] == lost


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(random.Random(1).randbytes(path.stat().st_size)),
        lambda path: path.write_bytes(path.read_bytes()[: 2 * PAGE]),
        lambda path: path.write_bytes(b""),
    ],
    ids=["noise", "cut", "empty"],
)
def test_a_hopeless_file_is_kept_and_said_to_be_hopeless(host: Host, damage: Callable[[Path], object]) -> None:
    filled(host)
    path = Path(host.paths.tasks_db)
    damage(path)
    before = path.read_bytes()
    status, output = polpod("--root", str(host.root))
    assert (status, "Traceback" in output) == (1, False), output
    assert path.read_bytes() == before
    done = host.maintain("--json", "salvage")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert of(told, "tasks")["kept"] == 0
    assert Path(told["aside"], "state.db").read_bytes() == before
    host.start()
    assert int(host.submit("true")) >= 1


@pytest.mark.parametrize("damage", ["noise", "gone", "no table"])
def test_a_run_whose_task_is_lost_goes_on_and_no_number_is_given_again(host: Host, damage: str) -> None:
    host.start()
    over = host.submit("true")
    host.finished(over)
    go = host.root / "go"
    task_id = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.05; done")
    run = host.running(task_id)
    host.kill()
    state = Path(host.paths.tasks_db)
    for companion in ("", "-wal", "-shm"):
        Path(f"{state}{companion}").unlink()
    if damage == "noise":
        state.write_bytes(random.Random(4).randbytes(8 * PAGE))
    elif damage == "no table":
        with closing(sqlite3.connect(state)) as db:  # all that it is before the first checkpoint
            db.execute("PRAGMA journal_mode = WAL")
    status, output = polpod("--root", str(host.root))
    assert (status, "store salvage" in output) == (1, True), output
    done = host.maintain("check")
    assert (done.returncode, "store salvage" in done.stdout) == (1, True), done.stdout
    assert of(salvaged(host), "tasks")["lost"] == [task_id]

    host.start()
    until(lambda: host.call("daemon.status")["state"] == "running", "it has recovered")
    fresh = host.submit("true")
    assert int(fresh) > int(task_id)
    assert host.finished(fresh)["status"] == "done"
    assert alive(run["pid"])
    go.touch()
    until(lambda: not alive(run["pid"]), "its run ends by itself")
    (late,) = until(lambda: host.call("event.list", after=0, kinds=["run:late"])["events"], "it is collected")
    assert (late["subject"], late["body"]["status"]) == (f"run/{run['id']}", "completed")


@pytest.mark.parametrize("damage", ["noise", "gone", "empty"])
def test_without_runs_db_work_with_side_effects_is_not_done_again(host: Host, damage: str) -> None:
    """Nobody knows what became of its run, so it is lost, and did not "never start" as one without a row."""
    host.start()
    done = host.root / "done"
    task_id = host.submit(shell=f"echo >> {done}; sleep 600", side_effects=True)
    run = host.running(task_id)
    until(lambda: done.exists() and done.read_text(), "it is at work")
    host.kill()
    host.end_runners()
    shutil.rmtree(host.paths.run(run["id"]).path)
    runs_db = Path(host.paths.runs_db)
    for companion in ("-wal", "-shm"):
        Path(f"{runs_db}{companion}").unlink()
    if damage == "gone":
        runs_db.unlink()
    else:
        runs_db.write_bytes(random.Random(5).randbytes(8 * PAGE) if damage == "noise" else b"")
    salvaged(host)
    host.start()
    assert host.finished(task_id)["status"] == "awaiting_approval"
    assert [(r["id"], r["status"]) for r in host.runs(task_id)] == [(run["id"], "lost")]
    assert done.read_text() == "\n"


def test_runs_that_live_are_taken_from_their_directories(host: Host) -> None:
    """runs.db is damaged while a run lives: its row is gone, and the run is not."""
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go))
    run = host.running(task_id)
    host.kill()
    for companion in ("-wal", "-shm"):
        Path(f"{host.paths.runs_db}{companion}").unlink(missing_ok=True)
    Path(host.paths.runs_db).write_bytes(random.Random(2).randbytes(8 * PAGE))
    told = salvaged(host)
    assert of(told, "runs")["adopted"] == 1
    host.start()
    until(lambda: host.call("daemon.status")["state"] == "running", "it has recovered")
    assert host.runs(task_id)[-1]["pid"] == run["pid"]
    assert alive(run["pid"])
    go.touch()
    assert host.finished(task_id)["status"] == "done"
    assert [(r["id"], r["status"]) for r in host.runs(task_id)] == [(run["id"], "completed")]


@pytest.mark.parametrize("verb", ["salvage", "restore"])
def test_what_a_runner_records_while_runs_db_is_replaced_is_not_lost(
    host: Host, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.configure(maxConcurrency=8)
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=f"while [ ! -e {go} ]; do sleep 0.05; done")
    pid = host.running(task_id)["pid"]
    for other in [host.submit("true") for _ in range(60)]:
        host.finished(other)
    host.call("store.backup", path=str(host.root / "b"))
    host.kill()
    with closing(sqlite3.connect(host.paths.runs_db)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        leaves = pages_of(host.paths.runs_db, "runs")
        overwrite(host.paths.runs_db, leaves[-1])
    replaced = replace.commit

    def late(state: str, prepared: str) -> str:
        go.touch()
        until(lambda: not alive(pid), "its runner has recorded the outcome, somewhere")
        return replaced(state, prepared)

    monkeypatch.setattr(replace, "commit", late)
    words = [verb, str(host.root / "b")] if verb == "restore" else [verb]
    assert verbs.main(str(host.root), host.socket, words) == 0
    host.start()
    assert host.finished(task_id)["status"] == "done"
    assert [r["status"] for r in host.runs(task_id)] == ["completed"]


def test_an_outcome_that_no_row_took_is_taken_from_its_directory(host: Host) -> None:
    host.start()
    go = host.root / "go"
    task_id = host.submit(shell=waits_for(go, "exit 7"))
    pid = host.running(task_id)["pid"]
    host.kill()
    for companion in ("-wal", "-shm"):
        Path(f"{host.paths.runs_db}{companion}").unlink(missing_ok=True)
    os.rename(host.paths.runs_db, f"{host.paths.runs_db}.old")
    Path(host.paths.runs_db).write_bytes(random.Random(3).randbytes(8 * PAGE))
    go.touch()
    until(lambda: not alive(pid), "its runner has ended, and could not write its row")
    assert of(salvaged(host), "runs")["adopted"] == 1
    host.start()
    assert host.finished(task_id)["result"]["exit_code"] == 7
    assert len(host.runs(task_id)) == 1


def test_a_damaged_row_of_runs_costs_no_other(host: Host) -> None:
    host.configure(maxConcurrency=8)
    host.start()
    ids = [host.submit("true") for _ in range(60)]
    for task_id in ids:
        host.finished(task_id)
    last = max(r["id"] for i in ids for r in host.runs(i))
    assert host.stop() == 0
    leaves = pages_of(host.paths.runs_db, "runs")
    overwrite(host.paths.runs_db, leaves[1])
    runs = of(salvaged(host), "runs")
    assert runs["kept"] + len(runs["lost"]) == 60
    assert runs["lost"]
    assert listed(host) == set(ids)
    fresh = host.submit("true")
    assert host.finished(fresh)["status"] == "done"
    assert host.runs(fresh)[0]["id"] > last


def test_what_is_in_order_is_left_alone(host: Host) -> None:
    filled(host)
    before = {p.name: p.read_bytes() for p in Path(host.paths.path).glob("*.db")}
    done = host.maintain("salvage")
    assert (done.returncode, done.stdout.startswith("nothing to salvage")) == (0, True)
    assert {p.name: p.read_bytes() for p in Path(host.paths.path).glob("*.db")} == before
    with closing(sqlite3.connect(host.paths.tasks_db, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
    done = host.maintain("salvage")
    assert (done.returncode, "later polpod" in done.stderr) == (1, True)
