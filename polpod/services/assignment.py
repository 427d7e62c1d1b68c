"""Gives work to agents: what of a spec is the agent's, and what a task is when another agent takes it over."""

from __future__ import annotations

from msgspec import structs

from polpod.config import Config
from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.agents import Agent
from polpod.model.tasks import Lent, Spec, Task
from polpod.rules import templates
from polpod.services import agents
from polpod.store import queries
from polpod.store.records import Tx
from polpod.store.tables import Specs

_BY_STDIN = "give the agent its prompt by stdin or from a file instead (its `prompt`, and {prompt_file} in its command)"


def command_of(agent: Agent) -> tuple[str, ...]:
    """Raises InvalidRequest: it has none."""
    if not agent.command:
        raise InvalidRequest(f"agent {agent.name} has no command, and the task names none", "$.agent")
    return agent.command


def lent(agent: Agent, *, cwd: bool) -> Lent:
    """What the agent gives to a spec that has its command; `cwd`: its working directory, too."""
    return Lent(prompt=agent.prompted, env=agent.env, cwd=cwd)


def refuse_prompt(spec: Spec, title: str, description: str) -> None:
    """Raises InvalidRequest for what cannot be put into the agent's command."""
    if spec.template is None or spec.agent is None:
        return
    for text, path in ((title, "$.title"), (description, "$.description")):
        if "\0" in text:
            raise InvalidRequest("a NUL character cannot be handed to a program", path)
    if spec.agent.prompt == "stdin" and spec.stdin is not None:
        raise InvalidRequest("stdin: the agent has its prompt there", "$.stdin")
    values = dict.fromkeys(templates.PLACES, "") | {"title": title, "prompt": description}
    if (size := templates.longest(templates.fill(spec.template, values))) > templates.LONGEST_ARGUMENT:
        most = templates.LONGEST_ARGUMENT
        raise InvalidRequest(f"an argument of {size} bytes, and a program takes none of more than {most}: {_BY_STDIN}",
                             "$.description")  # fmt: skip


def assigned(tx: Tx, task: Task, name: str | None, config: Config) -> dict[str, object]:
    """The values of a task that this agent has from now on; None: nobody, and it is a plain command.

    The rest of what it executes stays: its own environment, and its directory where that was not the agent's before.
    Raises NotFound: no such agent; Conflict: there is nothing that could be executed so.
    """
    stored = tx[Specs].get(task.spec_id) if task.spec_id else None
    if stored is None:
        raise Conflict(f"task {task.id} says nothing to execute: who takes it is not polpod's matter")
    spec = stored.spec
    if name is None:
        if spec.template is not None:
            raise Conflict(f"task {task.id} has no command but its agent's: it cannot do without one")
        whole, given = None, structs.replace(spec, agent=None)
    else:
        whole, agent = agents.require(tx, config, name, task.execution_id)
        given = _given(spec, agent)
    if given == spec and whole == task.assigned_to:
        return {}
    spec_id = queries.keep_spec(tx, given)
    if spec_id != task.spec_id:
        queries.let_go_of_spec(tx, task.spec_id)
    return {"assigned_to": whole, "spec_id": spec_id}


def _given(spec: Spec, agent: Agent) -> Spec:
    before = Lent() if spec.agent is None else spec.agent
    cwd = agent.cwd if before.cwd and agent.cwd is not None else spec.cwd
    if spec.template is None:
        return structs.replace(spec, cwd=cwd, agent=Lent(env=agent.env, cwd=before.cwd))
    if not agent.command:
        raise NotFound(f"agent {agent.name} has no command, and the task has none of its own")
    return structs.replace(spec, command=agent.command, cwd=cwd, agent=lent(agent, cwd=before.cwd))
