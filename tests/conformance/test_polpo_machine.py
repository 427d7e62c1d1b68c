"""Anything that a library's user may do to tasks, in any order: what the scheduler and the journal go by stays right."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec import structs
from polpo_stores import Polpo
from store_makers import MAKERS

from polpod.errors import Conflict, InvalidRequest, InvalidTransition, NotFound
from polpod.model.tasks import Dependency, Task, TaskStatus
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.tables import Dependencies, Events, Tasks

Agreed = tuple[dict[str, Task], list[Dependency], dict[str, TaskStatus | None]]
picks = st.integers(0, 2)
"""Few tasks, so that they have to do with each other."""
statuses = st.sampled_from(TaskStatus)
several = st.lists(picks, max_size=2)
REFUSALS = (Conflict, InvalidRequest, InvalidTransition, NotFound)


class Machine(RuleBasedStateMachine):
    maker: Callable[[], Polpo]

    def __init__(self) -> None:
        super().__init__()
        self.polpo = self.maker()
        self.made: list[str] = []
        """All ids that there ever were."""
        for on in ([], [0], []):
            self.add(on, draft=False)

    def teardown(self) -> None:
        self.polpo.close()

    def one(self, pick: int) -> str:
        return self.made[-1 - pick % len(self.made)] if self.made else "0"

    def attempt(self, change: Callable[[], Any]) -> None:
        """What is refused changes nothing, and writes nothing."""
        before = self.polpo.write(agreed), len(self.polpo.events())
        try:
            change()
        except REFUSALS:
            assert (self.polpo.write(agreed), len(self.polpo.events())) == before

    @rule(on=several, draft=st.booleans())
    def add(self, on: list[int], draft: bool) -> None:
        def change() -> None:
            ids = [self.one(pick) for pick in on]
            task = self.polpo.tasks.add_task(title="t", depends_on=ids, status="draft" if draft else "pending")
            assert task.id not in self.made
            self.made.append(task.id)

        self.attempt(change)

    @rule(pick=picks, on=several)
    def rewire(self, pick: int, on: list[int]) -> None:
        self.attempt(lambda: self.polpo.tasks.update_task(self.one(pick), depends_on=[self.one(p) for p in on]))

    @rule(pick=picks, to=statuses)
    def transition(self, pick: int, to: TaskStatus) -> None:
        self.attempt(lambda: self.polpo.tasks.transition(self.one(pick), to))

    @rule(pick=picks, to=statuses)
    def overrule(self, pick: int, to: TaskStatus) -> None:
        self.attempt(lambda: self.polpo.tasks.unsafe_set_status(self.one(pick), to, "why"))

    @rule(pick=picks)
    def finish_and_reopen(self, pick: int) -> None:
        self.overrule(pick, TaskStatus.DONE)
        self.dependencies_agree()
        self.overrule(pick, TaskStatus.FAILED)

    @rule(going=several)
    def remove(self, going: list[int]) -> None:
        ids = {self.one(pick) for pick in going}
        self.attempt(lambda: self.polpo.tasks.remove_tasks(lambda task: task.id in ids))

    @rule(gone=st.none() | picks, moved=picks, to=statuses, wired=picks, on=several)
    def replace(self, gone: int | None, moved: int, to: TaskStatus, wired: int, on: list[int]) -> None:
        """One task goes, or none; one gets another status; one, other dependencies."""
        left = [t for t in self.polpo.tasks.get_all_tasks() if gone is None or t.id != self.one(gone)]
        others = tuple(dict.fromkeys(self.one(pick) for pick in on if pick != wired))
        tasks = [structs.replace(t, status=to) if t.id == self.one(moved) else t for t in left]
        tasks = [structs.replace(t, depends_on=others) if t.id == self.one(wired) else t for t in tasks]
        self.attempt(lambda: self.polpo.tasks.set_state(tasks=tasks))

    @invariant()
    def dependencies_agree(self) -> None:
        """A dependency is met if and only if what it names is done, or was and is gone; each task counts its own."""
        tasks, rows, _ = self.polpo.write(agreed)
        for row in rows:
            on = tasks.get(row.on_id)
            assert row.met is (on is None or on.status is TaskStatus.DONE), row
            assert row.on_id in tasks[row.task_id].depends_on
        for task in tasks.values():
            mine = {row.on_id for row in rows if row.task_id == task.id}
            assert mine == {on_id for on_id in task.depends_on if on_id in tasks}
            assert bool(task.unmet) is any(not row.met for row in rows if row.task_id == task.id), task
        TopologicalSorter({task.id: task.depends_on for task in tasks.values()}).prepare()  # raises CycleError

    @invariant()
    def the_journal_agrees(self) -> None:
        """Invariant 8: who reads it alone knows which tasks there are, and where each of them stands."""
        tasks, _, told = self.polpo.write(agreed)
        assert {task.id: task.status for task in tasks.values()} == {i: s for i, s in told.items() if s is not None}


def agreed(tx: Tx) -> Agreed:
    told: dict[str, TaskStatus | None] = {}
    for event in tx[Events].find():
        task_id = event.subject.removeprefix("task/")
        match event.kind:
            case "task:created":
                told[task_id] = TaskStatus(event.body["status"])
            case "task:transition":
                assert told[task_id] == event.body["from"]
                told[task_id] = TaskStatus(event.body["to"])
            case "task:removed":
                told[task_id] = None
    return {task.id: task for task in tx[Tasks].find()}, tx[Dependencies].find(), told


@pytest.mark.parametrize("backend", MAKERS)
def test_any_order_of_changes_keeps_what_others_go_by(backend: str, tmp_path: Path) -> None:
    def made() -> Polpo:
        return Polpo(MAKERS[backend](Path(tempfile.mkdtemp(dir=tmp_path)), TABLES))

    machine = type("Machine", (Machine,), {"maker": staticmethod(made)})
    few = [HealthCheck.too_slow, HealthCheck.data_too_large]
    examples = 60 if backend in ("memory", "sqlite") else 8
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=few),
    )
