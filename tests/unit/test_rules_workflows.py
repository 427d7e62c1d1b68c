"""Workflow definitions as mission documents: what nodes and edges mean, and what is refused, by name and place."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polpod.config import Config
from polpod.errors import InvalidRequest
from polpod.model.agents import Agent
from polpod.model.executions import ExecutionStatus as X
from polpod.model.organisation.workflows import (
    WorkflowDefinition,
    WorkflowEdge,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowNode,
    WorkflowNodeExecutionStatus,
)
from polpod.model.tasks import TaskStatus
from polpod.rules import workflows as rules
from polpod.services.missions.workflows import Ready, prepare

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AGENTS = {name: Agent(name=name, command=(name, "{prompt}")) for name in ("ann", "bob")}
KINDS = {
    "(": "start",
    ")": "end",
    "<": "parallel_split",
    ">": "parallel_join",
    "@": "agent_assignment",
    "?": "conditional",
}


def node(text: str, **config: Any) -> WorkflowNode:
    """`(` and `)` are the start and the end, `<x` a split, `>x` a join, `@x ann` assigns, and anything else is a task."""
    name, _, agent = text.partition(" ")
    kind = KINDS.get(text[0], "task")
    if kind == "task":
        config = {"command": ["true"]} | config
    if agent:
        config["agent"] = agent
    return WorkflowNode(id=name, type=kind, label=name, config={k: v for k, v in config.items() if v is not None})  # type: ignore[arg-type]


def workflow(*paths: str, nodes: list[WorkflowNode], **fields: Any) -> WorkflowDefinition:
    """Each path is the ids of nodes that follow each other."""
    pairs = dict.fromkeys(pair for path in paths for pair in zip(path.split(), path.split()[1:], strict=False))
    edges = [WorkflowEdge(id=str(n), source_node_id=a, target_node_id=b) for n, (a, b) in enumerate(pairs)]
    return WorkflowDefinition(
        **{"id": "w", "name": "W", "created_by": "eve", "nodes": tuple(nodes), "edges": tuple(edges)} | fields
    )


def ready(definition: WorkflowDefinition, project: str | None = None) -> Ready:
    return prepare(definition, project, AGENTS, Config(), "/")


def waits(definition: WorkflowDefinition) -> dict[str, list[str]]:
    return {task.title: list(task.depends_on) for task in ready(definition).document.tasks}


def refused(definition: WorkflowDefinition) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        ready(definition)
    return caught.value.path, str(caught.value)


def test_a_sequence_is_a_chain_of_dependencies() -> None:
    nodes = [node("("), node("a"), node("b"), node(")")]
    assert waits(workflow("( a b )", nodes=nodes)) == {"a": [], "b": ["a"]}


def test_a_join_waits_for_all_branches_and_edges_go_through_what_is_no_task() -> None:
    nodes = [node(text) for text in ("(", "b", "<s", "a", "@n ann", "c", ">j", "d", ")")]
    paths = ("( <s a >j d )", "<s b @n c >j")
    assert waits(workflow(*paths, nodes=nodes)) == {"b": [], "a": [], "c": ["b"], "d": ["a", "c"]}


def test_an_assigned_agent_does_the_next_tasks_that_say_nothing_else() -> None:
    nodes = [node("("), node("@n ann"), node(")"), node("<s")]
    nodes += [node(name, command=None, description="do it") for name in ("a", "b", "c")]
    nodes += [node("own", command=None, assigned_to="bob"), node("said", shell="true", command=None)]
    tasks = ready(workflow("( @n <s a c )", "<s b )", "<s own )", "<s said )", nodes=nodes)).document.tasks
    agents = {task.title: task.assign_to for task in tasks}
    assert agents == {"a": "ann", "b": "ann", "c": None, "own": "bob", "said": None}
    assert tasks[0].description == "do it"


def test_config_says_what_a_task_may_say_in_seconds() -> None:
    config = {
        "max_retries": 2,
        "retry_delay": 0.25,
        "max_duration": 60,
        "priority": 3,
        "env": {"A": "b"},
        "cwd": "/tmp",
    }
    config |= {"labels": {"k": "v"}, "queue": "q", "needs_approval": True, "side_effects": True}
    made = ready(workflow("( a )", nodes=[node("("), node("a", **config), node(")")]), "home")
    (one,) = made.planned
    said = one.submission
    assert (said.max_retries, said.retry_delay, said.max_duration, said.priority) == (2, 0.25, 60.0, 3)
    assert (said.labels, said.queue, said.needs_approval, said.side_effects) == ({"k": "v"}, "q", True, True)
    assert (said.project, one.spec.cwd, one.spec.env) == ("home", "/tmp", {"A": "b"})


def test_labels_that_are_alike_are_told_apart_by_the_ids_of_their_nodes() -> None:
    def named(id: str, label: str) -> WorkflowNode:
        return WorkflowNode(id=id, type="task", label=label, config={"command": ["true"]})  # type: ignore[arg-type]

    nodes = [node("("), named("1", "A"), named("2", "A"), named("3", "A (2)"), named("4", "B"), node(")")]
    titles = list(waits(workflow("( 1 2 3 4 )", nodes=nodes)))
    assert titles == ["A (1)", "A (2) 2", "A (2)", "B"]


TWO = [node("("), node(")")]
THREE = [*TWO, node("a")]
FOUR = [*THREE, node("b")]


@pytest.mark.parametrize(
    ("definition", "path", "words"),
    [
        (workflow("( )", nodes=TWO), "$.nodes", "no task node"),
        (workflow("( ?c a )", nodes=[*THREE, node("?c")]), "$.nodes[3].type", "'?c' is conditional"),
        (workflow("( a b a )", nodes=FOUR), "$.edges", "a cycle: a → b → a"),
        (workflow("( a )", nodes=FOUR), "$.nodes[3]", "nothing leads from the start to 'b'"),
        (workflow("( a ) b", nodes=FOUR), "$.edges[2]", "'b' comes after the end"),
        (workflow("( a )", nodes=[*TWO, node("a", comand=["x"])]), "$.nodes[2].config.comand", "unknown field"),
        (workflow("( a )", nodes=[*TWO, node("a", command=["x", 1])]), "$.nodes[2].config.command[1]", "Expected `str`"),
        (workflow("( a )", nodes=[*TWO, node("a", max_duration=-1)]), "$.nodes[2].config.max_duration", "-1|>= 0"),
        (workflow("( a )", nodes=[*TWO, node("a", max_retries=1.5)]), "$.nodes[2].config.max_retries", "Expected `int"),
        (workflow("( a )", nodes=[*TWO, node("a", shell="x")]), "$.nodes[2].config.shell", "give one of them"),
        (workflow("( a )", nodes=[*TWO, node("a", cwd="x")]), "$.nodes[2].config.cwd", "not an absolute path"),
        (workflow("( a )", nodes=[*TWO, node("a zoe", command=None)]), "$.nodes[2].config.agent", "no agent zoe"),
        (workflow("( a )", nodes=[*TWO, node("a ann", assigned_to="bob")]), "$.nodes[2].config.assigned_to", "different"),
        (workflow("( @n a )", nodes=[*THREE, node("@n")]), "$.nodes[3].config.agent", "'@n' assigns no agent"),
        (
            workflow("( @n a )", "( @m a", nodes=[*TWO, node("a", command=None), node("@n ann"), node("@m bob")]),
            "$.nodes[2].config.agent", "assigned two agents, ann .by '@n'. and bob",
        ),
        (workflow(f"( {'a' * 1001} )", nodes=[*TWO, node("a" * 1001)]), "$.nodes[2].label", "length <= 1000"),
        (workflow("( )", nodes=[*TWO, *(node(f"n{n}") for n in range(1000))]), "$.nodes", "1002 nodes"),
    ],
)  # fmt: skip
def test_what_means_nothing_here_is_refused_by_its_place(definition: WorkflowDefinition, path: str, words: str) -> None:
    found, message = refused(definition)
    assert found == path
    assert re.search(words, message), message


def test_an_edge_that_depends_on_a_condition_is_refused() -> None:
    edge = WorkflowEdge(id="e", source_node_id="(", target_node_id="a", type="conditional_true")  # type: ignore[arg-type]
    path, message = refused(workflow(nodes=THREE, edges=(edge,)))
    assert (path, "conditional_true" in message) == ("$.edges[0].type", True)


@st.composite
def workflows(draw: st.DrawFn) -> tuple[WorkflowDefinition, dict[str, set[str]]]:
    """Any graph of tasks and of nodes that are none, and the tasks that are somewhere before each task."""
    names = [f"{draw(st.sampled_from(['', '<', '>']))}n{n}" for n in range(draw(st.integers(1, 12)))]
    before: dict[str, set[str]] = {}
    paths = []
    for n, name in enumerate(names):
        others = draw(st.sets(st.sampled_from(["(", *names[:n]]), min_size=1, max_size=3))
        paths += [f"{other} {name}" for other in others]
        known = {other for other in others if other != "("}
        before[name] = known.union(*(before[other] for other in known))
    paths += [f"{name} )" for name in names]
    tasks = {name for name in names if name[0] == "n"}
    made = workflow(*paths, nodes=[*TWO, *map(node, names)])
    return made, {name: before[name] & tasks for name in tasks}


@given(made=workflows())
def test_any_graph_waits_for_the_tasks_before_each_and_for_no_other(
    made: tuple[WorkflowDefinition, dict[str, set[str]]],
) -> None:
    definition, before = made
    if not before:
        assert refused(definition)[0] == "$.nodes"
        return
    direct = waits(definition)

    def all_before(name: str) -> set[str]:
        return set(direct[name]).union(*map(all_before, direct[name]))

    assert {name: all_before(name) for name in direct} == before


# How an execution stands.

NODES = (node("("), node("a"), node("b"), node(")"))
DEFINITION = workflow("( a b )", nodes=list(NODES))
BEGUN = WorkflowExecution(
    id="1.1", definition_id="w", definition_version=1, status=WorkflowExecutionStatus.RUNNING, activated_by="eve",
    project="home", created_at=NOW, updated_at=NOW, node_executions=rules.begun(DEFINITION, {"a": "7", "b": "8"}),
)  # fmt: skip


def states(execution: WorkflowExecution) -> list[str]:
    return [str(node.status) for node in execution.node_executions]


def test_an_execution_begins_with_its_tasks_made() -> None:
    assert states(BEGUN) == ["completed", "task_created", "task_created", "completed"]
    assert [node.task_id for node in BEGUN.node_executions] == [None, "7", "8", None]


@pytest.mark.parametrize(
    ("status", "why", "tasks", "wanted", "nodes"),
    [
        (X.ACTIVE, None, {"7": TaskStatus.DONE}, "running", ["task_completed", "task_created"]),
        (X.PAUSED, None, {"7": TaskStatus.DONE}, "running", ["task_completed", "task_created"]),
        (X.COMPLETED, None, {"7": TaskStatus.DONE, "8": TaskStatus.DONE}, "completed", ["task_completed"] * 2),
        (X.FAILED, "a failed", {"7": TaskStatus.FAILED, "8": TaskStatus.FAILED}, "failed", ["task_failed"] * 2),
        (X.FAILED, None, {"7": None}, "failed", ["task_failed", "task_created"]),
        (X.CANCELLED, "aborted", {"7": TaskStatus.CANCELLED}, "cancelled", ["task_failed", "task_created"]),
    ],
)
def test_it_is_brought_up_to_date(
    status: X, why: str | None, tasks: dict[str, TaskStatus | None], wanted: str, nodes: list[str]
) -> None:
    now = rules.brought_up_to_date(BEGUN, status, why, tasks, NOW)
    assert (now.status, states(now)[1:3], now.version) == (wanted, nodes, 2)
    assert (now.completed_at is not None) is (wanted != "running")
    assert now.error == ((why or "failed") if wanted == "failed" else None)
    assert rules.brought_up_to_date(now, status, why, tasks, NOW) is now  # a second time is none


def test_one_that_is_resumed_is_over_no_more() -> None:
    failed = rules.brought_up_to_date(BEGUN, X.FAILED, "a failed", {"7": TaskStatus.FAILED}, NOW)
    again = rules.brought_up_to_date(failed, X.ACTIVE, None, {"7": TaskStatus.PENDING}, NOW)
    assert (again.status, again.completed_at, again.error, again.version) == ("running", None, None, 3)
    assert again.node_executions[1].status is WorkflowNodeExecutionStatus.TASK_CREATED
    done = rules.brought_up_to_date(again, X.COMPLETED, None, {"7": TaskStatus.DONE}, NOW)
    gone = rules.brought_up_to_date(done, X.COMPLETED, None, {"7": None}, NOW)
    assert gone is done  # what was done stays done when its task is removed
