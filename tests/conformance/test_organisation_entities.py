"""Entities refuse at construction what they must not be, and read what means the same (A.1, A.7)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.entities import entities
from kit.organisation import (
    END,
    START,
    T0,
    TASK,
    TICK,
    a_busy_agent,
    a_checkpoint,
    a_collaboration,
    a_cost,
    a_definition,
    a_heartbeat,
    a_key,
    a_message,
    a_metric,
    a_parked,
    a_project,
    a_task,
    a_user,
    an_artifact,
    an_audit,
    an_event,
    an_execution,
    an_idle_agent,
)

from polpod import persistence as p
from polpod.model.entity import MAX_DEPTH, Entity

ENTITIES = [
    p.Task, p.CostRecord, p.Message, p.AgentLifecycleEvent, p.TaskMetricRecord, p.CollaborationMetricRecord,
    p.ParkedContext, p.AuditEntry, p.User, p.ApiKey, p.Checkpoint, p.Heartbeat, p.AgentRuntimeState, p.Artifact,
    p.Project, p.WorkflowDefinition, p.WorkflowExecution,
]  # fmt: skip


@pytest.mark.parametrize("cls", ENTITIES)
def test_any_entity_makes_the_round_trip_through_json(cls: type[Entity]) -> None:
    @given(entities(cls))
    def check(entity: Entity) -> None:
        assert cls.from_json(entity.to_json()) == entity

    check()


@pytest.mark.parametrize(
    ("read", "value"),
    [
        pytest.param(lambda: a_task(budget_limit="1.5").budget_limit, 1.5, id="a number as text"),
        pytest.param(lambda: a_task(max_retries=3.0).max_retries, 3, id="a whole number as a float"),
        pytest.param(lambda: a_task(status="created").status, p.TaskStatus.CREATED, id="a word of an enumeration"),
        pytest.param(lambda: a_task(reviewers=["a", "b"]).reviewers, ("a", "b"), id="a list"),
        pytest.param(
            lambda: a_task(artifacts_expected=[{"type": "code", "path": "x"}]).artifacts_expected,
            (p.ExpectedArtifact(type=p.ArtifactType.CODE, path="x"),),
            id="mappings for entities",
        ),
        pytest.param(lambda: a_cost(timestamp="2026-03-01T13:00:00+01:00").timestamp, T0, id="ISO 8601 text"),
        pytest.param(lambda: a_cost(timestamp=T0.astimezone(timezone(timedelta(hours=9)))).timestamp.tzinfo, UTC, id="UTC"),
        pytest.param(lambda: a_message(id="00000000-0000-0000-0000-000000000007").id.int, 7, id="a UUID as text"),
        pytest.param(lambda: a_user(must_change_password="false").must_change_password, False, id="a bool as text"),
        pytest.param(lambda: a_task(title="  spaced ").title, "  spaced ", id="text is not trimmed"),
        pytest.param(lambda: a_task(deadline="2026-03-01").deadline, "2026-03-01", id="a deadline stays verbatim"),
        pytest.param(lambda: p.Project.from_json('{"id": "a", "name": "A", "else": 1}').id, "a", id="unknown keys"),
        pytest.param(lambda: a_parked(context_json="null").context_json, "null", id="any JSON is a parked context"),
        pytest.param(lambda: a_task(status="blocked").assigned_to, None, id="blocked without an assignee"),
        pytest.param(lambda: a_project(lead="x").lead, "x", id="a lead outside the team"),
        pytest.param(lambda: an_artifact(created_at=None).created_at, None, id="an artifact of no known time"),
    ],
)  # fmt: skip
def test_what_means_the_same_is_read(read: Callable[[], object], value: object) -> None:
    """A.1: coercion as of the reference."""
    assert read() == value
    assert type(read()) is type(value)


BAD: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (a_task, {"id": ""}, "id"),
    (a_task, {"title": " \t"}, "title"),
    (a_task, {"type": "nonsense"}, "type"),
    (a_task, {"title": "a\0b"}, "title"),
    (a_task, {"title": "\ud800"}, "title"),
    (a_task, {"title": 7}, "title"),
    (a_task, {"budget_limit": -0.1}, "budget_limit"),
    (a_task, {"budget_limit": float("nan")}, "budget_limit"),
    (a_task, {"budget_limit": "inf"}, "budget_limit"),
    (a_task, {"max_retries": -1}, "max_retries"),
    (a_task, {"max_retries": 1.5}, "max_retries"),
    (a_task, {"max_retries": 2**63}, "max_retries"),
    (a_task, {"reviewers": ("a", "a")}, "reviewers"),
    (a_task, {"reviewers": ("",)}, "reviewers"),
    (a_task, {"dependencies": ("a", "a")}, "dependencies"),
    (a_task, {"dependencies": ("t1",)}, "dependencies"),
    (a_task, {"parent_task_id": "t1"}, "parent_task_id"),
    (a_task, {"delegation_chain": ("a", "a")}, "delegation_chain"),
    (a_task, {"delegation_chain": ("a",), "assigned_to": "a", "status": "assigned"}, "delegation_chain"),
    (a_task, {"deadline": "soon"}, "deadline"),
    (a_task, {"deadline": ""}, "deadline"),
    (a_task, {"assigned_to": "ann"}, "assigned_to"),
    (a_task, {"status": "assigned"}, "assigned_to"),
    (a_task, {"status": "in_progress"}, "assigned_to"),
    (a_task, {"status": "in_review"}, "assigned_to"),
    (a_task, {"status": "completed"}, "assigned_to"),
    (a_task, {"acceptance_criteria": [{"description": " "}]}, "acceptance_criteria"),
    (a_cost, {"input_tokens": -1}, "input_tokens"),
    (a_cost, {"cost_usd": 0.1, "input_tokens": 0, "output_tokens": 0}, "cost_usd"),
    (a_cost, {"timestamp": datetime(2026, 1, 1)}, "timestamp"),  # noqa: DTZ001 - refused
    (a_cost, {"timestamp": "0001-01-01T00:00:00+23:00"}, "timestamp"),
    (a_cost, {"call_category": "else"}, "call_category"),
    (a_message, {"id": "7"}, "id"),
    (a_message, {"priority": "medium"}, "priority"),
    (a_message, {"metadata": {"extra": [["k", "1"], ["k", "2"]]}}, "extra"),
    (a_message, {"metadata": {"extra": [[" ", "1"]]}}, "extra"),
    (a_message, {"attachments": [{"type": "else", "ref": "x"}]}, "attachments"),
    (an_event, {"metadata": {"a": 1}}, "metadata"),
    (a_metric, {"started_at": T0}, "started_at"),
    (a_metric, {"quality_score": 10.1}, "quality_score"),
    (a_metric, {"duration_seconds": -1.0}, "duration_seconds"),
    (a_collaboration, {"meeting_contribution": 1.1}, "meeting_contribution"),
    (a_collaboration, {"interaction_summary": "x" * 4097}, "interaction_summary"),
    (a_collaboration, {"interaction_summary": ""}, "interaction_summary"),
    (a_parked, {"context_json": "{"}, "context_json"),
    (a_checkpoint, {"context_json": "[]"}, "context_json"),
    (a_checkpoint, {"turn_number": -1}, "turn_number"),
    (a_heartbeat, {"last_heartbeat_at": "yesterday"}, "last_heartbeat_at"),
    (an_audit, {"arguments_hash": "0F" * 32}, "arguments_hash"),
    (an_audit, {"arguments_hash": "0f" * 32 + "\n"}, "arguments_hash"),
    (an_audit, {"verdict": "maybe"}, "verdict"),
    (an_audit, {"matched_rules": (" ",)}, "matched_rules"),
    (an_audit, {"evaluation_duration_ms": -1}, "evaluation_duration_ms"),
    (a_user, {"role": "king"}, "role"),
    (a_key, {"key_hash": " "}, "key_hash"),
    (an_idle_agent, {"execution_id": "x"}, "execution_id"),
    (an_idle_agent, {"task_id": "x"}, "task_id"),
    (an_idle_agent, {"started_at": T0}, "started_at"),
    (an_idle_agent, {"turn_count": 1}, "turn_count"),
    (an_idle_agent, {"accumulated_cost_usd": 0.1}, "accumulated_cost_usd"),
    (an_idle_agent, {"status": "asleep"}, "status"),
    (a_busy_agent, {"execution_id": None}, "execution_id"),
    (a_busy_agent, {"started_at": None}, "started_at"),
    (an_artifact, {"size_bytes": -1}, "size_bytes"),
    (a_project, {"budget": -1}, "budget"),
    (a_project, {"team": ("a", "a")}, "team"),
    (a_project, {"task_ids": ("a", "a")}, "task_ids"),
    (a_project, {"deadline": "soon"}, "deadline"),
    (a_definition, {"nodes": ()}, "nodes"),
    (a_definition, {"nodes": (START, TASK), "edges": ()}, "nodes"),
    (a_definition, {"nodes": (START, START, END), "edges": ()}, "nodes"),
    (a_definition, {"nodes": (START, TASK, TASK, END), "edges": ()}, "nodes"),
    (a_definition, {"edges": [{"id": "1", "source_node_id": "s", "target_node_id": "?"}]}, "edges"),
    (a_definition, {"edges": [{"id": "1", "source_node_id": "s", "target_node_id": "s"}]}, "target_node_id"),
    (a_definition, {"edges": [{"id": "1", "source_node_id": "s", "target_node_id": t} for t in "ne"]}, "edges"),
    (a_definition, {"version": 0}, "version"),
    (an_execution, {"definition_version": 0}, "definition_version"),
    (an_execution, {"status": "completed"}, "completed_at"),
    (an_execution, {"completed_at": T0}, "completed_at"),
    (an_execution, {"status": "failed", "completed_at": T0}, "error"),
    (an_execution, {"error": "broke"}, "error"),
    (an_execution, {"node_executions": [{"node_id": "n", "node_type": "task"}] * 2}, "node_executions"),
    (p.WorkflowNodeExecution, {"node_id": "n", "node_type": "end", "status": "task_created", "task_id": "t"}, "status"),
    (p.WorkflowNodeExecution, {"node_id": "n", "node_type": "task", "status": "task_failed"}, "task_id"),
    (p.WorkflowNodeExecution, {"node_id": "n", "node_type": "task", "task_id": "t"}, "task_id"),
    (p.WorkflowNodeExecution, {"node_id": "n", "node_type": "end", "status": "skipped"}, "skipped_reason"),
    (p.WorkflowNodeExecution, {"node_id": "n", "node_type": "end", "skipped_reason": "x"}, "skipped_reason"),
    (p.WorkflowNode, {"id": "n", "type": "end", "label": "E", "config": {"a": float("nan")}}, "config"),
    (p.WorkflowNode, {"id": "n", "type": "end", "label": "E", "config": {"a": float("inf")}}, "config"),
    (p.WorkflowNode, {"id": "n", "type": "end", "label": "E", "config": {"a": {1: 2}}}, "config"),
    (p.WorkflowNode, {"id": "n", "type": "end", "label": "E", "config": {"a": object()}}, "config"),
]


@pytest.mark.parametrize(("make", "values", "named"), BAD, ids=[f"{n}-{named}" for n, (_, _, named) in enumerate(BAD)])
def test_what_it_must_not_be_is_refused(make: Callable[..., Any], values: dict[str, Any], named: str) -> None:
    """A.7, and what no backend could give back as it was."""
    with pytest.raises(ValueError, match=named):
        make(**values)


def test_json_is_refused_by_the_same_rules() -> None:
    broken = a_task().to_json().replace(b'"reviewers":[]', b'"reviewers":["a","a"]')
    with pytest.raises(ValueError, match="reviewers"):
        p.Task.from_json(broken)


def test_a_dict_is_a_copy_and_its_content_is_json() -> None:
    """A.7 ParkedContext: metadata is deep-copied."""
    given: dict[str, Any] = {"a": (1, 2), "b": {"c": [p.TaskType.ADMIN]}}
    node = p.WorkflowNode(id="n", type="task", label="N", config=given)
    given["b"]["c"].append("later")
    assert node.config == {"a": [1, 2], "b": {"c": ["admin"]}}
    assert not isinstance(node.config["b"]["c"][0], StrEnum)  # type: ignore[index]


@pytest.mark.parametrize(("depth", "refused"), [(MAX_DEPTH - 1, False), (MAX_DEPTH + 5, True), (100_000, True)])
def test_a_dict_is_no_deeper_than_the_wire_allows(depth: int, refused: bool) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    if refused:
        with pytest.raises(ValueError, match="config"):
            p.WorkflowNode(id="n", type="task", label="N", config={"a": deep})
    else:
        assert p.WorkflowNode(id="n", type="task", label="N", config={"a": deep}).config == {"a": deep}


@pytest.mark.parametrize("cls", ENTITIES)
def test_an_entity_does_not_change(cls: type[Entity]) -> None:
    assert cls.__struct_config__.frozen


EDGES = {
    "created": "assigned",
    "assigned": "in_progress blocked cancelled failed interrupted",
    "in_progress": "in_review blocked cancelled failed interrupted",
    "in_review": "completed in_progress blocked cancelled",
    "blocked": "assigned",
    "failed": "assigned",
    "interrupted": "assigned",
    "completed": "",
    "cancelled": "",
}


@pytest.mark.parametrize("start", p.TaskStatus)
@pytest.mark.parametrize("to", p.TaskStatus)
def test_the_edges_of_a_task(start: p.TaskStatus, to: p.TaskStatus) -> None:
    """A.7 Task: with_transition walks these edges and no other; a created task cannot be cancelled."""
    task = a_task(status=start, assigned_to=None if start == "created" else "ann")
    if to in EDGES[start].split():
        assert task.with_transition(to, assigned_to="ann") == a_task(status=to, assigned_to="ann")
    else:
        with pytest.raises(ValueError, match=rf"{start} → {to} \(allowed: "):
            task.with_transition(to)


def test_a_transition_ends_in_a_task_that_may_be() -> None:
    with pytest.raises(ValueError, match="assigned_to"):
        a_task().with_transition(p.TaskStatus.ASSIGNED)


@given(st.integers(1, 10**6))
def test_the_least_instant_makes_a_difference(number: int) -> None:
    one = a_heartbeat(last_heartbeat_at=T0 + number * TICK)
    assert msgspec.json.decode(one.to_json(), type=p.Heartbeat).last_heartbeat_at - T0 == number * TICK
