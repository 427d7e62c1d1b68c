"""Whether deciding what follows from one finished task grows with the mission, or with what else is stored.

In one process and on a real file, without a runner and without waiting for the disk: what is measured are the transactions that a finished task costs
(it is done, what waits for it is ready, its execution is judged) and the question what may start next.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.figures import Figure, median, most
from polpod.config import Config
from polpod.contracts.taskstore.missions import save_mission
from polpod.model.tasks import Task, TaskStatus
from polpod.rules.tasks import walk
from polpod.services.instance import now
from polpod.services.missions import control
from polpod.services.missions.executing import execute, require_mission
from polpod.services.missions.planning import checked, plan
from polpod.services.missions.settling import settle
from polpod.store import changes, missions, queries
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, open_store
from polpod.store.location import Sqlite
from polpod.store.missions import UnsettledTasks
from polpod.store.records import Tx
from polpod.store.tables import Tasks

SIZES = (100, 1_000, 10_000)
STORED = (0, 10_000, 100_000)
"""Finished tasks of other missions in the same store."""
A_THOUSAND = 1_000
FINISHED = 90
"""Tasks whose end is timed, of missions of every size."""
GROWTH = 1.5
"""How far apart two medians may lie on a noisy machine and still count as the same."""
CONFIG = Config()


def run() -> Iterator[Figure]:
    for shape, make in SHAPES.items():
        small = 0.0
        for size in SIZES:
            with tempfile.TemporaryDirectory(prefix="polpod-bench-") as directory:
                taken = finish(Path(directory, "state.db"), make(size))
            figure = median(f"one task of {size:,} is over, {shape}", [1e6 * s for s in taken], "µs")
            small = small or figure.value
            if size == SIZES[-1]:
                figure = most(figure, GROWTH * small, f"within {GROWTH}× of {SIZES[0]}")
            yield figure
    yield from beside()


def beside() -> Iterator[Figure]:
    """The same mission beside other missions' tasks that are over."""
    small = 0.0
    with tempfile.TemporaryDirectory(prefix="polpod-bench-") as directory:
        path = Path(directory, "state.db")
        for stored in STORED:
            fill(path, stored)
            taken = finish(path, fan_in(SIZES[0]), f"beside {stored}")
            figure = median(
                f"one task of {SIZES[0]:,} is over beside {stored:,} others", [1e6 * s for s in taken], "µs"
            )
            small = small or figure.value
            if stored == STORED[-1]:
                figure = most(figure, GROWTH * small, "within 1.5× of an empty store")
            yield figure


def fill(path: Path, number: int) -> None:
    """Let the store have this many finished tasks, of missions of a thousand that are over."""
    with closing(open_store(Sqlite(str(path)), TASKS)) as store:
        first = store.write(lambda tx: tx[Tasks].count(Tasks.status.eq(TaskStatus.CANCELLED)))
        for start in range(first, number, A_THOUSAND):
            store.write(
                lambda tx, start=start: begin(tx, json.dumps(fan_in(A_THOUSAND)), f"old {start}"), durable=False
            )  # type: ignore[misc]
            store.write(lambda tx, start=start: abort(tx, f"old {start}"), durable=False)  # type: ignore[misc]
            while store.write(lambda tx: tx[UnsettledTasks].find(limit=1), durable=False):
                store.write(lambda tx: settle(tx, now()), durable=False)


def abort(tx: Tx, name: str) -> None:
    control.abort(tx, require_mission(tx, name), now(), "bench")


def finish(path: Path, document: dict[str, Any], name: str = "bench") -> list[float]:
    """Seconds for each of the first tasks that are carried out."""
    with closing(open_store(Sqlite(str(path)), TASKS)) as store:
        store.write(lambda tx: begin(tx, json.dumps(document), name))
        taken = []
        for _ in range(FINISHED):
            (task, *_) = store.write(lambda tx: queries.ready(tx, "default", 1, missions.idle(tx)))
            started = time.perf_counter()
            done(store, task)
            taken.append(time.perf_counter() - started)
    return taken


def begin(tx: Tx, text: str, name: str) -> None:
    document = checked(text)
    mission = save_mission(tx, name=name, data=text)
    execute(tx, mission, document, plan(document, {}, CONFIG, "/"), CONFIG, 0, now(), "bench")


def done(store: GroupCommit[Tx], task: Task) -> None:
    path = (TaskStatus.ASSIGNED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW, TaskStatus.DONE)
    store.write(lambda tx: changes.apply(tx, walk(task, now(), *path)), durable=False)
    store.write(lambda tx: settle(tx, now()), durable=False)
    store.write(lambda tx: queries.ready(tx, "default", 1, missions.idle(tx)), durable=False)


def task(title: str, *depends_on: str) -> dict[str, Any]:
    return {"title": title, "command": ["true"], "dependsOn": list(depends_on)}


def chain(size: int) -> dict[str, Any]:
    return {"tasks": [task("t0"), *(task(f"t{n}", f"t{n - 1}") for n in range(1, size))]}


def fan_in(size: int) -> dict[str, Any]:
    """All but one before a gate, and that one behind it and behind all of them."""
    before = [f"t{n}" for n in range(size - 1)]
    gate = {"name": "all", "afterTasks": before, "blocksTasks": ["last"], "requireAllPassed": True}
    return {"tasks": [*(task(title) for title in before), task("last", *before)], "qualityGates": [gate]}


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {"a chain": chain, "a fan-in": fan_in}
