"""Who takes over an agent's work: found by name, and given it.  Only those are looked up whom a decision may be about."""

from __future__ import annotations

from msgspec import structs

from polpod.config import Config
from polpod.model.agents import Agent
from polpod.model.changes import Change
from polpod.model.policies import Terms
from polpod.model.tasks import Task
from polpod.rules.again import candidates
from polpod.rules.prompts import original
from polpod.services.submission import filled
from polpod.store import queries
from polpod.store.records import Tx
from polpod.store.tables import Specs


def terms_of(tx: Tx, config: Config, task: Task | None) -> Terms:
    """What follows when an attempt at this task fails."""
    settings = config.settings
    terms = Terms(
        max_fix_attempts=settings.max_fix_attempts,
        max_assessment_retries=settings.max_assessment_retries,
        retry_policy=settings.default_retry_policy,
        escalation=settings.escalation_policy,
    )
    if task is None or task.assigned_to is None:
        return terms
    superiors: dict[str, str | None] = {}
    named = [task.assigned_to, *candidates(task, terms)]
    while named:
        agent = _find(config, named.pop())
        if agent is not None and agent.name not in superiors:
            superiors[agent.name] = agent.reports_to
            if agent.name == task.assigned_to and agent.reports_to is not None:
                named.append(agent.reports_to)
    return structs.replace(terms, superiors=superiors)


def handed_over(tx: Tx, config: Config, before: Task, change: Change) -> Change:
    """The change of a task that went over to another agent, with what that one executes; the place of the work stays."""
    task = change.task
    old, new = _find(config, before.assigned_to or ""), _find(config, task.assigned_to or "")
    stored = tx[Specs].get(before.spec_id) if before.spec_id else None
    if stored is None or new is None or old is None or stored.spec.command != filled(old, original(before)):
        return change  # it has a command of its own, whoever it is given to
    spec = structs.replace(stored.spec, command=filled(new, task.description), env=stored.spec.env | new.env)
    queries.let_go_of_spec(tx, before.spec_id)
    return structs.replace(change, task=structs.replace(task, spec_id=queries.keep_spec(tx, spec)))


def _find(config: Config, name: str) -> Agent | None:
    return next((agent for agent in config.agents if agent.name == name), None)
