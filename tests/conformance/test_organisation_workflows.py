"""Workflow definitions and executions, and their versions (A.11 workflow_definitions, workflow_executions; A.6)."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest
from kit.organisation import END, START, T0, TICK, a_definition, an_execution

from polpod import persistence as p

pytestmark = pytest.mark.anyio


def over(status: str, **values: Any) -> dict[str, Any]:
    return {"status": status, "completed_at": T0, **values}


def node(task_id: str, node_id: str = "n") -> p.WorkflowNodeExecution:
    return p.WorkflowNodeExecution(node_id=node_id, node_type="task", status="task_created", task_id=task_id)


async def test_a_whole_graph_comes_back(backend: p.PersistenceBackend) -> None:
    """A.11 workflow_definitions: full graph; miss; timestamps UTC; delete True and False."""
    east = T0.astimezone(timezone(timedelta(hours=9)))
    await backend.workflow_definitions.save(a_definition(created_at=east, updated_at=east))
    found = await backend.workflow_definitions.get("w1")
    assert found == a_definition()
    assert found is not None
    assert found.created_at.isoformat() == "2026-03-01T12:00:00+00:00"
    assert found.nodes[1].config == {"a": [1, {"b": None}]}
    assert await backend.workflow_definitions.get("w2") is None
    assert await backend.workflow_definitions.delete("w1") is True
    assert await backend.workflow_definitions.delete("w1") is False


async def test_definitions_are_listed_the_last_updated_first(backend: p.PersistenceBackend) -> None:
    """A.11 workflow_definitions: list all; list by type."""
    for n, kind in enumerate(("kanban", "agile_kanban", "kanban")):
        await backend.workflow_definitions.save(a_definition(id=str(n), updated_at=T0 + n * TICK, workflow_type=kind))
    find = backend.workflow_definitions.list_definitions
    assert [d.id for d in await find()] == ["2", "1", "0"]
    assert [d.id for d in await find(workflow_type=p.WorkflowType.KANBAN)] == ["2", "0"]
    assert await find(workflow_type=p.WorkflowType.PARALLEL_EXECUTION) == ()


@pytest.mark.parametrize("version", [1, 2, 5])
async def test_a_new_definition_may_be_of_any_version(version: int, backend: p.PersistenceBackend) -> None:
    """A.6 workflow_definitions: absent id, any version: inserted."""
    await backend.workflow_definitions.save(a_definition(version=version))
    assert await backend.workflow_definitions.get("w1") == a_definition(version=version)


@pytest.mark.parametrize("version", [1, 2, 4])
async def test_a_definition_has_to_follow_the_stored_one(version: int, backend: p.PersistenceBackend) -> None:
    """A.6, A.11 workflow_definitions: v1→v3 raises and keeps v1; A.9 no. 5: version 1 over another is a conflict, too."""
    await backend.workflow_definitions.save(a_definition(version=2))
    with pytest.raises(p.VersionConflictError):
        await backend.workflow_definitions.save(a_definition(version=version, name="Else"))
    assert await backend.workflow_definitions.get("w1") == a_definition(version=2)
    await backend.workflow_definitions.save(
        a_definition(version=3, name="Else", created_by="bob", created_at=T0 + TICK, nodes=(START, END), edges=())
    )
    wanted = a_definition(version=3, name="Else", nodes=(START, END), edges=())
    assert await backend.workflow_definitions.get("w1") == wanted


async def test_a_definition_stays_while_it_is_executed(backend: p.PersistenceBackend) -> None:
    """A.8: QueryError for an unknown definition, and for deleting one that has executions."""
    with pytest.raises(p.QueryError):
        await backend.workflow_executions.save(an_execution())
    await backend.workflow_definitions.save(a_definition())
    await backend.workflow_executions.save(an_execution())
    with pytest.raises(p.QueryError):
        await backend.workflow_definitions.delete("w1")
    await backend.workflow_definitions.save(a_definition(version=2))
    assert await backend.workflow_executions.delete("y1") is True
    assert await backend.workflow_executions.delete("y1") is False
    assert await backend.workflow_definitions.delete("w1") is True


async def test_an_execution_comes_back_whole(backend: p.PersistenceBackend) -> None:
    """A.11 workflow_executions: save/get; nodes; miss; completed timestamp; failed error."""
    await backend.workflow_definitions.save(a_definition())
    executions = [
        an_execution(id="1", node_executions=(node("t1"), {"node_id": "x", "node_type": "end", "status": "skipped", "skipped_reason": "no"})),
        an_execution(id="2", **over("completed")),
        an_execution(id="3", **over("failed", error="broke")),
    ]  # fmt: skip
    for execution in executions:
        await backend.workflow_executions.save(execution)
        assert await backend.workflow_executions.get(execution.id) == execution
    assert await backend.workflow_executions.get("9") is None


async def test_an_execution_has_to_follow_the_stored_one(backend: p.PersistenceBackend) -> None:
    """A.6, A.11 workflow_executions: stale version raises; +1 succeeds; absent id with a later version raises.

    An update replaces created_at and definition_id, too."""
    save, get = backend.workflow_executions.save, backend.workflow_executions.get
    for name in ("w1", "w2"):
        await backend.workflow_definitions.save(a_definition(id=name))
    with pytest.raises(p.VersionConflictError):
        await save(an_execution(version=2))
    assert await get("y1") is None
    await save(an_execution())
    with pytest.raises(p.VersionConflictError):
        await save(an_execution(version=3))
    second = an_execution(version=2, status="running", definition_id="w2", created_at=T0 + TICK)
    await save(second)
    for stale in (2, 4):
        with pytest.raises(p.VersionConflictError):
            await save(an_execution(version=stale, project="else"))
    with pytest.raises(p.DuplicateRecordError):
        await save(an_execution())
    assert await get("y1") == second


async def test_executions_are_listed_the_last_updated_first(backend: p.PersistenceBackend) -> None:
    """A.11 workflow_executions: list by definition, empty; by status."""
    await backend.workflow_definitions.save(a_definition())
    for n, values in enumerate((over("cancelled"), {"status": "running"}, {"status": "running"})):
        await backend.workflow_executions.save(an_execution(id=str(n), updated_at=T0 + n * TICK, **values))
    assert [e.id for e in await backend.workflow_executions.list_by_definition("w1")] == ["2", "1", "0"]
    assert await backend.workflow_executions.list_by_definition("w2") == ()
    assert [e.id for e in await backend.workflow_executions.list_by_status(p.WorkflowExecutionStatus.RUNNING)] == [
        "2",
        "1",
    ]
    assert await backend.workflow_executions.list_by_status(p.WorkflowExecutionStatus.FAILED) == ()


async def test_the_running_execution_of_a_task(backend: p.PersistenceBackend) -> None:
    """A.5.2 find_by_task_id: running ones only; any node of it; of several the last updated."""
    await backend.workflow_definitions.save(a_definition())
    for n, values in enumerate(
        (
            {"status": "running", "node_executions": (node("t1"),)},
            {"status": "running", "node_executions": (node("t2"), node("t1", "m"))},
            {"status": "pending", "node_executions": (node("t1"), node("t3", "m"))},
            over("completed", node_executions=(node("t1"),)),
        )
    ):
        await backend.workflow_executions.save(an_execution(id=str(n), updated_at=T0 + n * TICK, **values))

    async def found(task_id: str) -> str | None:
        execution = await backend.workflow_executions.find_by_task_id(task_id)
        return execution and execution.id

    assert [await found(task_id) for task_id in ("t1", "t2", "t3", "t", "nobody")] == ["1", "1", None, None, None]
