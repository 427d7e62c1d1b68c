"""How a task of polpod's own looks to an organisation of agents: one pure mapping, one way.

What an organisation cannot leave blank, and polpod can, gets a stand-in: nobody is taken for `polpod`, no project for
the project `polpod`, no text for the title or the id.
"""

from __future__ import annotations

from collections.abc import Mapping

from polpod.model.organisation import work
from polpod.model.tasks import Task, TaskStatus

STAND_IN = "polpod"
"""Project of tasks without one, and assignee of those that polpod carries out by itself."""

S = work.TaskStatus

STATUSES: Mapping[TaskStatus, tuple[work.TaskStatus, work.TaskStatus]] = {
    TaskStatus.DRAFT: (S.CREATED, S.ASSIGNED),
    TaskStatus.PENDING: (S.CREATED, S.ASSIGNED),
    TaskStatus.AWAITING_APPROVAL: (S.BLOCKED, S.BLOCKED),
    TaskStatus.ASSIGNED: (S.ASSIGNED, S.ASSIGNED),
    TaskStatus.IN_PROGRESS: (S.IN_PROGRESS, S.IN_PROGRESS),
    TaskStatus.REVIEW: (S.IN_REVIEW, S.IN_REVIEW),
    TaskStatus.DONE: (S.COMPLETED, S.COMPLETED),
    TaskStatus.FAILED: (S.FAILED, S.FAILED),
    TaskStatus.CANCELLED: (S.CANCELLED, S.CANCELLED),
}
"""What a status is for a task that nobody is assigned to, and for one with an assignee."""


def as_seen(task: Task) -> work.Task:
    """The task as an organisation's; `task` must be of polpod's own."""
    agent = _said(task.assigned_to)
    status = STATUSES[task.status][agent is not None]
    title = _said(task.title) or task.id
    return work.Task(
        id=task.id,
        title=title,
        description=_said(task.description) or title,
        type=work.TaskType.DEVELOPMENT,
        priority=_priority(task.priority),
        project=_said(task.project) or STAND_IN,
        created_by=f"uid:{task.created_by}",
        assigned_to=STAND_IN if agent is None and status in work.ASSIGNEE_NEEDED else agent,
        dependencies=tuple(dict.fromkeys(name for name in task.depends_on if name.strip() and name != task.id)),
        deadline=task.deadline.isoformat() if task.deadline else None,
        max_retries=task.max_retries or 0,
        status=status,
    )


def _said(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _priority(number: int) -> work.Priority:
    if number == 0:
        return work.Priority.MEDIUM
    return work.Priority.HIGH if number > 0 else work.Priority.LOW
