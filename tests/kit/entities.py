"""Any value of any entity, for round trips: strategies that are read off its fields.

Where a field means more than its type says, or fields mean something together, ASKED says what they may be; what an
entity refuses all the same is tried again.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from polpod.model.organisation import artifacts, runtime, security, work, workflows

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
said = text.filter(str.strip)
instants = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - the zone is given beside it
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
integers = st.integers(-(2**53), 2**53)
json_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
json_objects = st.dictionaries(text, json_values, max_size=3)
iso_texts = instants.map(datetime.isoformat) | st.dates().map(str) | st.just("2026-01-01T00:00:00Z")


def entities(cls: type) -> st.SearchStrategy[Any]:
    """Any value of this struct."""
    return values(inspect.type_info(cls))


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, as msgspec sees it; raises KeyError for a type that no entity has yet."""
    match kind:
        case inspect.StructType(cls) if cls in WHOLE:
            return st.deferred(WHOLE[cls])
        case inspect.StructType(cls, fields):
            every = {f.name: ASKED[cls, f.name] if (cls, f.name) in ASKED else values(f.type) for f in fields}
            least = {f.name: every[f.name] for f in fields if f.required}
            return _accepted(cls, least) | _accepted(cls, every)
        case inspect.UnionType(types):
            return st.one_of([values(one) for one in types])
        case inspect.IntType(ge=least, le=most, lt=beyond):
            most = most if beyond is None else beyond - 1
            return integers if least is None else st.integers(int(least), 2**53 if most is None else int(most))
        case inspect.FloatType(ge=least, gt=beyond, le=most):
            least, open_ = (least, False) if beyond is None else (beyond, True)
            return st.floats(least, most, exclude_min=open_, allow_nan=False, allow_infinity=False)
        case inspect.StrType(min_length=shortest, pattern=pattern):
            return text if shortest is pattern is None else said
        case inspect.EnumType(cls):
            return st.sampled_from(cls)
        case inspect.LiteralType(words):
            return st.sampled_from(words)
        case inspect.DictType(_, of):
            return st.dictionaries(text, values(of), max_size=3)
        case inspect.VarTupleType(of):
            return st.lists(values(of), max_size=3).map(tuple)
        case inspect.TupleType(types):
            return st.tuples(*map(values, types))
    return {
        inspect.BoolType: st.booleans(),
        inspect.NoneType: st.none(),
        inspect.DateTimeType: instants,
        inspect.UUIDType: st.uuids(),
        inspect.AnyType: json_values,
        inspect.CustomType: json_values,
    }[type(kind)]


def _accepted(cls: type, fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    def made(given: dict[str, Any]) -> Any:
        try:
            return cls(**given)
        except ValueError:
            return None

    return st.fixed_dictionaries(dict(fields)).map(made).filter(lambda entity: entity is not None)


def _distinct(of: st.SearchStrategy[Any], by: Callable[[Any], object] | None = None) -> st.SearchStrategy[Any]:
    return st.lists(of, max_size=3, unique_by=by or (lambda part: part)).map(tuple)


ASKED: Mapping[tuple[type, str], st.SearchStrategy[Any]] = {
    (work.Task, "deadline"): st.none() | iso_texts,
    (artifacts.Project, "deadline"): st.none() | iso_texts,
    (security.AuditEntry, "arguments_hash"): st.text("0123456789abcdef", min_size=64, max_size=64),
    (runtime.ParkedContext, "context_json"): json_values.map(msgspec.json.encode).map(bytes.decode),
    (runtime.Checkpoint, "context_json"): json_objects.map(msgspec.json.encode).map(bytes.decode),
}
"""By struct and field."""


@st.composite
def _agent_states(draw: st.DrawFn) -> runtime.AgentRuntimeState:
    status = draw(st.sampled_from(runtime.ExecutionStatus))
    busy: dict[str, Any] = {}
    if status is not runtime.ExecutionStatus.IDLE:
        busy = {"execution_id": draw(said), "task_id": draw(st.none() | said), "started_at": draw(instants)}
        busy |= {"turn_count": draw(st.integers(0, 2**53)), "accumulated_cost_usd": draw(st.floats(0, 1e9))}
    return runtime.AgentRuntimeState(agent_id=draw(said), status=status, last_activity_at=draw(instants), **busy)


@st.composite
def _definitions(draw: st.DrawFn) -> workflows.WorkflowDefinition:
    kinds = [k for k in workflows.WorkflowNodeType if k not in ("start", "end")]
    inner = draw(st.lists(st.sampled_from(kinds), max_size=3))
    nodes = tuple(
        workflows.WorkflowNode(
            id=name,
            type=kind,
            label=draw(said),
            position_x=draw(st.floats(-1e6, 1e6)),
            config=draw(json_objects),
        )
        for name, kind in zip(string.ascii_letters, ["start", *inner, "end"], strict=False)
    )
    names = [node.id for node in nodes]
    pairs = draw(st.lists(st.sampled_from([(a, b) for a in names for b in names if a != b]), max_size=3))
    edges = tuple(
        workflows.WorkflowEdge(
            id=str(number),
            source_node_id=source,
            target_node_id=target,
            type=draw(st.sampled_from(workflows.WorkflowEdgeType)),
            label=draw(st.none() | said),
        )
        for number, (source, target) in enumerate(pairs)
    )
    return workflows.WorkflowDefinition(
        id=draw(said),
        name=draw(said),
        description=draw(text),
        workflow_type=draw(st.sampled_from(workflows.WorkflowType)),
        nodes=nodes,
        edges=edges,
        created_by=draw(said),
        created_at=draw(instants),
        updated_at=draw(instants),
        version=draw(st.integers(1, 2**53)),
    )


@st.composite
def _node_executions(draw: st.DrawFn) -> workflows.WorkflowNodeExecution:
    status = draw(st.sampled_from(workflows.WorkflowNodeExecutionStatus))
    of_task = status in workflows.OF_TASKS
    return workflows.WorkflowNodeExecution(
        node_id=draw(said),
        node_type=workflows.WorkflowNodeType.TASK if of_task else draw(st.sampled_from(workflows.WorkflowNodeType)),
        status=status,
        task_id=draw(said) if of_task else None,
        skipped_reason=draw(said) if status is workflows.WorkflowNodeExecutionStatus.SKIPPED else None,
    )


@st.composite
def _executions(draw: st.DrawFn) -> workflows.WorkflowExecution:
    status = draw(st.sampled_from(workflows.WorkflowExecutionStatus))
    return workflows.WorkflowExecution(
        id=draw(said),
        definition_id=draw(said),
        definition_version=draw(st.integers(1, 2**53)),
        status=status,
        node_executions=draw(_distinct(_node_executions(), lambda node: node.node_id)),
        activated_by=draw(said),
        project=draw(said),
        created_at=draw(instants),
        updated_at=draw(instants),
        completed_at=draw(instants) if status in workflows.TERMINAL else None,
        error=draw(said) if status is workflows.WorkflowExecutionStatus.FAILED else None,
        version=draw(st.integers(1, 2**53)),
    )


WHOLE: Mapping[type, Callable[[], st.SearchStrategy[Any]]] = {
    runtime.AgentRuntimeState: _agent_states,
    workflows.WorkflowDefinition: _definitions,
    workflows.WorkflowExecution: _executions,
}
"""Entities whose fields hang together so closely that guessing would hardly ever meet one."""
