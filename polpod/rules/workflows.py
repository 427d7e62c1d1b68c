"""A workflow definition as a mission document: what its nodes and edges mean where polpod carries it out.

Rules:

1. A task node is a task; what its `config` may say is the table CONFIGS, as strict as a submission.
2. Edges are dependencies, through all nodes that are no tasks: what follows a join waits for all of its branches.
3. An agent_assignment names the agent of the tasks that follow next, behind it; a task that names its own keeps that.
4. Nothing here skips work by an expression, so a conditional node means nothing: the definition is refused, not guessed.
5. Every refusal names the node, and the place in the definition.

`config` is as on the wire: snake_case, seconds; a mission document has camelCase and milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from polpod.errors import InvalidRequest
from polpod.model.documents import DocumentTask, MissionDocument
from polpod.model.executions import ExecutionStatus
from polpod.model.organisation.workflows import (
    TERMINAL,
    WorkflowDefinition,
    WorkflowEdgeType,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowNode,
    WorkflowNodeExecution,
    WorkflowNodeExecutionStatus,
    WorkflowNodeType,
)
from polpod.model.submissions import Argument, Name
from polpod.model.tasks import Count, Instant, Seconds, TaskStatus
from polpod.rules import graphs

MOST_NODES = 1000
"""So that bringing an execution up to date, which is one row, stays a small thing."""

CONDITIONAL = frozenset({WorkflowEdgeType.CONDITIONAL_TRUE, WorkflowEdgeType.CONDITIONAL_FALSE})


class AgentConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of an agent_assignment; `assigned_to` is another word for `agent`, and one of them has to be there."""

    agent: Name | None = None
    assigned_to: Name | None = None


class TaskConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a task node."""

    description: str = ""
    agent: Name | None = None
    assigned_to: Name | None = None
    command: Annotated[tuple[Argument, ...], Meta(min_length=1)] | None = None
    shell: Annotated[str, Meta(min_length=1)] | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    queue: Name = "default"
    labels: dict[Name, str] = {}
    priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 0
    expectations: tuple[dict[str, Any], ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()
    max_retries: Count | None = None
    retry_delay: Seconds | None = None
    max_duration: Seconds | None = None
    stale_threshold: Seconds | None = None
    side_effects: bool = False
    needs_approval: bool = False
    deadline: Instant | None = None


CONFIGS: Mapping[WorkflowNodeType, type[Struct]] = {
    WorkflowNodeType.TASK: TaskConfig,
    WorkflowNodeType.AGENT_ASSIGNMENT: AgentConfig,
}
"""What `config` says of nodes of these types; of others nothing is read."""


class Carried(Struct, frozen=True):
    """What a definition becomes: the document, and which node each of its tasks is, by their order."""

    document: MissionDocument
    nodes: tuple[str, ...]


def carried_out(definition: WorkflowDefinition, configs: Mapping[str, Struct], project: str | None = None) -> Carried:
    """The definition as a mission document; `configs` by the ids of the nodes that have one (CONFIGS).

    Raises InvalidRequest, with the path of what is wrong.
    """
    before = _before(definition)
    titles = _titles(definition)
    place = {node.id: n for n, node in enumerate(definition.nodes)}
    waits: dict[str, dict[str, None]] = {}
    """The tasks next before each node."""
    agents: dict[str, dict[str, str]] = {}
    """The agents that were assigned since those tasks, each with the label of the node that did."""
    tasks = {}
    for node_id in (node_id for layer in graphs.layers(before) for node_id in layer):
        node, said = definition.nodes[place[node_id]], configs.get(node_id)
        path = f"$.nodes[{place[node_id]}].config"
        waits[node_id], agents[node_id] = {}, {}
        for other in before[node_id]:
            waits[node_id] |= {other: None} if other in tasks else waits[other]
            agents[node_id] |= {} if other in tasks else agents[other]
        if isinstance(said, AgentConfig):
            agents[node_id] = _assigned(node, said, path)
        elif isinstance(said, TaskConfig):
            after = [titles[other] for other in sorted(waits[node_id], key=place.__getitem__)]
            worker = _worker(node, said, agents[node_id], path)
            tasks[node_id] = _task(said, worker, project, titles[node_id], after)
    if not tasks:
        raise InvalidRequest(f"workflow {definition.name!r} has no task node: there is nothing to do", "$.nodes")
    return Carried(MissionDocument(tasks=tuple(tasks[node_id] for node_id in titles)), tuple(titles))


def _before(definition: WorkflowDefinition) -> dict[str, tuple[str, ...]]:
    """The nodes that each node comes directly after.  Raises InvalidRequest: it is no graph that can be carried out."""
    if len(definition.nodes) > MOST_NODES:
        raise InvalidRequest(f"{len(definition.nodes)} nodes, and at most {MOST_NODES}", "$.nodes")
    label = {node.id: node.label for node in definition.nodes}
    for n, node in enumerate(definition.nodes):
        if node.type is WorkflowNodeType.CONDITIONAL:
            why = "is conditional: nothing is skipped by an expression here"
            raise InvalidRequest(f"node {node.label!r} {why}", f"$.nodes[{n}].type")
    before: dict[str, dict[str, None]] = {node.id: {} for node in definition.nodes}
    after: dict[str, list[str]] = {node.id: [] for node in definition.nodes}
    (end,) = (node.id for node in definition.nodes if node.type is WorkflowNodeType.END)
    for n, edge in enumerate(definition.edges):
        if edge.type in CONDITIONAL:
            why = f"an edge of type {edge.type} leads on from {label[edge.source_node_id]!r}, which is not conditional"
            raise InvalidRequest(why, f"$.edges[{n}].type")
        if edge.source_node_id == end:
            raise InvalidRequest(f"{label[edge.target_node_id]!r} comes after the end", f"$.edges[{n}]")
        before[edge.target_node_id][edge.source_node_id] = None
        after[edge.source_node_id].append(edge.target_node_id)
    found = {node_id: tuple(others) for node_id, others in before.items()}
    if cycle := graphs.find_cycle(found):
        names = [label[node_id] for node_id in reversed(cycle)][: graphs.MOST_SHOWN]
        raise InvalidRequest(f"a cycle: {' → '.join(names)}", "$.edges")
    _reach_all(definition, after)
    return found


def _reach_all(definition: WorkflowDefinition, after: Mapping[str, Sequence[str]]) -> None:
    todo = [node.id for node in definition.nodes if node.type is WorkflowNodeType.START]
    reached = set(todo)
    while todo:
        following = [node_id for node_id in after[todo.pop()] if node_id not in reached]
        reached.update(following)
        todo += following
    for n, node in enumerate(definition.nodes):
        if node.id not in reached:
            raise InvalidRequest(f"nothing leads from the start to {node.label!r}", f"$.nodes[{n}]")


def _titles(definition: WorkflowDefinition) -> dict[str, str]:
    """What each task is called, by its node's id: its label, with the id where another has that, too."""
    tasks = [node for node in definition.nodes if node.type is WorkflowNodeType.TASK]
    times = Counter(node.label for node in tasks)
    taken: set[str] = set()
    found: dict[str, str] = {}
    for node in tasks:
        own = (title for title in _candidates(node, alone=times[node.label] == 1) if title not in taken)
        found[node.id] = next(title for title in own if title == node.label or title not in times)
        taken.add(found[node.id])
    return found


def _candidates(node: WorkflowNode, *, alone: bool) -> Iterator[str]:
    if alone:
        yield node.label
    yield f"{node.label} ({node.id})"
    yield from (f"{node.label} ({node.id}) {n}" for n in count(2))


def _task(said: TaskConfig, agent: str | None, project: str | None, title: str, after: Sequence[str]) -> DocumentTask:
    fields = structs.asdict(said)
    del fields["agent"], fields["assigned_to"]
    fields |= {name: _milliseconds(fields[name]) for name in ("retry_delay", "max_duration", "stale_threshold")}
    return DocumentTask(title=title, assign_to=agent, project=project, depends_on=tuple(after), **fields)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _worker(node: WorkflowNode, said: TaskConfig, assigned: Mapping[str, str], path: str) -> str | None:
    """Who shall do it: as the task says; where it says neither that nor what to execute, as was assigned before it."""
    agent = _agent(node, said, path)
    if agent is not None or said.command is not None or said.shell is not None:
        return agent
    if len(assigned) > 1:
        named = " and ".join(f"{name} (by {label!r})" for name, label in list(assigned.items())[:2])
        raise InvalidRequest(f"node {node.label!r} is assigned two agents, {named}: let it name one", f"{path}.agent")
    return next(iter(assigned), None)


def _assigned(node: WorkflowNode, said: AgentConfig, path: str) -> dict[str, str]:
    if (agent := _agent(node, said, path)) is None:
        raise InvalidRequest(f"node {node.label!r} assigns no agent", f"{path}.agent")
    return {agent: node.label}


def _agent(node: WorkflowNode, said: TaskConfig | AgentConfig, path: str) -> str | None:
    if said.agent is not None and said.assigned_to not in (None, said.agent):
        raise InvalidRequest(f"node {node.label!r}: agent and assigned_to say different things", f"{path}.assigned_to")
    return said.agent or said.assigned_to


# How an execution of one stands.

NODE_OF: Mapping[TaskStatus, WorkflowNodeExecutionStatus] = {
    TaskStatus.DONE: WorkflowNodeExecutionStatus.TASK_COMPLETED,
    TaskStatus.FAILED: WorkflowNodeExecutionStatus.TASK_FAILED,
    TaskStatus.CANCELLED: WorkflowNodeExecutionStatus.TASK_FAILED,
}
"""What its task is; else it was created, and is not over."""

EXECUTION_OF: Mapping[ExecutionStatus, WorkflowExecutionStatus] = {
    ExecutionStatus.ACTIVE: WorkflowExecutionStatus.RUNNING,
    ExecutionStatus.PAUSED: WorkflowExecutionStatus.RUNNING,
    ExecutionStatus.CANCELLING: WorkflowExecutionStatus.RUNNING,
    ExecutionStatus.COMPLETED: WorkflowExecutionStatus.COMPLETED,
    ExecutionStatus.FAILED: WorkflowExecutionStatus.FAILED,
    ExecutionStatus.CANCELLED: WorkflowExecutionStatus.CANCELLED,
}


def begun(definition: WorkflowDefinition, tasks: Mapping[str, str]) -> tuple[WorkflowNodeExecution, ...]:
    """Its nodes as an execution begins; `tasks` are their ids by the node.  What is no task is in their dependencies."""
    return tuple(
        WorkflowNodeExecution(
            node_id=node.id,
            node_type=node.type,
            status=WorkflowNodeExecutionStatus.TASK_CREATED
            if node.id in tasks
            else WorkflowNodeExecutionStatus.COMPLETED,
            task_id=tasks.get(node.id),
        )
        for node in definition.nodes
    )


def brought_up_to_date(
    execution: WorkflowExecution,
    status: ExecutionStatus,
    why: str | None,
    tasks: Mapping[str, TaskStatus | None],
    now: datetime,
) -> WorkflowExecution:
    """The execution as that of its mission and these tasks of it stand (None: it is gone); itself, if nothing changed."""
    stands = EXECUTION_OF[status]
    over = stands in TERMINAL
    ended = (execution.completed_at or now) if over else None
    values: dict[str, Any] = {
        "status": stands,
        "node_executions": tuple(_node(node, tasks) for node in execution.node_executions),
        "completed_at": ended,
        "error": (why or "failed") if stands is WorkflowExecutionStatus.FAILED else None,
    }
    made = structs.replace(execution, **values)
    if made == execution:
        return execution
    return structs.replace(made, updated_at=now, version=execution.version + 1)


def _node(node: WorkflowNodeExecution, tasks: Mapping[str, TaskStatus | None]) -> WorkflowNodeExecution:
    if node.task_id is None or node.task_id not in tasks:
        return node
    task = tasks[node.task_id]
    if task is None:  # removed: one that was not over will never be done
        created = node.status is WorkflowNodeExecutionStatus.TASK_CREATED
        status = WorkflowNodeExecutionStatus.TASK_FAILED if created else node.status
    else:
        status = NODE_OF.get(task, WorkflowNodeExecutionStatus.TASK_CREATED)
    return structs.replace(node, status=status)
