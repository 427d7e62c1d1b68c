"""Who takes over an agent's work: found by name, and given it.  Only those are looked up whom a decision may be about."""

from __future__ import annotations

from msgspec import structs

from polpod.config import Config
from polpod.errors import RequestError
from polpod.model.changes import Change
from polpod.model.policies import Terms
from polpod.model.tasks import Task
from polpod.rules.again import candidates
from polpod.services import agents, assignment
from polpod.store.records import Tx


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
        name = named.pop()
        if (found := agents.find(tx, config, name, task.execution_id)) is None:
            continue
        whole, agent = found
        if name not in superiors:
            superiors[name] = agent.reports_to
            if whole == task.assigned_to and agent.reports_to is not None:
                named.append(agent.reports_to)
    return structs.replace(terms, superiors=superiors)


def handed_over(tx: Tx, config: Config, before: Task, change: Change) -> Change:
    """The change of a task that went over to another agent, with what that one executes; the place of the work stays."""
    try:
        values = assignment.assigned(tx, before, change.task.assigned_to, config)
    except RequestError:  # it is gone since, or has no command of its own: the task waits for it, and says so
        return change
    return structs.replace(change, task=structs.replace(change.task, **values))
