"""From a mission document to what its tasks shall be: everything that can be refused is refused before a row is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

import msgspec

from polpod.config import Config
from polpod.errors import InvalidRequest, RequestError
from polpod.model.agents import Agent
from polpod.model.documents import DocumentTask, MissionDocument, read
from polpod.model.submissions import Submission
from polpod.model.tasks import Spec
from polpod.rules import durations, graphs, notifying, superiors
from polpod.services.rpc.refusal import invalid
from polpod.services.submission import specify, utc
from polpod.wire.jsonrpc import unacceptable

MOST_FAULTS = 20
"""That a message lists."""


class Planned(NamedTuple):
    """One task of a document, ready to be stored."""

    said: DocumentTask
    submission: Submission
    spec: Spec


def checked(text: str) -> MissionDocument:
    """The document, sound in itself.  Raises InvalidRequest, with the path of the first thing that is wrong."""
    try:
        document = read(text)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from exc
    except ValueError as exc:
        raise InvalidRequest(f"the document: {exc}", "$") from exc
    if (beyond := unacceptable(msgspec.json.decode(text))) is not None:
        path, why = beyond
        raise InvalidRequest(why, path)
    faults = graphs.faults(document)
    for n, delay in enumerate(document.delays):
        try:
            durations.seconds(delay.duration)
        except ValueError as exc:
            faults.append(graphs.Fault(f"$.delays[{n}].duration", str(exc)))
    if faults:
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        others = "".join(f"; {fault}" for fault in faults[1:MOST_FAULTS])
        raise InvalidRequest(f"{faults[0].message}{others}{more}", faults[0].path)
    return document


_PATHS = {"$.agent": ".assignTo"}
"""Where a field of a submission has another name in a document."""


def plan(document: MissionDocument, agents: Mapping[str, Agent], config: Config, root: str) -> list[Planned]:
    """Its tasks in their order, with what each executes; `agents` are those that there are beside its team, by name.

    Raises InvalidRequest, with the path of what is wrong.
    """
    for path, fault in notifying.faults(document, config.settings.told.channels):
        raise InvalidRequest(fault, path)
    planned = []
    team = {agent.name: agent for agent in team_of(document, config)}
    first = next(iter([*team.values(), *agents.values()]), None)
    agents = {**agents, **team}
    for n, agent in enumerate(team.values()):
        if (problem := superiors.fault(agent.name, agent.reports_to, agents)) is not None:
            raise InvalidRequest(problem, f"$.team[{n}].reportsTo")
    for n, said in enumerate(document.tasks):
        submission = _submission(said, first)
        try:
            utc(submission.deadline, "$.deadline")
            planned.append(Planned(said, submission, specify(submission, config, root, agents)))
        except InvalidRequest as exc:
            path = _PATHS.get(exc.path, exc.path.removeprefix("$"))
            raise InvalidRequest(str(exc), f"$.tasks[{n}]{path}") from exc
        except RequestError as exc:
            raise type(exc)(f"task {said.title!r}: {exc}") from exc
    return planned


def team_of(document: MissionDocument, config: Config) -> tuple[Agent, ...]:
    """The agents that come with an execution of it."""
    return document.team if config.settings.enable_volatile_teams else ()


def _submission(said: DocumentTask, first: Agent | None) -> Submission:
    """Without an agent and without a command, it is the first agent's (polpo-behaviour §8.4)."""
    agent = said.assign_to
    if agent is None and said.command is None and said.shell is None and first is not None:
        agent = first.name
    return Submission(
        title=said.title,
        description=said.description,
        agent=agent,
        command=said.command,
        shell=said.shell,
        cwd=said.cwd,
        env=said.env,
        project=said.project,
        queue=said.queue,
        labels=said.labels,
        priority=said.priority,
        expectations=said.expectations,
        metrics=said.metrics,
        max_retries=said.max_retries,
        retry_delay=_seconds(said.retry_delay),
        max_duration=_seconds(said.max_duration),
        stale_threshold=_seconds(said.stale_threshold),
        side_effects=said.side_effects,
        needs_approval=said.needs_approval,
        approve_done=said.approve_done,
        budget=None if said.budget is None else said.budget.in_seconds(),
        deadline=said.deadline,
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds).total_seconds()
