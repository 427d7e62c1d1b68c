"""Waiting for tasks: what ends it is seen when it is committed, and nothing is read that nothing happened to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from kit.samples import LATER, NOW, a_task

from polpod.errors import NotFound
from polpod.model.changes import Change
from polpod.model.tasks import Dependency, Task, TaskStatus
from polpod.rules.tasks import event, unsafe_set_status
from polpod.services import operations
from polpod.services.awaited import Awaited
from polpod.services.journal import Journal, Watch
from polpod.store import changes
from polpod.store.databases import TASKS
from polpod.store.gate import Gate, open_gate
from polpod.store.location import Sqlite
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Tasks

S = TaskStatus
BOUND = 30.0
"""Seconds; nothing here takes a tenth of one, unless it is missed."""


class Recorded:
    """A gate that notes the ids of the tasks that are read through it; `between` happens after each read."""

    def __init__(self, gate: Gate[Tx]) -> None:
        self.gate = gate
        self.ids: list[str] = []
        self.between: list[Callable[[Tx], None]] = []

    async def read(self, body: Callable[[Any], Any]) -> Any:
        found = await self.gate.read(lambda tx: body(_Noting(tx, self.ids)))
        if self.between:
            await self.gate.write(self.between.pop(0))
        return found


class _Noting:
    def __init__(self, tx: Tx, ids: list[str]) -> None:
        self._tx, self._ids = tx, ids

    def __getitem__(self, table: Any) -> Any:
        return self if table is Tasks else self._tx[table]

    def get(self, task_id: str) -> Task | None:
        self._ids.append(task_id)
        return self._tx[Tasks].get(task_id)


class Waiting:
    """Somebody who waits, and the store in which things happen meanwhile."""

    def __init__(self, gate: Gate[Tx], watch: Watch, ids: Sequence[str], keep_waiting: bool) -> None:
        self.gate, self.watch, self.reads = gate, watch, Recorded(gate)
        self.awaited = Awaited(self.reads, watch, ids, keep_waiting=keep_waiting)  # type: ignore[arg-type]

    async def becomes(self, task_id: str, status: S) -> None:
        await self.gate.write(lambda tx: becomes(tx, task_id, status))

    async def news(self) -> list[str]:
        """Which tasks are read when the next news come; fails if none do."""
        self.reads.ids.clear()
        with trio.fail_after(BOUND):
            await self.watch.wait()
        await self.awaited.look()
        return sorted(self.reads.ids)

    def outcomes(self) -> dict[str, object]:
        return {str(entry["id"]): entry["outcome"] for entry in self.awaited.entries()}


def becomes(tx: Tx, task_id: str, status: S) -> None:
    task = tx[Tasks].get(task_id)
    assert task is not None
    changes.apply(tx, unsafe_set_status(task, status, "in a test", LATER))


@asynccontextmanager
async def waiting(
    directory: Path, tasks: dict[str, tuple[str, ...]], *ids: str, keep_waiting: bool = False
) -> AsyncIterator[Waiting]:
    """Waiting for `ids` among these pending tasks, each with what it depends on; everything was read once."""
    gate = await open_gate(Sqlite(str(directory / "state.db")), TASKS)
    journal = Journal({})
    gate.subscribe(journal.absorb)

    def submit(tx: Tx) -> None:
        for seq, (task_id, on) in enumerate(tasks.items(), 1):
            task = a_task(id=task_id, seq=seq, depends_on=on, unmet=len(on))
            changes.apply(tx, Change(task, (event(task, "task:created", NOW, queue=task.queue, status=task.status),)))
            for on_id in on:
                tx[Dependencies].add(Dependency(task_id=task_id, on_id=on_id))

    await gate.write(submit)
    with journal.listening() as watch:
        made = Waiting(gate, watch, ids, keep_waiting)
        await made.awaited.look()
        yield made
    assert journal._waiting == {}
    await gate.close()


def test_the_end_of_a_dependency_s_dependency_is_seen_as_it_is_committed(tmp_path: Path) -> None:
    async def main() -> None:
        async with waiting(tmp_path, {"1": (), "2": ("1",), "3": ("2",)}, "3") as w:
            assert (w.awaited.over(), w.outcomes()) == (False, {"3": None})
            await w.becomes("1", S.FAILED)
            assert await w.news() == ["1"]
            assert w.awaited.over()
            (entry,) = w.awaited.entries()
            assert (entry["outcome"], entry["message"]) == ("blocked", "task 1, which it waits for, failed")
            await w.becomes("1", S.PENDING)  # somebody retried it
            await w.news()
            assert (w.awaited.over(), w.outcomes()) == (False, {"3": None})

    trio.run(main)


def test_of_a_thousand_only_what_something_happened_to_is_read_again(tmp_path: Path) -> None:
    tasks: dict[str, tuple[str, ...]] = {str(n): () for n in range(1, 1002)}

    async def main() -> None:
        async with waiting(tmp_path, tasks, *list(tasks)[:1000]) as w:
            assert len(w.reads.ids) == 1000
            await w.becomes("1001", S.DONE)  # nobody asked for that one
            await w.becomes("500", S.DONE)
            assert await w.news() == ["500"]
            assert not w.awaited.over()
            assert w.awaited.over(any_of_them=True)
            for n in range(1, 1001):
                await w.becomes(str(n), S.DONE)
            assert len(await w.news()) == 1000
            assert w.awaited.over()

    trio.run(main)


def test_what_changes_between_reading_and_listening_is_not_missed(tmp_path: Path) -> None:
    """Task 1 fails after it was found to be what 2 waits for, and before anybody listens for it."""

    async def main() -> None:
        async with waiting(tmp_path, {"1": (), "2": (), "3": ()}, "2") as w:
            w.reads.between.append(lambda tx: becomes(tx, "1", S.FAILED))
            await w.gate.write(lambda tx: depend(tx, "2", "1"))
            await w.news()
            assert w.outcomes() == {"2": "blocked"}

    trio.run(main)


def test_a_new_dependency_is_waited_for_and_an_old_one_no_longer(tmp_path: Path) -> None:
    async def main() -> None:
        async with waiting(tmp_path, {"1": (), "2": ("1",), "3": (), "4": ("3",)}, "2") as w:
            await w.gate.write(lambda tx: depend(tx, "2", "4"))
            await w.news()
            await w.becomes("1", S.CANCELLED)
            await w.news()
            assert w.outcomes() == {"2": None}
            await w.becomes("3", S.CANCELLED)
            await w.news()
            assert w.outcomes() == {"2": "blocked"}

    trio.run(main)


def depend(tx: Tx, task_id: str, on_id: str) -> None:
    task = tx[Tasks].get(task_id)
    assert task is not None
    tx[Dependencies].delete_where(Dependencies.task_id.eq(task_id))
    tx[Dependencies].add(Dependency(task_id=task_id, on_id=on_id))
    moved = a_task(id=task_id, seq=task.seq, depends_on=(on_id,), unmet=1)
    changes.apply(tx, Change(moved, (event(moved, "task:updated", LATER),)))


def test_whoever_keeps_waiting_waits_for_what_a_person_can_move_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with waiting(tmp_path, {"1": (), "2": ("1",), "3": ()}, "2", "3", keep_waiting=True) as w:
            await w.becomes("3", S.AWAITING_APPROVAL)
            await w.becomes("1", S.FAILED)
            await w.news()
            assert (w.outcomes(), w.awaited.over(any_of_them=True)) == ({"2": None, "3": None}, False)
            await w.becomes("3", S.FAILED)
            await w.news()
            assert (w.outcomes(), w.awaited.over(any_of_them=True)) == ({"2": None, "3": "failed"}, True)

    trio.run(main)


def test_a_task_that_is_removed_meanwhile_is_not_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with waiting(tmp_path, {"1": (), "2": ()}, "1", "2") as w:
            await w.gate.write(lambda tx: operations.remove(tx, a_task(id="2", seq=2), LATER, "uid 0"))
            with pytest.raises(NotFound, match="there is no task 2"):
                await w.news()

    trio.run(main)
