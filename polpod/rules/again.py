"""What follows when an attempt did not succeed: a fix, a retry, somebody else, or the end (polpo-behaviour §9.1, §9.2).

Rules:

1. Only work of an agent is fixed, and told what failed: a plain command does not read.
2. A fix spends no retry, a retry spends one, and so does each level of the escalation policy.
3. What has side effects is not repeated by itself: where another attempt would follow, a person decides.
4. Each way is one change, so that a daemon that dies leaves a task before it or behind it (W12).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from polpod.model.assessments import Assessment
from polpod.model.changes import Change
from polpod.model.policies import DefaultRetryPolicy, EscalationLevel, RetryPolicy, Terms
from polpod.model.runs import Reason
from polpod.model.tasks import Task, TaskResult, TaskStatus
from polpod.rules import retry
from polpod.rules.prompts import original
from polpod.rules.tasks import event, unsafe_set_status, walk


class Circumstances(Struct, frozen=True, kw_only=True):
    """What a decision depends on beside the task, its run and the time."""

    roll: float
    """In [0, 1): the luck of the backoff's jitter."""
    tail: str = ""
    """The last of what the run wrote."""
    assessment: Assessment | None = None
    """What it found, if it was a run of checks."""
    terms: Terms = Terms()


def fix(task: Task, now: datetime, c: Circumstances, told: str, result: TaskResult | None) -> Change | None:
    """The work is there, and its agent puts right what checks found; None: it is not to be fixed (any more)."""
    if task.assigned_to is None or task.cancelled_by is not None or task.fix_attempts >= c.terms.max_fix_attempts:
        return None
    attempt = task.fix_attempts + 1
    if task.side_effects:
        return _blocked(task, now, "its checks failed", result)
    noted = event(task, "task:fix", now, attempt=attempt, max_fix=c.terms.max_fix_attempts)
    moved = unsafe_set_status(task, TaskStatus.PENDING, f"fix {attempt} of {c.terms.max_fix_attempts}", now)
    fresh = msgspec.structs.replace(
        moved.task, phase="fix", fix_attempts=attempt, assessing=None, assessment_retries=0, outcomes=(), result=result,
        description=told, original_description=original(task),
    )  # fmt: skip
    return Change(fresh, (noted, *moved.events))


def retry_or_fail(
    task: Task, now: datetime, c: Circumstances, reason: Reason, *, why: str, told: str, result: TaskResult | None
) -> Change:
    """Another attempt from the beginning, if there is one left; else whoever is next, or the end.

    `told`: what an agent is told then.
    """
    failed = walk(task, now, TaskStatus.FAILED, why=why, result=result, assessing=None)
    if task.cancelled_by is not None:
        return failed
    values: dict[str, object] = {"phase": "execution", "fix_attempts": 0, "assessment_retries": 0, "outcomes": ()}
    if task.assigned_to is not None:
        values |= {"description": told, "original_description": original(task)}
    wait = retry.delay(task.backoff, task.retries - task.manual_retries, c.roll)
    values["not_before"] = now + timedelta(seconds=wait)
    if retry.allowed(task, reason):
        if task.side_effects:
            return _blocked(task, now, why, result)
        agent = _successor(task, c.terms)
        body: dict[str, object] = {"retries": failed.task.retries + 1, "delay": wait}
        if agent is not None and agent != task.assigned_to:
            values["assigned_to"] = body["agent"] = agent
        return _again(failed, now, "task:retry", "retry", body, values)
    spent = (event(task, "task:maxRetries", now, retries=task.retries),) if task.retries else ()
    level = _level(task, c.terms, reason)
    if level is None:
        return Change(failed.task, (*spent, *failed.events))
    escalations = {"escalations": task.escalations + 1}
    body = {"level": level.level, "handler": level.handler, "target": level.target}
    triggered = event(task, "escalation:triggered", now, **body)
    target = _target(task, level, c.terms)
    if target is None or task.side_effects:
        channels = {"notify_channels": list(level.notify_channels)} if level.notify_channels else {}
        asked = event(task, "escalation:human", now, level=level.level, message=why, **channels)
        parked = walk(
            task, now, TaskStatus.AWAITING_APPROVAL, why="escalation", result=result, assessing=None, **escalations
        )
        return Change(parked.task, (*spent, triggered, asked, *parked.events))
    body = {"level": level.level, "action": "reassigned", "agent": target}
    change = _again(
        failed, now, "escalation:resolved", "escalation", body, values | escalations | {"assigned_to": target}
    )
    return Change(change.task, (*spent, triggered, *change.events))


def _again(
    failed: Change, now: datetime, kind: str, why: str, body: dict[str, object], values: dict[str, object]
) -> Change:
    again = walk(failed.task, now, TaskStatus.PENDING, why=why, **values)
    return failed.and_then(Change(again.task, (event(failed.task, kind, now, **body), *again.events)))


def _blocked(task: Task, now: datetime, why: str, result: TaskResult | None) -> Change:
    noted = event(task, "task:retry:blocked", now, reason=why)
    parked = walk(task, now, TaskStatus.AWAITING_APPROVAL, why="side effects", result=result, assessing=None)
    return Change(parked.task, (noted, *parked.events))


def policy_of(task: Task, terms: Terms) -> RetryPolicy | None:
    """The task's own, or that of polpo.json."""
    if task.retry_policy is None:
        return terms.retry_policy
    try:
        return msgspec.convert(task.retry_policy, DefaultRetryPolicy)
    except msgspec.ValidationError:  # a program that has the store as a library keeps there what it likes
        return terms.retry_policy


def candidates(task: Task, terms: Terms) -> list[str]:
    """Agents that may take the task over, beside whom its own reports to."""
    policy, escalation = policy_of(task, terms), terms.escalation
    named = [policy.fallback_agent] if policy is not None else []
    named += [level.target for level in escalation.levels] if escalation is not None else []
    return [name for name in named if name is not None]


def _successor(task: Task, terms: Terms) -> str | None:
    """Who makes the next attempt instead of its agent; None: nobody (§13.151, §13.152)."""
    policy = policy_of(task, terms)
    if task.assigned_to is None or policy is None or policy.escalate_after is None:
        return None
    if task.retries - task.manual_retries + 1 < policy.escalate_after:
        return None
    return _known(policy.fallback_agent or terms.superiors.get(task.assigned_to), task, terms)


def _level(task: Task, terms: Terms, reason: Reason) -> EscalationLevel | None:
    """The next level of the escalation policy; only an agent's failures go that way."""
    if task.assigned_to is None or terms.escalation is None or reason is Reason.SPAWN_FAILED:
        return None
    levels = sorted(terms.escalation.levels, key=lambda level: level.level)
    return levels[task.escalations] if task.escalations < len(levels) else None


def _target(task: Task, level: EscalationLevel, terms: Terms) -> str | None:
    """The agent of this level; None: a person, also where there is no such agent."""
    if level.handler != "agent":
        return None
    return _known(level.target or terms.superiors.get(task.assigned_to or ""), task, terms)


def _known(agent: str | None, task: Task, terms: Terms) -> str | None:
    """The agent of that name: one that came with the task's mission before others."""
    own = f"{agent}@{task.execution_id}"
    return own if own in terms.superiors else agent if agent in terms.superiors else None
