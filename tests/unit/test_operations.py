"""What people do to tasks, through a real store: what each operation changes, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kit.samples import LATER, NOW, a_task, task_store

from polpod.config import Config, QueueSettings, Settings
from polpod.errors import Conflict, InvalidRequest, InvalidTransition, NotFound, RequestError
from polpod.model.agents import Queue
from polpod.model.events import Event
from polpod.model.organisation.money import CostRecord
from polpod.model.organisation.work import Complexity, TaskMetricRecord, TaskType
from polpod.model.submissions import Edit, Selector
from polpod.model.tasks import FINISHED, OCCUPYING, Dependency, Spec, Task, TaskResult, TaskStatus
from polpod.rules.tasks import EDGES
from polpod.services.operations import Done, Operation, cancel, each, edit, hold, reassess, release, remove, retry
from polpod.services.rpc.refusal import refusal
from polpod.services.selection import select
from polpod.store import queries
from polpod.store.changes import require
from polpod.store.group import GroupCommit
from polpod.store.organisation import CostRecords, StoredCost, TaskMetrics
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Events, Queues, Tasks

S = TaskStatus
CONFIG = Config(settings=Settings(queues={"builds": QueueSettings(slots=1)}))
WHO = "uid 1000"
ENDED = TaskResult(run_id=5, status="failed", reason="exited", exit_code=1)


class Store:
    """A task store with tasks in it, each with the events that the last operation made."""

    def __init__(self, group: GroupCommit[Tx]) -> None:
        self.group = group

    def put(self, task_id: str = "7", *, on: tuple[str, ...] = (), met: bool = False, **values: Any) -> Task:
        """Store a task; it depends on `on`, all of them met or none."""
        unmet = 0 if met else len(on)
        task = a_task(**{"id": task_id, "seq": int(task_id), "depends_on": on, "unmet": unmet} | values)

        def body(tx: Tx) -> None:
            tx[Tasks].add(task)
            for on_id in on:
                tx[Dependencies].add(Dependency(task_id=task_id, on_id=on_id, met=met))

        self.group.write(body)
        return task

    def get(self, task_id: str = "7") -> Task:
        task = self.group.write(lambda tx: tx[Tasks].get(task_id))
        assert task is not None
        return task

    def do(self, operation: Operation, task_id: str = "7", by: str = WHO) -> Done:
        def body(tx: Tx) -> Done:
            task = tx[Tasks].get(task_id)
            assert task is not None
            return operation(tx, task, LATER, by)

        return self.group.write(body)

    def edit(self, task_id: str = "7", **fields: Any) -> Task:
        """As it comes off the wire."""
        wanted = msgspec.convert({"id": task_id} | fields, Edit)
        return self.group.write(lambda tx: edit(tx, wanted, CONFIG, WHO))

    def events(self) -> list[Event]:
        return self.group.write(lambda tx: tx[Events].find())

    def dependencies(self) -> set[tuple[str, str, bool]]:
        return self.group.write(lambda tx: {(d.task_id, d.on_id, d.met) for d in tx[Dependencies].find()})

    def ready(self) -> list[str]:
        return [t.id for t in self.group.write(lambda tx: queries.ready(tx, "default", 100))]

    def refuses(self, error: type[RequestError], operation: Operation, task_id: str = "7") -> str:
        """What is said; nothing is changed."""
        before = self.get(task_id), self.events(), self.dependencies()
        with pytest.raises(error) as refused:
            self.do(operation, task_id)
        assert (self.get(task_id), self.events(), self.dependencies()) == before
        return str(refused.value)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with task_store(tmp_path) as group:
        yield Store(group)


# Cancelling.


@pytest.mark.parametrize("status", [s for s in S if S.CANCELLED in EDGES[s] and s not in OCCUPYING])
def test_what_does_not_run_is_cancelled_at_once(store: Store, status: S) -> None:
    """§13.126, §13.131."""
    store.put(status=status)
    assert store.do(cancel) == Done("7", "cancelled")
    task = store.get()
    assert (task.status, task.cancelled_by, task.finished_at, store.ready()) == (S.CANCELLED, WHO, LATER, [])
    (moved,) = store.events()
    assert moved.body == {"from": status, "to": "cancelled", "queue": "default", "reason": WHO}


@pytest.mark.parametrize("status", sorted(OCCUPYING))
def test_what_runs_is_not_cancelled_before_its_run_is_over_but_who_asked_is_kept(store: Store, status: S) -> None:
    store.put(status=status, run_id=5)
    for who in (WHO, "uid 0"):
        assert store.do(cancel, by=who) == Done("7", status, 5)
    task = store.get()
    assert (task.status, task.cancelled_by, task.version) == (status, WHO, 2)
    (noted,) = store.events()
    assert (noted.kind, noted.body) == ("task:updated", {"fields": ["cancelled_by"], "by": WHO})


def test_cancelling_twice_is_no_mistake(store: Store) -> None:
    task = store.put(status=S.CANCELLED, finished_at=NOW)
    assert store.do(cancel) == Done("7", "cancelled")
    assert (store.get(), store.events()) == (task, [])


@pytest.mark.parametrize("status", [S.DONE, S.FAILED])
def test_what_is_over_is_not_cancelled(store: Store, status: S) -> None:
    """§13.126, §13.131."""
    store.put(status=status)
    assert store.refuses(InvalidTransition, cancel).startswith(f"Invalid transition: {status} → cancelled (allowed: ")


# Retrying.


@pytest.mark.parametrize(
    ("status", "retries", "manual"), [(S.FAILED, 3, 2), (S.CANCELLED, 2, 1), (S.AWAITING_APPROVAL, 2, 1)]
)
def test_a_retry_makes_it_ready_and_gives_it_a_fresh_start(store: Store, status: S, retries: int, manual: int) -> None:
    """§13.125."""
    store.put(
        status=status, retries=2, manual_retries=1, recoveries=3, launch_failures=10, not_before=NOW,
        finished_at=NOW if status in FINISHED else None, run_id=5, applied_run=5, result=ENDED,
        cancelled_by="uid 0",
    )  # fmt: skip
    assert store.do(retry) == Done("7", "pending")
    task = store.get()
    assert (task.retries, task.manual_retries) == (retries, manual)
    assert (task.recoveries, task.launch_failures, task.not_before, task.finished_at) == (0, 0, None, None)
    assert (task.run_id, task.applied_run, task.result, task.cancelled_by) == (5, 5, ENDED, None)
    assert store.ready() == ["7"]
    again, moved = store.events()
    assert (again.kind, again.body) == ("task:retry", {"retries": retries})
    assert moved.body == {"from": status, "to": "pending", "queue": "default", "reason": f"retry by {WHO}"}


@pytest.mark.parametrize("status", [S.PENDING, S.REVIEW, S.DONE])
def test_what_neither_failed_nor_waits_for_a_person_is_not_retried(store: Store, status: S) -> None:
    """§13.125."""
    store.put(status=status)
    assert store.refuses(InvalidTransition, retry).startswith(f"Invalid transition: {status} → pending ")


# A live run.

OPERATIONS: list[Operation] = [retry, remove]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", sorted(OCCUPYING))
def test_what_a_live_run_makes_impossible_is_a_conflict(store: Store, operation: Operation, status: S) -> None:
    store.put(status=status, run_id=5)
    said = store.refuses(Conflict, operation)
    assert said == "task 7 has a live run (5): cancel it first, or wait for it"


@pytest.mark.parametrize("status", sorted(OCCUPYING))
def test_editing_what_runs_is_a_conflict(store: Store, status: S) -> None:
    """§13.128."""
    task = store.put(status=status, run_id=5)
    with pytest.raises(Conflict, match="live run"):
        store.edit(priority=1)
    assert store.get() == task


# Removing.


@pytest.mark.parametrize("status", [s for s in S if s not in OCCUPYING])
def test_what_does_not_run_is_forgotten(store: Store, status: S) -> None:
    store.put("3", status=S.DONE)
    store.put(status=status, on=("3",), met=True)
    assert store.do(remove) == Done("7", "removed")
    assert store.group.write(lambda tx: tx[Tasks].get("7")) is None
    assert store.dependencies() == set()
    (event,) = store.events()
    assert (event.kind, event.subject, event.body) == (
        "task:removed",
        "task/7",
        {"status": status, "queue": "default", "by": WHO},
    )


def test_an_id_is_never_used_again(store: Store) -> None:
    task_id = store.group.write(queries.next_task_id)
    store.put(task_id)
    store.do(remove, task_id)
    assert store.group.write(queries.next_task_id) != task_id


@pytest.mark.parametrize("status", [s for s in S if s not in OCCUPYING and s is not S.DONE])
def test_what_others_wait_for_is_kept(store: Store, status: S) -> None:
    store.put(status=status)
    store.put("8", on=("7",))
    assert store.refuses(Conflict, remove).startswith("task 7 is what task 8 waits for")


def test_what_is_done_may_go_though_others_waited_for_it(store: Store) -> None:
    store.put(status=S.DONE)
    store.put("8", on=("7",), met=True)
    store.do(remove)
    assert (store.dependencies(), store.ready()) == (set(), ["8"])


# Holding.


def test_a_held_task_is_not_ready_until_it_is_released(store: Store) -> None:
    store.put()
    seen = [store.ready()]
    for operation in (hold, release):
        assert store.do(operation) == Done("7", "pending")
        seen.append(store.ready())
    assert seen == [["7"], [], ["7"]]
    assert [e.body for e in store.events()] == [{"fields": ["hold"], "hold": True}, {"fields": ["hold"], "hold": False}]


@pytest.mark.parametrize(("operation", "on"), [(hold, True), (release, False)])
def test_what_is_so_already_is_left_alone(store: Store, operation: Operation, on: bool) -> None:
    task = store.put(hold=on)
    assert store.do(operation) == Done("7", "pending")
    assert (store.get(), store.events()) == (task, [])


@pytest.mark.parametrize("operation", [hold, release])
@pytest.mark.parametrize("status", [s for s in S if s is not S.PENDING])
def test_only_what_is_pending_is_held_or_released(store: Store, operation: Operation, status: S) -> None:
    store.put(status=status, run_id=5)
    said = store.refuses(InvalidTransition, operation)
    assert said == f"task 7 is {status}: only a pending one is held or released"


# Editing.


def test_what_is_named_is_changed_and_the_rest_is_not(store: Store) -> None:
    """§13.127."""
    before = store.put(title="old", description="d", labels={"a": "b"}, version=4)
    wanted: dict[str, Any] = {
        "title": "new", "priority": -2, "queue": "other", "labels": {}, "hold": True, "max_retries": 0,
        "max_duration": 0.5, "stale_threshold": 0, "memory_max": 2**20, "cpus": 0.5, "tasks_max": 1, "nice": 0,
    }  # fmt: skip
    after = store.edit(**wanted)
    assert after == store.get()
    assert {name: getattr(after, name) for name in wanted} == wanted
    assert (after.description, after.version) == (before.description, 5)
    (event,) = store.events()
    moved = {"queue": wanted["queue"], "old_queue": "default", "status": "pending"}
    assert (event.kind, event.body) == ("task:updated", {"fields": sorted(wanted), "by": WHO} | moved)


CHECK = {"type": "test", "command": "make check"}


def test_what_is_expected_is_replaced_as_a_whole_while_nothing_runs(store: Store) -> None:
    """§13.128."""
    store.put(expectations=({"type": "test", "command": "old"},))
    assert store.edit(expectations=[CHECK]).expectations == (CHECK,)
    assert [e.kind for e in store.events()] == ["task:updated"]
    assert store.edit(expectations=None).expectations == ()
    with pytest.raises(msgspec.ValidationError, match=r"\$\.expectations\[0\]"):
        store.edit(expectations=[{"type": "magic"}])
    with pytest.raises(InvalidRequest, match="reviewCommand") as refused:
        store.edit(expectations=[CHECK, {"type": "llm_review"}])
    assert refused.value.path == "$.expectations[1].command"
    store.put("8", status=S.IN_PROGRESS, run_id=5)
    with pytest.raises(Conflict):
        store.edit("8", expectations=[CHECK])
    with pytest.raises(NotFound):
        store.edit("9", expectations=[CHECK])


GOOD = TaskResult(run_id=5, status="completed", reason="exited", exit_code=0)
CHECKED: dict[str, Any] = {"expectations": (CHECK,), "result": GOOD, "run_id": 5, "applied_run": 5}


@pytest.mark.parametrize("status", [S.DONE, S.FAILED, S.AWAITING_APPROVAL, S.REVIEW])
def test_work_that_succeeded_is_checked_again(store: Store, status: S) -> None:
    store.put(**CHECKED, status=status, retries=1, launch_failures=3, assessment_retries=1)
    store.put("8", on=("7",), met=status is S.DONE)
    assert store.do(reassess) == Done("7", "review")
    task = store.get()
    assert (task.awaits_checks, task.assessing, task.retries, task.finished_at) == (True, "reassess", 1, None)
    assert (task.launch_failures, task.assessment_retries) == (0, 0)
    assert store.dependencies() == {("8", "7", False)}
    assert store.get("8").unmet == 1
    assert store.ready() == ["7"]
    (moved,) = store.events()
    assert moved.body == {
        "from": status,
        "to": "review",
        "queue": "default",
        "reason": f"reassess by {WHO}",
        "unsafe": True,
    }


def test_what_cannot_be_checked_is_refused(store: Store) -> None:
    store.put(**CHECKED | {"expectations": ()}, status=S.DONE)
    assert "no checks" in store.refuses(InvalidTransition, reassess)
    store.put("8", **CHECKED | {"result": ENDED}, status=S.FAILED)
    assert "polpoctl retry 8" in store.refuses(Conflict, reassess, "8")
    store.put("9", **CHECKED | {"run_id": 6}, assessing="initial", status=S.REVIEW)
    store.refuses(Conflict, reassess, "9")
    store.refuses(Conflict, retry, "9")
    for number, status in enumerate((S.PENDING, S.CANCELLED, S.DRAFT), 10):
        store.put(str(number), **CHECKED, status=status)
        store.refuses(InvalidTransition, reassess, str(number))


def test_checks_that_go_on_are_cancelled_as_work_is(store: Store) -> None:
    store.put(**CHECKED | {"run_id": 6}, assessing="initial", status=S.REVIEW)
    assert store.do(cancel) == Done("7", "review", 6)
    assert store.get().cancelled_by == WHO


def test_a_retry_forgets_what_was_tried_and_another_description_the_first_one(store: Store) -> None:
    store.put(**CHECKED, status=S.FAILED, phase="review", fix_attempts=2, escalations=1, original_description="first")
    store.do(retry)
    task = store.get()
    assert (task.phase, task.fix_attempts, task.escalations, task.assessing) == ("execution", 0, 0, None)
    assert store.edit(description="other").original_description is None


def test_an_instant_is_stored_in_utc(store: Store) -> None:
    store.put()
    store.edit(not_before="2030-01-01T01:00:00+02:00")
    task = store.get()
    assert task.not_before == datetime(2029, 12, 31, 23, tzinfo=UTC)
    assert task.not_before is not None
    assert task.not_before.utcoffset() == timedelta(0)
    assert store.ready() == []


def test_an_instant_beyond_the_calendar_is_refused_at_its_field(store: Store) -> None:
    store.put()
    with pytest.raises(InvalidRequest, match="out of range") as refused:
        store.edit(not_before="9999-12-31T23:59:59-12:00")
    assert refused.value.path == "$.not_before"


@pytest.mark.parametrize(("queue", "known"), [("fresh", [Queue(name="fresh")]), ("builds", [])])
def test_a_task_moved_to_a_queue_is_where_the_scheduler_looks(store: Store, queue: str, known: list[Queue]) -> None:
    store.put()
    store.edit(queue=queue)
    assert store.group.write(lambda tx: tx[Queues].find()) == known
    assert [t.id for t in store.group.write(lambda tx: queries.ready(tx, queue, 9))] == ["7"]


FULL: dict[str, Any] = {
    "title": "T", "description": "D", "labels": {"a": "1"}, "not_before": NOW, "deadline": LATER, "max_retries": 2,
    "max_duration": 60.0, "stale_threshold": 5.0, "memory_max": 2**20, "cpus": 0.5, "tasks_max": 1, "nice": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", FULL)
def test_null_clears_a_field_and_no_other(store: Store, name: str) -> None:
    before = store.put(**FULL)
    after = store.edit(**{name: None})
    empty = {"title": "", "description": "", "labels": {}}.get(name)
    assert msgspec.to_builtins(after) == msgspec.to_builtins(before) | msgspec.to_builtins(
        {name: empty, "version": after.version, "updated_at": after.updated_at}
    )


def test_a_cleared_title_is_the_command_again(store: Store) -> None:
    spec = Spec(command=("make", "a b"), cwd="/")
    store.put(title="T", spec_id=store.group.write(lambda tx: queries.keep_spec(tx, spec)))
    assert store.edit(title=None).title == "make 'a b'"


def test_cleared_dependencies_are_waited_for_no_longer(store: Store) -> None:
    store.put("1")
    store.put(on=("1",))
    assert (store.edit(depends_on=None).unmet, store.get().depends_on) == (0, ())


@pytest.mark.parametrize("name", ["priority", "queue", "hold"])
def test_what_every_task_has_cannot_be_cleared(store: Store, name: str) -> None:
    store.put()
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{name}"):
        store.edit(**{name: None})


def test_an_edit_of_another_version_is_a_conflict(store: Store) -> None:
    task = store.put(version=4)
    with pytest.raises(Conflict, match="task 7 is at version 4, not 3: read it again"):
        store.edit(version=3, priority=1)
    assert store.get() == task
    assert store.edit(version=4, priority=1).version == 5


def test_an_edit_of_nothing_there(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no task 99"):
        store.edit("99", priority=1)


def test_what_cannot_be_edited_is_no_field(store: Store) -> None:
    """W14."""
    with pytest.raises(msgspec.ValidationError, match="unknown field `status`"):
        store.edit(status="done")


def test_dependencies_are_replaced_as_a_whole(store: Store) -> None:
    store.put("1", status=S.DONE)
    store.put("2")
    store.put("3")
    store.put(on=("3",))
    task = store.edit(depends_on=["2", "1", "2"])
    assert (task.depends_on, task.unmet) == (("2", "1"), 1)
    assert store.dependencies() == {("7", "2", False), ("7", "1", True)}
    assert store.events()[-1].body["fields"] == ["depends_on"]


def test_a_task_that_waits_for_nothing_any_more_is_ready(store: Store) -> None:
    store.put("3", hold=True)
    store.put(on=("3",))
    assert store.ready() == []
    store.edit(depends_on=[])
    assert (store.ready(), store.dependencies()) == (["7"], set())


def test_a_dependency_that_is_not_there_changes_nothing(store: Store) -> None:
    """§13.133."""
    store.put("3")
    task = store.put(on=("3",))
    with pytest.raises(NotFound, match="there is no task 99"):
        store.edit(depends_on=["3", "99"], priority=5)
    assert (store.get(), store.dependencies(), store.events()) == (task, {("7", "3", False)}, [])


@pytest.mark.parametrize(("task_id", "on"), [("1", "1"), ("1", "2"), ("1", "4"), ("2", "4"), ("1", "3")])
def test_a_circle_is_refused(store: Store, task_id: str, on: str) -> None:
    """2 and 3 wait for 1, and 4 waits for both."""
    store.put("1")
    store.put("2", on=("1",))
    store.put("3", on=("1",))
    store.put("4", on=("2", "3"))
    before = store.dependencies()
    with pytest.raises(Conflict, match=f"task {task_id} cannot depend on {on}, which waits for it"):
        store.edit(task_id, depends_on=[on])
    assert store.dependencies() == before


def test_a_second_way_is_no_circle(store: Store) -> None:
    store.put("1")
    store.put("2", on=("1",))
    store.put("3", on=("1", "2"))
    assert store.edit("3", depends_on=["2", "1"]).unmet == 2


# Many at once.


def test_one_that_is_refused_does_not_keep_the_others_from_it(store: Store) -> None:
    tasks = [store.put("1"), store.put("2", status=S.DONE), store.put("3", status=S.IN_PROGRESS, run_id=5)]
    done = store.group.write(lambda tx: each(tx, tasks, cancel, WHO, refusal))
    assert [(d.id, d.status, d.run_id) for d in done] == [
        ("1", "cancelled", msgspec.UNSET),
        ("2", "done", msgspec.UNSET),
        ("3", "in_progress", 5),
    ]
    assert done[1].error is not None
    assert done[1].error["data"] == {"type": "invalid_transition"}
    assert store.get("1").status is S.CANCELLED


def test_an_answer_says_only_what_there_is_to_say() -> None:
    assert msgspec.to_builtins(Done("1", "cancelled")) == {"id": "1", "status": "cancelled"}


def test_what_waits_for_one_of_them_is_removed_with_it(store: Store) -> None:
    tasks = [store.put("1"), store.put("2", on=("1",)), store.put("3", on=("1", "2"))]
    done = store.group.write(lambda tx: each(tx, tasks, remove, WHO, refusal))
    assert [(d.id, d.error) for d in done] == [("1", None), ("2", None), ("3", None)]


def test_no_command_is_about_a_task_of_another_owner(store: Store) -> None:
    """DESIGN §8: it is none of ours, by whatever it is named."""
    store.put("7", owner="synthorg", document={"id": "7"})
    store.put("8")
    for ids in (("7",), ("7-8",), ("7", "8")):
        found, _ = store.group.write(lambda tx: select(tx, Selector(ids=ids)))
        assert [task.id for task in found] == ["8"][: "8" in ids[-1]]
    with pytest.raises(NotFound, match="no task 7"):
        store.group.write(lambda tx: require(tx, "7"))


def test_costs_and_metrics_go_with_their_task(store: Store) -> None:
    """Cost records and task metrics name tasks that are there: polpod/store/organisation.py."""
    store.put()
    cost = CostRecord(
        agent_id="a", task_id="7", provider="p", model="m", input_tokens=1, output_tokens=1, cost_usd=1.0, timestamp=NOW
    )
    store.group.write(lambda tx: tx.append(CostRecords, StoredCost(0, cost)))
    metric = TaskMetricRecord(
        agent_id="a", task_id="7", task_type=TaskType.ADMIN, completed_at=NOW, is_success=True, duration_seconds=1.0, cost_usd=0,
        turns_used=0, tokens_used=0, complexity=Complexity.MEDIUM,
    )  # fmt: skip
    store.group.write(lambda tx: tx[TaskMetrics].add(metric))
    store.do(remove)
    assert store.group.write(lambda tx: (tx[CostRecords].count(), tx[TaskMetrics].count())) == (0, 0)
