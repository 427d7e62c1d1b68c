"""Tasks as the page's TaskStore has them, by the numbers of the list of behaviours (§13.1, §13.2) and defects (§14)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.entities import values
from msgspec import UNSET, inspect, structs
from polpo_stores import Polpo, lasting, polpo
from store_makers import Maker

from polpod.errors import Conflict, InvalidRequest, InvalidTransition, NotFound, TooLarge
from polpod.model.events import Event
from polpod.model.polpo.state import AgentActivity, AgentProcess, PolpoState, Team
from polpod.model.polpo.tasks import NewTask
from polpod.model.tasks import Task, TaskResult, TaskStatus
from polpod.rules.tasks import EDGES
from polpod.store.schema import TABLES
from polpod.store.tables import Dependencies, Tasks

__all__ = ("lasting", "polpo")

S = TaskStatus
LATER = datetime(2030, 1, 1, tzinfo=UTC)
PATH = {
    S.DRAFT: (), S.PENDING: (), S.AWAITING_APPROVAL: ("awaiting_approval",), S.ASSIGNED: ("assigned",),
    S.IN_PROGRESS: ("assigned", "in_progress"), S.REVIEW: ("assigned", "in_progress", "review"),
    S.DONE: ("assigned", "in_progress", "review", "done"), S.FAILED: ("assigned", "in_progress", "failed"),
    S.CANCELLED: ("cancelled",),
}  # fmt: skip
"""How a new task gets to each status."""


def add(polpo: Polpo, status: TaskStatus = S.PENDING, **fields: Any) -> Task:
    task = polpo.tasks.add_task(
        **{"title": "build", "description": "make it", "assign_to": "fixer"} | fields,
        status="draft" if status is S.DRAFT else "pending",
    )
    for step in PATH[status]:
        task = polpo.tasks.transition(task.id, step)
    return task


def the(task: Task | None) -> Task:
    assert task is not None
    return task


# §13.1: the state machine


def test_exactly_the_edges_of_the_table_are_walked(polpo: Polpo) -> None:
    """Polpo 1–10, 19, 20: each of the 81 pairs; an illegal one changes nothing and writes nothing to the journal."""
    for start, to in product(S, S):
        walked_or_refused(polpo, start, to)


def of_the_task(events: list[Event]) -> list[Event]:
    """Without what is said of the request for approval that comes and goes with a status (W36)."""
    return [event for event in events if not event.kind.startswith("approval:")]


def walked_or_refused(polpo: Polpo, start: S, to: S) -> None:
    task = add(polpo, start)
    before = len(polpo.events())
    if to in EDGES[start]:
        moved = polpo.tasks.transition(task.id, to)
        assert (moved.status, moved.version) == (to, task.version + 1)
        assert moved.updated_at >= task.updated_at
        assert polpo.tasks.get_task(task.id) == moved
        (event,) = of_the_task(polpo.events(before))
        assert (event.kind, event.subject) == ("task:transition", f"task/{task.id}")
        assert event.body == {"from": start, "to": to, "queue": "default"}
    else:
        with pytest.raises(InvalidTransition) as refused:
            polpo.tasks.transition(task.id, to)
        allowed = ", ".join(EDGES[start]) or "none"
        assert str(refused.value) == f"Invalid transition: {start} → {to} (allowed: {allowed})"
        assert (polpo.tasks.get_task(task.id), len(polpo.events())) == (task, before)


POLPO = {
    S.DRAFT: {S.PENDING}, S.PENDING: {S.ASSIGNED, S.AWAITING_APPROVAL},
    S.AWAITING_APPROVAL: {S.ASSIGNED, S.FAILED, S.DONE, S.PENDING}, S.ASSIGNED: {S.IN_PROGRESS, S.AWAITING_APPROVAL},
    S.IN_PROGRESS: {S.REVIEW, S.FAILED, S.AWAITING_APPROVAL}, S.REVIEW: {S.DONE, S.FAILED, S.AWAITING_APPROVAL},
    S.DONE: set(), S.FAILED: {S.PENDING},
}  # fmt: skip


@pytest.mark.parametrize("start", POLPO)
def test_polpo_s_edges_are_all_there_and_cancelled_is_the_only_one_more(start: S) -> None:
    """Polpo 1–8: sixteen edges; no edge leads to where it began (10 is the text, above)."""
    assert set(EDGES[start]) - {S.CANCELLED} == POLPO[start]
    assert start not in EDGES[start]


# §13.2: the task store


def test_a_new_task_is_stored_as_given(polpo: Polpo) -> None:
    """Polpo 11: an id, pending, no retries, both times; nested values come back.  §13.121."""
    expectations = [{"type": "test", "command": "make", "nested": {"deep": [1, None, 2.5]}}]
    task = add(polpo, expectations=expectations, max_retries=2, side_effects=True)
    assert (task.status, task.retries, task.owner, task.spec_id) == (S.PENDING, 0, "polpod", None)
    assert task.created_at == task.updated_at
    assert abs(datetime.now(UTC) - task.created_at) < timedelta(minutes=1)
    assert (task.title, task.description, task.assigned_to, task.max_retries) == ("build", "make it", "fixer", 2)
    assert task.expectations == tuple(expectations)
    assert polpo.tasks.get_task(task.id) == task
    assert polpo.kinds() == ["task:created"]


def test_a_task_is_given_as_a_mapping_or_by_keywords(polpo: Polpo) -> None:
    one = polpo.tasks.add_task({"title": "a", "assigned_to": "x", "priority": 1}, priority=2)
    other = polpo.tasks.add_task(title="a", assign_to="x", priority=2)
    polpo.tasks.add_task(title="a", depends_on=None, labels=UNSET, outcomes=[], side_effects=None)  # as not said
    same = {"id", "seq", "created_at", "updated_at"}
    assert all(getattr(one, n) == getattr(other, n) for n in Task.__struct_fields__ if n not in same)
    assert (int(other.id), other.seq) == (int(one.id) + 1, one.seq + 1)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "$.title"),
    ({"title": ""}, "$.title"),
    ({"title": 7}, "$.title"),
    ({"title": "a\0b"}, "$.title"),
    ({"title": "t", "colour": "red"}, "$.colour"),
    ({"title": "t", "id": "9"}, "$.id"),
    ({"title": "t", "retries": 1}, "$.retries"),
    ({"title": "t", "created_at": LATER}, "$.created_at"),
    ({"title": "t", "status": "done"}, "$.status"),
    ({"title": "t", "status": "asleep"}, "$.status"),
    ({"title": "t", "max_retries": -1}, "$.max_retries"),
    ({"title": "t", "max_duration": float("nan")}, "$.max_duration"),
    ({"title": "t", "priority": 2**31}, "$.priority"),
    ({"title": "t", "deadline": datetime(2030, 1, 1)}, "$.deadline"),  # noqa: DTZ001
    ({"title": "t", "outcomes": [{"size": float("inf")}]}, "$.outcomes"),
    ({"title": "t", "result": {"exit_code": 0, "colour": 1}}, "$.colour"),
]


def test_what_is_wrong_with_a_new_task_is_named(polpo: Polpo) -> None:
    for fields, path in WRONG:
        with pytest.raises(InvalidRequest) as refused:
            polpo.tasks.add_task(fields)
        assert refused.value.path == path
    assert polpo.tasks.get_all_tasks() == []
    assert polpo.events() == []


def test_what_is_stored_is_there_for_another_that_opens_it(lasting: Maker, tmp_path: Path) -> None:
    """Polpo 12, 26: at once, and after closing; what was never used is empty."""
    stores = Polpo(lasting(tmp_path, TABLES))
    assert stores.tasks.get_state() == PolpoState()
    task = add(stores)
    stores.tasks.set_state(project="kernel")
    stores.close()
    again = Polpo(lasting(tmp_path, TABLES))
    kept = again.tasks.get_state()
    again.close()
    assert kept == PolpoState(project="kernel", tasks=(task,))


def test_a_task_that_is_not_there(polpo: Polpo) -> None:
    """Polpo 13, 16, 17, 22: no error to ask for one, or to remove it; "not found" to change it."""
    assert polpo.tasks.get_task("7") is None
    assert polpo.tasks.remove_task("7") is False
    for change in (
        lambda: polpo.tasks.update_task("7", title="x"),
        lambda: polpo.tasks.transition("7", "assigned"),
        lambda: polpo.tasks.unsafe_set_status("7", "done", "why"),
    ):
        with pytest.raises(NotFound, match="not found"):
            change()


def test_all_tasks_come_in_order_of_creation(polpo: Polpo) -> None:
    """Polpo 14: also where the clock stood still or went back between them."""
    ids = [add(polpo).id for _ in range(12)]

    def same_instant(tx: Any) -> None:
        for age, task in enumerate(tx[Tasks].find()):
            tx[Tasks].save(structs.replace(task, created_at=LATER - timedelta(days=age // 6)))

    polpo.write(same_instant)
    assert [task.id for task in polpo.tasks.get_all_tasks()] == ids


def test_an_update_changes_what_it_names(polpo: Polpo) -> None:
    """Polpo 15: and refreshes updated_at; the journal says which fields.  §13.127, §13.128."""
    task = add(polpo, labels={"a": "b"})
    updated = polpo.tasks.update_task(task.id, {"title": "other"}, phase="fix")
    expected = structs.replace(task, title="other", phase="fix", updated_at=updated.updated_at, version=2)
    assert updated == expected == polpo.tasks.get_task(task.id)
    assert updated.updated_at >= task.updated_at
    assert polpo.events()[-1].kind == "task:updated"
    assert polpo.events()[-1].body == {"fields": ["phase", "title"], "by": "TaskStore"}


def test_an_update_never_touches_what_is_not_the_caller_s(polpo: Polpo) -> None:
    """Defect P4: `status` was written past the state machine, `id` dropped in silence.  W14."""
    task = add(polpo)
    for field in ("id", "status", "seq", "owner", "created_at", "run_id", "version", "colour"):
        with pytest.raises(InvalidRequest, match=field):
            polpo.tasks.update_task(task.id, {field: "done", "title": "other"})
    assert polpo.tasks.get_task(task.id) == task


SAMPLES: dict[str, Any] = {
    "title": "other", "description": "text", "assigned_to": "b", "group": "g", "mission_id": "3", "project": "p",
    "labels": {"a": "b"}, "priority": -4, "expectations": ({"type": "test"},), "metrics": ({"name": "m"},),
    "expected_outcomes": ({"label": "l"},), "outcomes": ({"id": "o"},), "max_retries": 4, "max_duration": 1.5,
    "stale_threshold": 2.5, "retry_policy": {"escalateAfter": 1}, "notifications": {"rules": []}, "side_effects": True,
    "hold": True, "not_before": LATER, "deadline": LATER, "phase": "review", "session_id": "s",
    "original_description": "first", "fix_attempts": 1, "question_rounds": 2, "resolution_attempts": 3,
    "revision_count": 4, "result": TaskResult(run_id=0, status="failed", reason="exited", exit_code=3, stdout=""),
    "retries": 2,
}  # fmt: skip
"""A value of each field that a caller may set, other than its default."""


def test_there_is_a_sample_of_each_field() -> None:
    assert set(SAMPLES) == set(NewTask.__struct_fields__) - {"status", "depends_on"} | {"retries"}


@pytest.mark.parametrize("unset", [None, UNSET])
def test_every_field_is_kept_and_cleared(polpo: Polpo, unset: Any) -> None:
    """Defects P5 (a field could not be cleared), P6 (question_rounds had no column), P7 (false and unset were one).

    W16.
    """
    task = add(polpo)
    bare = Task(id="", seq=0, created_at=LATER, updated_at=LATER)
    for field, sample in SAMPLES.items():
        changed = polpo.tasks.update_task(task.id, {field: sample})
        assert getattr(changed, field) == sample != getattr(task, field)
        assert polpo.tasks.get_task(task.id) == changed
        if field == "title":
            with pytest.raises(InvalidRequest, match="title: it cannot be cleared"):
                polpo.tasks.update_task(task.id, {field: unset})
            continue
        assert getattr(polpo.tasks.update_task(task.id, {field: unset}), field) == getattr(bare, field)
        assert getattr(the(polpo.tasks.get_task(task.id)), field) == getattr(bare, field)


KINDS = {field.name: field.type for field in inspect.type_info(NewTask).fields}  # type: ignore[attr-defined]
TITLES = values(KINDS["title"])
OPTIONAL = {n: values(k) for n, k in KINDS.items() if n not in ("title", "status", "depends_on")} | {
    "status": st.sampled_from(["pending", "draft"])
}


def test_any_new_task_comes_back(polpo: Polpo) -> None:
    """Invariant 9, defect P6: whole entities, any value of any field, by the store's own methods.  W16."""

    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]

    @settings(suppress_health_check=checks, deadline=None, max_examples=50)
    @given(st.fixed_dictionaries({"title": TITLES}, optional=OPTIONAL))
    def check(said: dict[str, Any]) -> None:
        task = polpo.tasks.add_task(said)
        assert polpo.tasks.get_task(task.id) == task
        kept = structs.asdict(NewTask(**said))
        assert {name: getattr(task, name) for name in kept} == kept

    check()


def test_a_result_is_given_as_the_page_has_it(polpo: Polpo) -> None:
    """§1.4: exit code, output and assessment, and no run of polpod's own."""
    given_ = {"exit_code": 2, "stdout": "out", "stderr": "err", "duration": 1.5, "assessment": {"passed": False}}
    task = polpo.tasks.update_task(add(polpo).id, result=given_)
    expected = TaskResult(run_id=0, status="failed", reason="exited", **given_)  # type: ignore[arg-type]
    assert task.result == expected == the(polpo.tasks.get_task(task.id)).result


def test_a_task_as_large_as_a_daemon_can_show_and_no_larger(polpo: Polpo) -> None:
    add(polpo, description="x" * 1_000_000)
    with pytest.raises(TooLarge, match="put large texts into a file"):
        add(polpo, description="x" * 2**20)
    assert len(polpo.tasks.get_all_tasks()) == 1


def test_a_removed_task_is_gone(polpo: Polpo) -> None:
    """Polpo 17: and its id is not given again."""
    task = add(polpo)
    assert polpo.tasks.remove_task(task.id) is True
    assert (polpo.tasks.get_task(task.id), polpo.tasks.get_all_tasks()) == (None, [])
    assert polpo.tasks.remove_task(task.id) is False
    assert polpo.kinds() == ["task:created", "task:removed"]
    assert int(add(polpo).id) > int(task.id)


def test_tasks_are_removed_by_a_function(polpo: Polpo) -> None:
    """Polpo 18: those for which it says so, all or none; how many there were."""
    kept, *going = (add(polpo, priority=n) for n in range(3))
    assert polpo.tasks.remove_tasks(lambda task: task.priority > 0) == len(going)
    assert polpo.tasks.get_all_tasks() == [kept]
    assert polpo.tasks.remove_tasks(lambda task: False) == 0

    def fails(task: Task) -> bool:
        raise LookupError(task.id)

    with pytest.raises(LookupError):
        polpo.tasks.remove_tasks(fails)
    assert polpo.tasks.get_all_tasks() == [kept]


def test_what_another_task_waits_for_is_not_removed_alone(polpo: Polpo) -> None:
    first = add(polpo)
    second = add(polpo, depends_on=[first.id])
    add(polpo, depends_on=[second.id])
    for refused in (lambda: polpo.tasks.remove_task(first.id), lambda: polpo.tasks.remove_tasks(lambda t: t == first)):
        with pytest.raises(Conflict, match=f"task {first.id} is what task {second.id} waits for"):
            refused()
    assert len(polpo.tasks.get_all_tasks()) == 3
    assert polpo.tasks.remove_tasks(lambda task: True) == 3
    assert polpo.write(lambda tx: tx[Dependencies].find()) == []


def test_only_failed_to_pending_counts_as_a_retry(polpo: Polpo) -> None:
    """Polpo 21."""
    task = add(polpo, S.FAILED)
    assert (task.retries, task.finished_at) == (0, task.updated_at)
    again = polpo.tasks.transition(task.id, "pending")
    assert (again.retries, again.finished_at) == (1, None)
    cancelled = polpo.tasks.transition(task.id, "cancelled")
    assert cancelled.cancelled_by == "TaskStore"
    back = polpo.tasks.transition(task.id, "pending")
    assert (back.retries, back.cancelled_by) == (1, None)


def test_the_machine_is_overruled_with_a_reason(polpo: Polpo) -> None:
    """Polpo 23, W15: any status, no retry spent; the journal keeps the reason on every backend.  §13.126."""
    task = add(polpo)
    for start, to in product(S, S):
        polpo.tasks.unsafe_set_status(task.id, start, "where it begins")
        before = len(polpo.events())
        overruled = polpo.tasks.unsafe_set_status(task.id, to, "stuck since Tuesday")
        assert (overruled.status, overruled.retries) == (to, 0)
        assert polpo.tasks.get_task(task.id) == overruled
        (event,) = of_the_task(polpo.events(before))
        assert event.body == {
            "from": start,
            "to": to,
            "queue": "default",
            "reason": "stuck since Tuesday",
            "unsafe": True,
        }


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_the_machine_is_not_overruled_without_one(polpo: Polpo, reason: str) -> None:
    task = add(polpo)
    with pytest.raises(InvalidRequest, match="reason"):
        polpo.tasks.unsafe_set_status(task.id, "done", reason)
    with pytest.raises(InvalidRequest, match="status"):
        polpo.tasks.unsafe_set_status(task.id, "asleep", "why")
    assert polpo.tasks.get_task(task.id) == task


# Dependencies: what the scheduler starts by is right after each of these changes.


def waiting(polpo: Polpo, *tasks: Task) -> list[int]:
    """How many unmet dependencies each task has; it knows whether there are any."""

    def body(tx: Any) -> list[int]:
        rows = [tx[Dependencies].find(Dependencies.task_id.eq(task.id)) for task in tasks]
        counted = [sum(not row.met for row in of_one) for of_one in rows]
        assert [n > 0 for n in counted] == [tx[Tasks].get(task.id).unmet > 0 for task in tasks]
        return counted

    return polpo.write(body)


def test_a_task_waits_for_what_it_depends_on(polpo: Polpo) -> None:
    """W30: a dependency that is not there is refused by name, not dropped.  §13.123, §13.133."""
    first = add(polpo)
    second = add(polpo, depends_on=[first.id, first.id])
    assert (second.depends_on, waiting(polpo, second)) == ((first.id,), [1])
    for step in PATH[S.DONE]:
        polpo.tasks.transition(first.id, step)
    assert waiting(polpo, second) == [0]
    assert waiting(polpo, add(polpo, depends_on=[first.id])) == [0]
    with pytest.raises(NotFound, match="99"):
        add(polpo, depends_on=["99"])


def test_what_is_done_no_more_is_waited_for_again(polpo: Polpo) -> None:
    first, second = add(polpo, S.DONE), add(polpo)
    second = polpo.tasks.update_task(second.id, depends_on=[first.id])
    assert waiting(polpo, second) == [0]
    polpo.tasks.unsafe_set_status(first.id, "failed", "looked at it again")
    assert waiting(polpo, second) == [1]
    polpo.tasks.unsafe_set_status(first.id, "done", "good after all")
    assert waiting(polpo, second) == [0]
    assert waiting(polpo, polpo.tasks.update_task(second.id, depends_on=None)) == [0]


def test_no_two_tasks_wait_for_each_other(polpo: Polpo) -> None:
    first = add(polpo)
    second = add(polpo, depends_on=[first.id])
    for on_id in (first.id, second.id):
        with pytest.raises(Conflict, match="waits for it"):
            polpo.tasks.update_task(first.id, depends_on=[on_id])
    assert (waiting(polpo, first, second), the(polpo.tasks.get_task(first.id)).depends_on) == ([0, 1], ())


# What is a daemon's.


def launched(polpo: Polpo, applied_run: int | None = None) -> Task:
    """A task as a daemon leaves it that was killed in the middle of run 17."""
    task = structs.replace(add(polpo, S.IN_PROGRESS), run_id=17, applied_run=applied_run, attempts=1)
    polpo.write(lambda tx: tx[Tasks].save(task))
    return task


def test_a_task_that_may_have_a_live_run_is_left_to_its_daemon(polpo: Polpo) -> None:
    task = launched(polpo)
    before = len(polpo.events())
    for refused in (
        lambda: polpo.tasks.transition(task.id, "review"),
        lambda: polpo.tasks.unsafe_set_status(task.id, "failed", "why"),
        lambda: polpo.tasks.remove_task(task.id),
        lambda: polpo.tasks.remove_tasks(lambda task: True),
        lambda: polpo.tasks.set_state(tasks=[]),
        lambda: polpo.tasks.set_state(project="x", tasks=[structs.replace(task, status=S.DONE)]),
    ):
        with pytest.raises(Conflict, match="live run"):
            refused()
    assert (polpo.tasks.get_state(), len(polpo.events())) == (PolpoState(tasks=(task,)), before)
    assert polpo.tasks.update_task(task.id, phase="review").phase == "review"


def test_a_run_whose_outcome_was_applied_holds_nobody_up(polpo: Polpo) -> None:
    task = launched(polpo, applied_run=17)
    assert polpo.tasks.transition(task.id, "review").status is S.REVIEW


def test_tasks_of_another_owner_are_not_there(polpo: Polpo) -> None:
    foreign = structs.replace(add(polpo), id="theirs", seq=99, owner="synthorg")
    polpo.write(lambda tx: tx[Tasks].save(foreign))
    mine = polpo.tasks.get_all_tasks()
    assert [task.owner for task in mine] == ["polpod"]
    assert (polpo.tasks.get_task("theirs"), polpo.tasks.remove_task("theirs")) == (None, False)
    assert polpo.tasks.remove_tasks(lambda task: True) == 1
    with pytest.raises(NotFound):
        polpo.tasks.transition("theirs", "assigned")
    with pytest.raises(InvalidRequest, match="another owner"):
        polpo.tasks.set_state(tasks=[*mine, structs.replace(mine[0], id="theirs")])
    assert polpo.write(lambda tx: tx[Tasks].get("theirs")) == foreign


# The state as a whole.

TEAM = Team(name="core", description="they", agents=({"name": "fixer", "nested": {"a": [1]}},))
PROCESS = AgentProcess(
    agent_name="fixer", pid=42, task_id="1", started_at=LATER, alive=True,
    activity=AgentActivity(last_tool="bash", tool_calls=3, files_created=("a",), last_update=LATER),
)  # fmt: skip


def test_state_is_stored_by_what_is_named(polpo: Polpo) -> None:
    """Polpo 24: the rest stays; None clears (P5)."""
    task = add(polpo)
    polpo.tasks.set_state(project="kernel", teams=[TEAM], started_at=LATER)
    polpo.tasks.set_state({"completed_at": LATER}, project="other")
    expected = PolpoState(project="other", teams=(TEAM,), started_at=LATER, completed_at=LATER, tasks=(task,))
    assert polpo.tasks.get_state() == expected
    polpo.tasks.set_state(completed_at=None, teams=UNSET)
    assert polpo.tasks.get_state() == PolpoState(project="other", started_at=LATER, tasks=(task,))
    polpo.tasks.set_state({"teams": [{"name": "n"}]})
    assert polpo.tasks.get_state().teams == (Team(name="n"),)


def test_processes_are_stored_and_replaced(polpo: Polpo) -> None:
    """Polpo 25."""
    polpo.tasks.set_state(processes=[PROCESS, structs.replace(PROCESS, pid=43, alive=False)])
    first, second = polpo.tasks.get_state().processes
    assert (first, second.pid, second.alive, second.activity) == (PROCESS, 43, False, PROCESS.activity)
    polpo.tasks.set_state(processes=[])
    assert polpo.tasks.get_state().processes == ()


@pytest.mark.parametrize(
    "wrong",
    [{"colour": 1}, {"project": 7}, {"started_at": datetime(2030, 1, 1)}, {"teams": [{"name": "a\0"}]}],  # noqa: DTZ001
)
def test_what_is_wrong_with_a_state_changes_nothing(polpo: Polpo, wrong: dict[str, Any]) -> None:
    polpo.tasks.set_state(project="kernel")
    before = len(polpo.events())
    with pytest.raises(InvalidRequest):
        polpo.tasks.set_state({"completed_at": LATER} | wrong)
    assert (polpo.tasks.get_state(), len(polpo.events())) == (PolpoState(project="kernel"), before)


def test_tasks_are_replaced_as_a_whole(polpo: Polpo) -> None:
    """§2.3, W12: in one transaction, with the journal of what came, went and changed."""
    kept, going, moved = add(polpo), add(polpo), add(polpo)
    before = len(polpo.events())
    new = structs.replace(kept, id="mine", title="new", created_at=LATER, seq=0, run_id=9, idempotency_key="k")
    done = structs.replace(moved, status=S.DONE, seq=77, run_id=9)
    polpo.tasks.set_state(tasks=[new, done, kept])
    stored = polpo.tasks.get_all_tasks()
    assert [task.id for task in stored] == [kept.id, moved.id, "mine"]
    assert stored[0] == kept
    assert (stored[1].status, stored[1].seq, stored[1].run_id) == (S.DONE, moved.seq, None)
    assert (stored[2].title, stored[2].run_id, stored[2].idempotency_key) == ("new", None, None)
    said = [(e.kind, e.subject.removeprefix("task/")) for e in polpo.events(before)]
    assert sorted(said) == sorted(
        [
            ("task:removed", going.id),
            ("task:updated", moved.id),
            ("task:transition", moved.id),
            ("task:created", "mine"),
        ]
    )
    assert polpo.events()[-1].seq == len(polpo.events())
    again = len(polpo.events())
    polpo.tasks.set_state(tasks=polpo.tasks.get_state().tasks)
    assert (polpo.tasks.get_all_tasks(), len(polpo.events())) == (stored, again)


def test_replaced_tasks_wait_for_each_other_as_they_say(polpo: Polpo) -> None:
    first = add(polpo)
    second, third = add(polpo, depends_on=[first.id]), add(polpo)
    polpo.tasks.set_state(
        tasks=[structs.replace(first, status=S.DONE), second, structs.replace(third, depends_on=(first.id, second.id))]
    )
    assert waiting(polpo, first, second, third) == [0, 0, 1]
    polpo.tasks.set_state(tasks=[first, second, structs.replace(third, status=S.DONE)])
    assert waiting(polpo, first, second, third) == [0, 1, 0]
    with pytest.raises(InvalidRequest, match="not there"):
        polpo.tasks.set_state(tasks=[second])
    with pytest.raises(InvalidRequest, match="wait for each other"):
        polpo.tasks.set_state(tasks=[structs.replace(first, depends_on=(second.id,)), second])
    with pytest.raises(InvalidRequest, match="twice"):
        polpo.tasks.set_state(tasks=[first, first])
    polpo.tasks.remove_tasks(lambda task: task.id == third.id)
    polpo.tasks.transition(first.id, "awaiting_approval")
    polpo.tasks.transition(first.id, "done")
    assert polpo.tasks.remove_task(first.id)
    (left,) = polpo.tasks.get_all_tasks()
    polpo.tasks.set_state(tasks=[left])  # what it waited for was done, and is gone
    assert (polpo.tasks.get_all_tasks(), waiting(polpo, left)) == ([left], [0])


def test_ids_of_replaced_tasks_are_not_given_again(polpo: Polpo) -> None:
    task = add(polpo)
    polpo.tasks.set_state(tasks=[structs.replace(task, id="500")])
    assert add(polpo).id == "501"
