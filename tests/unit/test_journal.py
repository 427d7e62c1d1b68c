"""What the daemon learns from committed events: its counts follow them, and who waits is woken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.samples import LATER, NOW, a_run, a_task, task_store

from polpod.config import Config
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.submissions import Edit
from polpod.model.tasks import Task, TaskStatus
from polpod.rules.outcome import MEANING, launch, outcome
from polpod.rules.tasks import EDGES, event, unsafe_set_status, walk
from polpod.services import operations
from polpod.services.bell import Bell
from polpod.services.journal import EVERYTHING, Journal
from polpod.store import changes, queries
from polpod.store.group import GroupCommit, Ticket
from polpod.store.records import Tx
from polpod.store.tables import Tasks

S = TaskStatus
MOVED = {"from": "done", "to": "pending"}


def an_event(kind: str = "x", subject: str = "task/7", **body: object) -> Event:
    return Event(at=NOW, kind=kind, subject=subject, body=body)


def rung(bell: Bell) -> bool:
    """Whether it was rung since it was last waited for."""

    async def look() -> bool:
        before = trio.current_time()
        await bell.wait(before + 1000)
        return trio.current_time() == before

    return trio.run(look, clock=trio.testing.MockClock(autojump_threshold=0))


def test_it_starts_from_the_counts_that_it_is_given() -> None:
    journal = Journal({("q", "done"): 3, ("r", "done"): 1}, 7)
    journal.absorb((msgspec.structs.replace(an_event("task:transition", **MOVED, queue="q"), seq=8),))
    assert journal.tasks == Counter(done=3, pending=1)
    assert journal.by_queue == {("q", "done"): 2, ("q", "pending"): 1, ("r", "done"): 1}
    assert journal.seq == 8


class Followed:
    """A task store and the journal that hears of its commits, as the gate tells it."""

    def __init__(self, group: GroupCommit[Tx]) -> None:
        self.group = group
        self.journal = Journal({})

    def apply(self, change: Change) -> None:
        self.commit(Ticket(lambda tx: changes.apply(tx, change), durable=True))

    def remove(self, task: Task) -> None:
        self.commit(Ticket(lambda tx: operations.remove(tx, task, LATER, "uid 0"), durable=True))

    def commit(self, ticket: Ticket[Tx, object]) -> None:
        self.group.submit(ticket)
        self.journal.absorb(self.group.drain().events)
        ticket.answer()

    def agrees(self) -> bool:
        """Whether the counts are those of the rows."""
        rows = self.group.write(queries.count_by_status)
        by_both = self.group.write(queries.count_by_queue)
        return {k: n for k, n in self.journal.tasks.items() if n} == {str(k): n for k, n in rows.items()} and {
            k: n for k, n in self.journal.by_queue.items() if n
        } == by_both


def created(task_id: int) -> Change:
    task = a_task(id=str(task_id), seq=task_id)
    return Change(task, (event(task, "task:created", NOW, queue=task.queue, status=task.status),))


def step(task: Task, number: int, choice: int) -> Change:
    """Something that may happen to the task."""
    if task.status is S.IN_PROGRESS:
        end = list(MEANING)[choice % len(MEANING)]
        change = outcome(task, a_run(*end, id=task.run_id, task_id=task.id), LATER, 0.5)
        assert change is not None
        return change
    if task.status is S.PENDING and choice % 2:
        return launch(task, a_run(id=number, task_id=task.id), LATER)
    if EDGES[task.status]:
        to = EDGES[task.status][choice % len(EDGES[task.status])]
        return walk(task, LATER, to)
    return unsafe_set_status(task, S.FAILED, "it was wrong", LATER)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), max_size=25))
def test_the_counts_are_those_of_the_rows_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    with task_store(tmp_path_factory.mktemp("followed")) as group:
        followed = Followed(group)
        for number in (1, 2, 3):
            followed.apply(created(number))
        for number, (which, choice) in enumerate(steps, 100):
            task = group.write(lambda tx: tx[Tasks].find())[which]
            followed.apply(step(task, number, choice))
            assert followed.agrees()


def test_a_task_that_comes_to_another_queue_is_counted_there(tmp_path: Path) -> None:
    with task_store(tmp_path) as group:
        followed = Followed(group)
        followed.apply(created(1))
        for queue in ("other", "other", "third"):  # the second changes nothing
            wanted = Edit(id="1", queue=queue, title=queue)
            followed.commit(Ticket(lambda tx: operations.edit(tx, wanted, Config(), "uid 0"), durable=True))
            assert followed.agrees()
        assert +followed.journal.by_queue == {("third", "pending"): 1}


def test_what_is_removed_is_not_counted(tmp_path: Path) -> None:
    with task_store(tmp_path) as group:
        followed = Followed(group)
        followed.apply(created(1))
        followed.remove(a_task(id="1", seq=1))
        assert followed.agrees()
        assert sum(followed.journal.tasks.values()) == 0


def test_a_transaction_that_failed_is_not_counted(tmp_path: Path) -> None:
    with task_store(tmp_path) as group:
        followed = Followed(group)

        def body(tx: Tx) -> None:
            changes.apply(tx, created(1))
            raise KeyError("nothing of this happened")

        with pytest.raises(KeyError):
            followed.commit(Ticket(body, durable=True))
        assert followed.agrees()


WORK = [
    (an_event("task:created", queue="q", status="pending"), True),
    (an_event("task:updated", fields=["hold"]), True),
    (an_event("queue:updated", "queue/q"), True),
    (an_event("task:removed", queue="q", status="done"), False),
    (an_event("agent:finished", status="completed"), False),
    (an_event("task:retry"), False),
    *(
        (
            an_event("task:transition", **{"from": "x", "to": to, "queue": "q"}),
            to not in ("assigned", "in_progress", "draft"),
        )
        for to in S
    ),
]


@pytest.mark.parametrize(("happened", "rings"), WORK, ids=lambda v: getattr(v, "kind", str(v)))
def test_the_scheduler_is_woken_when_something_may_have_become_ready(happened: Event, rings: bool) -> None:
    journal = Journal({})
    journal.absorb((happened,))
    assert rung(journal.work) == rings


def test_who_waits_for_a_subject_is_woken_by_it_alone() -> None:
    journal = Journal({})
    with journal.listening(["task/7", "task/8"]) as mine, journal.listening([EVERYTHING]) as all_of_it:
        journal.absorb((an_event(subject="task/9"),))
        assert (rung(mine), rung(all_of_it)) == (False, True)
        journal.absorb((an_event(subject="task/8"),))
        assert (rung(mine), rung(all_of_it)) == (True, True)


def test_several_may_wait_for_the_same_and_who_left_is_forgotten() -> None:
    journal = Journal({})
    with journal.listening(["task/7"]) as first:
        with journal.listening(["task/7"]) as second:
            journal.absorb((an_event(),))
            assert (rung(first), rung(second)) == (True, True)
        journal.absorb((an_event(),))
        assert (rung(first), rung(second)) == (True, False)
    journal.absorb((an_event(),))
    assert rung(first) is False
