"""The invariants of DESIGN §14 that can be seen from outside, checked on both databases while no daemon has them open.

`Ledger.look` may be called at any time: it remembers how runs ended, and none may ever end in another way.
`settle` is for the end of a test in which nothing was left to run.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from kit.host import Host
from polpod.model.events import COMMON, KINDS, fits
from polpod.paths import StateDirectory
from polpod.runner import contract
from polpod.runner.containment import choose_base

Rows = dict[int, dict[str, Any]]
Docs = dict[str, dict[str, Any]]

OCCUPYING = ("assigned", "in_progress")


def _takes_a_slot(task: dict[str, Any]) -> bool:
    being_checked = task["status"] == "review" and task.get("run_id") != task.get("applied_run")
    return task["status"] in OCCUPYING or being_checked


FAILURES = {("failed", "exited"), ("failed", "signalled"), ("failed", "oom"), ("failed", "spawn_failed")}
FAILURES |= {("killed", "timeout"), ("killed", "stale")}


def read_runs(paths: StateDirectory) -> Rows:
    """The rows of runs.db by id."""
    with closing(sqlite3.connect(f"file:{paths.runs_db}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in db.execute("SELECT * FROM runs")}


def settle(host: Host) -> None:
    """Stop in order, and see that everything is."""
    assert host.stop() == 0
    Ledger(host.paths).settled()


class Ledger:
    """What was seen of one state directory."""

    def __init__(self, paths: StateDirectory) -> None:
        self._paths = paths
        self._ended: dict[int, dict[str, Any]] = {}

    def look(self) -> Rows:
        """The rows of runs.db; those that are terminal are as they were when they were seen so first (invariant 3)."""
        runs = read_runs(self._paths)
        for run_id, before in self._ended.items():
            after = {column: runs[run_id][column] for column in before}
            assert after == before, f"the outcome of run {run_id} changed"
        for run_id, row in runs.items():
            if row["status"] in contract.TERMINAL:
                self._ended[run_id] = {column: row[column] for column in ("task_id", "attempt", *contract.OUTCOME)}
        return runs

    def settled(self) -> None:
        """Everything is in order and nothing is left over."""
        runs = self.look()
        with closing(sqlite3.connect(f"file:{self._paths.tasks_db}?mode=ro", uri=True)) as db:
            tasks = {task_id: json.loads(doc) for task_id, doc in db.execute("SELECT id, doc FROM tasks")}
            edges = [json.loads(doc) for (doc,) in db.execute("SELECT doc FROM dependencies")]
            journal = [(seq, json.loads(doc)) for seq, doc in db.execute("SELECT seq, doc FROM events ORDER BY seq")]
        _one_live_run(runs)
        _slots_are_live_runs(tasks, runs)
        _without_gaps([seq for seq, _ in journal])
        events = [event for _, event in journal]
        _chained(tasks, events)
        _applied_once(runs, events)
        _retries_are_failures(tasks, runs, events)
        _recoveries_are_losses(tasks, events)
        _unmet_is_counted(tasks, edges)
        _as_the_table_says(events)
        _nothing_left(self._paths, runs)


def _one_live_run(runs: Rows) -> None:
    live = Counter(row["task_id"] for row in runs.values() if row["status"] in contract.LIVE)
    assert [task_id for task_id, number in live.items() if number > 1] == []


def _slots_are_live_runs(tasks: Docs, runs: Rows) -> None:
    """Invariant 13."""
    taken = {(t["id"], t["run_id"]) for t in tasks.values() if _takes_a_slot(t)}
    assert taken == {(row["task_id"], row["id"]) for row in runs.values() if row["status"] in contract.LIVE}


def _without_gaps(seqs: list[int]) -> None:
    assert seqs == list(range(1, len(seqs) + 1))


def _as_the_table_says(events: Iterable[dict[str, Any]]) -> None:
    for event in events:
        kinds = [kind for kind in KINDS if fits(kind.name, event["kind"])]
        assert kinds, f"{event} is of no known kind"
        strange = event["body"].keys() - COMMON
        assert any(kind.fields is None or strange <= kind.fields for kind in kinds), f"{event} has unknown fields"


def _chained(tasks: Docs, events: Iterable[dict[str, Any]]) -> None:
    """Invariant 8: each status follows from the one before it, and the last is the task's."""
    at: dict[str, str | None] = {}
    for event in events:
        kind, body, subject = event["kind"], event["body"], event["subject"].removeprefix("task/")
        if kind == "task:created":
            assert subject not in at, f"task {subject} was created twice"
            at[subject] = body["status"]
        elif kind == "task:transition":
            assert at[subject] == body["from"], f"task {subject}: {event} from {at[subject]}"
            at[subject] = body["to"]
        elif kind == "task:removed":
            del at[subject]
    assert at == {task_id: task["status"] for task_id, task in tasks.items()}


def _applied_once(runs: Rows, events: list[dict[str, Any]]) -> None:
    """Invariant 3: each run that a task was given ended for that task once, and no other ever did."""
    spawned = Counter(e["body"]["run_id"] for e in events if e["kind"] in ("agent:spawned", "assessment:started"))
    finished = Counter(e["body"]["run_id"] for e in events if e["kind"] in ("agent:finished", "assessment:complete"))
    ended = {run_id for run_id, row in runs.items() if row["status"] in contract.TERMINAL}
    assert [i for i, n in (spawned + finished).items() if i not in runs or spawned[i] > 1 or finished[i] > 1] == []
    assert finished.keys() == spawned.keys() & ended
    assert [i for i in ended - spawned.keys() if runs[i]["reason"] != "never_started"] == []
    assert [i for i in ended if runs[i]["collected_at"] is None] == []


def _retries_are_failures(tasks: Docs, runs: Rows, events: list[dict[str, Any]]) -> None:
    """Invariant 5: what failed, with a run or without, or did not pass its checks, is failed now, or was tried again at the
    price of one retry."""
    work = [row for row in runs.values() if row["phase"] == "execution"]
    failures = Counter(row["task_id"] for row in work if (row["status"], row["reason"]) in FAILURES)
    for way in ("review", "awaiting_approval"):
        failures += Counter(e["subject"].removeprefix("task/") for e in events if _moved(e, way, "failed"))
    again = Counter(e["subject"].removeprefix("task/") for e in events if _moved(e, "failed", "pending"))
    for task_id, task in tasks.items():
        assert task["retries"] == again[task_id], f"task {task_id}"
        assert failures[task_id] == task["retries"] + (task["status"] == "failed"), f"task {task_id}"


def _recoveries_are_losses(tasks: Docs, events: list[dict[str, Any]]) -> None:
    lost: Counter[str] = Counter()
    for event in events:
        subject, body = event["subject"].removeprefix("task/"), event["body"]
        if event["kind"] == "task:recovered":
            lost[subject] += body["reason"] == "lost"
        elif event["kind"] == "task:transition" and str(body.get("reason", "")).startswith("retry by"):
            lost[subject] = 0  # a person decided, and the count begins anew
        elif event["kind"] == "task:removed":
            del lost[subject]
    counted = {t: task["recoveries"] for t, task in tasks.items() if task["recoveries"]}
    assert counted == dict(+lost), [
        e for e in events if e["subject"].removeprefix("task/") in counted.keys() ^ lost.keys()
    ]


def _unmet_is_counted(tasks: Docs, edges: list[dict[str, Any]]) -> None:
    unmet: Counter[str] = Counter()
    for edge in edges:
        on = tasks.get(edge["on_id"])
        assert edge["met"] == (on is None or on["status"] == "done"), edge
        unmet[edge["task_id"]] += not edge["met"]
    assert {t for t, task in tasks.items() if task["unmet"]} == (+unmet).keys()


def _nothing_left(paths: StateDirectory, runs: Rows) -> None:
    live = {f"run-{run_id}" for run_id, row in runs.items() if row["status"] in contract.LIVE}
    assert {name for name in os.listdir(paths.run_directories) if name.startswith("run-")} <= live
    base = choose_base(paths.path)
    if base is not None:
        assert {name for name in os.listdir(base.path) if name.startswith("run-")} <= live


def _moved(event: dict[str, Any], start: str, end: str) -> bool:
    return event["kind"] == "task:transition" and (event["body"]["from"], event["body"]["to"]) == (start, end)
