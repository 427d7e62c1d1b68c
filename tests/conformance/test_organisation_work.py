"""Tasks, what they cost and what was measured of them (A.11 tasks, cost_records, task_metrics)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from kit.entities import entities
from kit.organisation import T0, TICK, a_cost, a_metric, a_task
from kit.samples import NOW
from kit.samples import a_task as one_of_polpods_own

from polpod import persistence as p
from polpod.contracts.persistence import work
from polpod.model.organisation.work import ASSIGNEE_NEEDED
from polpod.model.tasks import Task, TaskStatus
from polpod.rules.organisation import STAND_IN, STATUSES, as_seen
from polpod.store import changes, pages, queries
from polpod.store.records import Tx
from polpod.store.table import Scalar
from polpod.store.tables import Quarantine, Quarantined, Tasks

pytestmark = pytest.mark.anyio


# Tasks.


async def test_all_tasks_are_listed_in_the_order_in_which_they_came(backend: p.PersistenceBackend) -> None:
    """A.11 tasks: list all; A.9 no. 6: an order that does not change when a task is saved again."""
    for name in ("b", "c", "a"):
        await backend.tasks.save(a_task(id=name))
    await backend.tasks.save(a_task(id="b", title="Again"))
    assert [task.id for task in await backend.tasks.list_tasks()] == ["b", "c", "a"]


async def test_tasks_are_filtered(backend: p.PersistenceBackend) -> None:
    """A.11 tasks: filter by status, assigned_to, project; combined filters are ANDed; None is no filter."""
    tasks = {
        "1": a_task(id="1"),
        "2": a_task(id="2", status="assigned", assigned_to="ann"),
        "3": a_task(id="3", status="assigned", assigned_to="bob", project="garden"),
        "4": a_task(id="4", status="blocked", assigned_to="ann", project="garden"),
        "5": a_task(id="5", status="assigned", assigned_to="polpod", project="polpod"),
    }
    for task in tasks.values():
        await backend.tasks.save(task)

    async def found(**filters: Any) -> str:
        return "".join(task.id for task in await backend.tasks.list_tasks(**filters))

    assert await found(status=p.TaskStatus.ASSIGNED) == "235"
    assert await found(assigned_to="ann") == "24"
    assert await found(project="garden") == "34"
    assert await found(status=p.TaskStatus.ASSIGNED, project="garden") == "3"
    assert await found(status=p.TaskStatus.BLOCKED, assigned_to="ann", project="garden") == "4"
    assert await found(assigned_to="polpod") == "5"
    assert await found(project="polpod") == "5"
    assert await found(assigned_to="nobody") == ""
    assert await found(status=None, assigned_to=None, project=None) == "12345"


async def test_any_task_may_take_the_place_of_any_other(backend: p.PersistenceBackend) -> None:
    """A.5.2 tasks: the store asks nothing of transitions."""
    await backend.tasks.save(a_task(status="completed", assigned_to="ann"))
    await backend.tasks.save(a_task())
    assert await backend.tasks.get("t1") == a_task()


async def test_a_task_that_is_named_stays(backend: p.PersistenceBackend) -> None:
    """A.5.2 tasks, A.8, A.11.2: deletion with referencing rows."""
    for name in ("t1", "t2", "t3"):
        await backend.tasks.save(a_task(id=name))
    await backend.cost_records.save(a_cost(task_id="t1"))
    await backend.task_metrics.save(a_metric(task_id="t2"))
    for name in ("t1", "t2"):
        with pytest.raises(p.QueryError):
            await backend.tasks.delete(name)
        assert await backend.tasks.get(name) == a_task(id=name)
    assert await backend.tasks.delete("t3")


def test_any_task_comes_back_whole(config: p.PersistenceConfig) -> None:
    """A.11 tasks: nested tuples survive; A.11.2: every field of every entity, "unset" included."""
    with start_blocking_portal("trio") as portal:
        backend = p.create_backend(config)
        portal.call(backend.connect)

        @settings(deadline=None)
        @given(entities(p.Task))
        def check(task: p.Task) -> None:
            portal.call(backend.tasks.save, task)
            assert portal.call(backend.tasks.get, task.id) == task
            assert portal.call(backend.tasks.list_tasks) == (task,)
            assert portal.call(backend.tasks.delete, task.id) is True

        check()
        portal.call(backend.disconnect)


# Tasks of polpod's own.


async def keep(backend: p.PersistenceBackend, *tasks: Task) -> None:
    def body(tx: Tx) -> None:
        for task in tasks:
            tx[Tasks].add(task)

    await backend.get_db().write(body)


async def test_polpods_own_tasks_are_seen_and_filtered(backend: p.PersistenceBackend) -> None:
    """DESIGN §8: one table, two owners."""
    await keep(
        backend,
        one_of_polpods_own(id="1", seq=1, title="make"),
        one_of_polpods_own(id="2", seq=2, title="make", status=TaskStatus.IN_PROGRESS, project="home"),
        one_of_polpods_own(id="3", seq=3, title="make", status=TaskStatus.IN_PROGRESS, assigned_to="ann"),
    )
    await backend.tasks.save(a_task(id="4", status="in_progress", assigned_to="ann"))

    async def found(**filters: Any) -> str:
        return "".join(task.id for task in await backend.tasks.list_tasks(**filters))

    assert await found() == "1234"
    assert await found(status=p.TaskStatus.CREATED) == "1"
    assert await found(status=p.TaskStatus.IN_PROGRESS) == "234"
    assert await found(assigned_to="ann") == "34"
    assert await found(assigned_to=STAND_IN) == "2"
    assert await found(project="home") == "24"
    assert await found(project=STAND_IN) == "13"
    assert (await backend.tasks.list_tasks(status=p.TaskStatus.CREATED))[0] == await backend.tasks.get("1")


async def test_every_status_finds_its_tasks_and_reads_few_others(
    backend: p.PersistenceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever they belong to, and without a look at each of many."""
    for n, (status, agent) in enumerate((s, a) for s in TaskStatus for a in (None, "ann", " ")):
        await keep(backend, one_of_polpods_own(id=str(n), seq=n, status=status, assigned_to=agent))
    for n, theirs in enumerate(p.TaskStatus):
        assigned = "ann" if theirs in ASSIGNEE_NEEDED else None
        await backend.tasks.save(a_task(id=f"t{n}", status=theirs, assigned_to=assigned))
    await backend.tasks.save(a_task(id="t0", status="blocked", assigned_to="ann"))
    every = await backend.tasks.list_tasks()
    read: list[Task] = []
    monkeypatch.setattr(work, "_read_back", lambda row, real=work._read_back: read.append(row) or real(row))
    for wanted in p.TaskStatus:
        read.clear()
        assert await backend.tasks.list_tasks(status=wanted) == tuple(t for t in every if t.status == wanted)
        assert len(read) < len(every) / 2


async def test_polpods_own_tasks_are_not_written(backend: p.PersistenceBackend) -> None:
    own = one_of_polpods_own(id="1")
    await keep(backend, own)
    with pytest.raises(p.QueryError, match="polpod"):
        await backend.tasks.save(a_task(id="1"))
    with pytest.raises(p.QueryError, match="polpod"):
        await backend.tasks.delete("1")
    assert await backend.get_db().read(lambda tx: tx[Tasks].get("1")) == own


@pytest.mark.parametrize("owner", [None, "polpod", "synthorg"])
async def test_the_id_of_a_task_that_was_set_aside_is_not_free(
    owner: str | None, backend: p.PersistenceBackend
) -> None:
    """F10: polpod's own may have a run that goes on; an organisation's may be saved again."""
    columns: dict[str, Scalar] = {} if owner is None else {"owner": owner}
    entry = Quarantined(at=NOW, subject="task/1", table="tasks", problem="", columns=columns, doc="")
    await backend.get_db().write(lambda tx: tx.append(Quarantine, entry))
    if owner == "synthorg":
        await backend.tasks.save(a_task(id="1"))
    else:
        with pytest.raises(p.QueryError, match="quarantine"):
            await backend.tasks.save(a_task(id="1"))
    assert (await backend.tasks.get("1") is not None) is (owner == "synthorg")


async def test_what_an_organisation_saves_is_nothing_to_the_daemon(backend: p.PersistenceBackend) -> None:
    """DESIGN §8: never started, counted, listed or found by name; its id is not given again."""
    await backend.tasks.save(a_task(id="41", status="in_progress", assigned_to="ann"))

    def body(tx: Tx) -> tuple[object, ...]:
        return (
            queries.ready(tx, "default", 10),
            queries.occupying(tx),
            queries.count_by_status(tx),
            pages.page_of_tasks(tx).tasks,
            queries.own(tx, "41"),
            queries.next_task_id(tx),
        )

    assert await backend.get_db().write(body) == ([], [], {}, [], None, "42")


async def test_costs_may_be_of_polpods_own_tasks_and_go_with_them(backend: p.PersistenceBackend) -> None:
    going, staying = one_of_polpods_own(id="1"), one_of_polpods_own(id="2", seq=8)
    await keep(backend, going, staying)
    for task in (going, staying):
        await backend.cost_records.save(a_cost(task_id=task.id))
    await backend.get_db().write(lambda tx: changes.remove(tx, [going], NOW, "uid 0"))
    assert [record.task_id for record in await backend.cost_records.query()] == ["2"]


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("agent", [None, "", "ann"])
def test_every_status_is_seen_as_one_that_may_be(status: TaskStatus, agent: str | None) -> None:
    seen = as_seen(
        one_of_polpods_own(status=status, assigned_to=agent, title=" ", description="", depends_on=("1", "7", "1"))
    )
    assert seen.status is STATUSES[status][agent == "ann"]
    assert seen.assigned_to in ((agent or None), STAND_IN)
    assert (seen.title, seen.description, seen.project, seen.created_by) == ("7", "7", STAND_IN, "uid:0")
    assert seen.dependencies == ("1",)


@given(entities(Task))
def test_every_task_of_polpod_can_be_seen(task: Task) -> None:
    if task.id.strip():
        assert as_seen(task).id == task.id


@pytest.mark.parametrize(("number", "priority"), [(-1, "low"), (0, "medium"), (5, "high")])
def test_priorities(number: int, priority: str) -> None:
    seen = as_seen(one_of_polpods_own(priority=number, deadline=NOW, max_retries=2))
    assert (seen.priority, seen.deadline, seen.max_retries) == (priority, NOW.isoformat(), 2)


# Costs.


async def test_costs_are_added_up(backend: p.PersistenceBackend) -> None:
    """A.11 cost_records: save/query; by agent; by task; combined; aggregate all, by each, by both; empty is 0."""
    assert await backend.cost_records.aggregate() == 0.0
    await backend.tasks.save(a_task())
    await backend.tasks.save(a_task(id="t2"))
    costs = [
        a_cost(cost_usd=1.0, call_category="system"),
        a_cost(cost_usd=2.0, agent_id="bob", call_category=None),
        a_cost(cost_usd=4.0, task_id="t2", timestamp=T0 - timedelta(days=1)),
    ]
    for cost in costs:
        await backend.cost_records.save(cost)
    query, aggregate = backend.cost_records.query, backend.cost_records.aggregate
    assert await query() == tuple(costs)
    assert await query(agent_id="ann") == (costs[0], costs[2])
    assert await query(task_id="t1") == (costs[0], costs[1])
    assert await query(agent_id="ann", task_id="t2") == (costs[2],)
    assert await query(agent_id="nobody") == ()
    assert await aggregate() == 7.0
    assert await aggregate(agent_id="ann") == 5.0
    assert await aggregate(task_id="t1") == 3.0
    assert await aggregate(agent_id="bob", task_id="t1") == 2.0
    assert await aggregate(agent_id="bob", task_id="t2") == 0.0


async def test_costs_without_an_id_may_be_equal(backend: p.PersistenceBackend) -> None:
    """A.5.1 cost_records: duplicates allowed."""
    await backend.tasks.save(a_task())
    for _ in range(3):
        await backend.cost_records.save(a_cost())
    assert await backend.cost_records.query() == (a_cost(),) * 3


@pytest.mark.parametrize("name", ["cost_records", "task_metrics"])
async def test_a_record_is_of_a_task_that_is_there(name: str, backend: p.PersistenceBackend) -> None:
    """A.8, A.9 no. 7: references are checked, in tests as in earnest."""
    with pytest.raises(p.QueryError):
        await getattr(backend, name).save({"cost_records": a_cost, "task_metrics": a_metric}[name]())
    assert await getattr(backend, name).query() == ()


# Metrics.


async def test_metrics_are_of_a_time_and_an_agent(backend: p.PersistenceBackend) -> None:
    """A.11 task_metrics: save/query; by agent; empty; since and until, both included (A.9 no. 2); the newest first."""
    await backend.tasks.save(a_task())
    query = backend.task_metrics.query
    assert await query() == ()
    at = [a_metric(id=str(n), completed_at=T0 + n * TICK, agent_id=("ann", "bob")[n % 2]) for n in range(4)]
    for metric in at:
        await backend.task_metrics.save(metric)
    assert await query() == tuple(reversed(at))
    assert await query(agent_id="bob") == (at[3], at[1])
    assert await query(since=T0 + TICK, until=T0 + 2 * TICK) == (at[2], at[1])
    assert await query(agent_id="ann", since=T0 + TICK) == (at[2],)
    assert await query(until=T0) == (at[0],)
    assert await query(since=T0 + TICK, until=T0) == ()


async def test_a_metric_comes_back_whole(backend: p.PersistenceBackend) -> None:
    """A.11 task_metrics: null quality score; enums; A.9 no. 1: started_at is stored."""
    await backend.tasks.save(a_task())
    metric = a_metric(started_at=T0 - TICK, quality_score=None, complexity="epic")
    await backend.task_metrics.save(metric)
    (found,) = await backend.task_metrics.query()
    assert found == metric
    assert found.complexity is p.Complexity.EPIC
    assert found.started_at == T0 - TICK
