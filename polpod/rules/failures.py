"""Why a task failed, in a sentence: what its work or its checks came to, or who decided it."""

from __future__ import annotations

from polpod.model.polpo.approvals import ApprovalRequest, ApprovalStatus
from polpod.model.tasks import Task
from polpod.rules.deadlines import BY_DEADLINE

MOST_NAMED = 3
"""Checks in one sentence."""


def sentence(task: Task, rejected: ApprovalRequest | None) -> str:
    """`rejected`: the request by which it failed, if that is how."""
    if (decided := _decided(task, rejected)) is not None:
        return f"Task {task.id} failed: {decided}."
    result = task.result
    if result is None:
        return f"Task {task.id} failed before it ran."
    tried = f" It was tried {task.attempts} times." if task.attempts > 1 else ""
    if (found := not_passed(task)) is not None:
        return f"Task {task.id} did not pass its checks: {found}.{tried}"
    how = {
        "exited": f"its command exited with {result.exit_code}",
        "signalled": f"its command was ended by signal {result.signal}",
        "oom": result.error or "it used more memory than it may",
        "spawn_failed": f"its command could not be executed: {result.error}",
        "timeout": "it ran longer than its max_duration",
        "stale": "it showed no activity",
    }.get(result.reason, result.reason)
    return f"Task {task.id} failed: {how}.{tried}"


def steps(task: Task, rejected: ApprovalRequest | None) -> tuple[str, ...]:
    """The commands that tell more, or change it."""
    again = f"polpoctl retry {task.id}"
    if task.result is None:
        return (again,)
    if not_passed(task) is not None and _decided(task, rejected) is None:
        return (f"polpoctl show {task.id}", f"polpoctl reassess {task.id}", again)
    return (f"polpoctl logs {task.id}", again)


def not_passed(task: Task) -> str | None:
    """What its checks found, in short; None: they passed, or there were none of this result."""
    found = task.result.assessment if task.result is not None else None
    if found is None or found.get("passed") is True:
        return None
    parts = [part for name in ("checks", "metrics") if isinstance(part := found.get(name), list | tuple)]
    bad = [one for part in parts for one in part if isinstance(one, dict) and one.get("passed") is not True]
    named = [f"{one.get('label') or one.get('name')} ({one.get('message')})" for one in bad[:MOST_NAMED]]
    more = f" and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
    return ", ".join(named) + more if named else str(found.get("message") or "nobody knows why")


def _decided(task: Task, rejected: ApprovalRequest | None) -> str | None:
    if task.cancelled_by == BY_DEADLINE:
        return "its deadline had passed"
    if rejected is None:
        return None
    if rejected.status is ApprovalStatus.TIMEOUT:
        return f"nobody approved it in time ({rejected.id})"
    said = f": {' '.join(rejected.feedback.split())[:200]}" if rejected.feedback else ""
    return f"{rejected.resolved_by} rejected it ({rejected.id}){said}"
