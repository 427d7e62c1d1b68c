"""What happens to an A2A task when it is sent a message, looked at, or updated: the rules of an Elkar store.

Rules:

1. The task as it is and what is asked in, the task as it will be out; a refusal is an error, and nothing has changed.
2. A task is its caller's: nobody else's message reaches it, and nobody else takes it over.  One without a caller is
   taken over by the first update that names one, which is how Elkar's streaming claims it.
3. Any state may follow any other: which one does is the agent's business.
4. What a task says is only ever added to: messages in order, the parts of an artifact up to its last chunk.  Metadata is
   merged by a message and replaced by an update.

No clock: `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from polpod.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, TooLarge
from polpod.model import tasks
from polpod.model.a2a import (
    A2ATask,
    Artifact,
    Changes,
    Message,
    SendParams,
    StoredTask,
    TaskState,
    TaskStatus,
    TextPart,
)

LARGEST = 2**18
"""Bytes of JSON that a stored task may have, its history and artifacts included."""


def upsert(
    known: StoredTask | None,
    params: SendParams,
    now: datetime,
    *,
    is_streaming: bool = False,
    caller_id: str | None = None,
) -> StoredTask:
    """The task that the message begins, or the known one with it.

    Raises PermissionDenied for another caller's task, TooLarge.
    """
    if known is None:
        return _fitting(_begun(params, now, is_streaming, caller_id))
    if known.caller_id != caller_id:
        raise PermissionDenied(f"task {known.id!r} is another caller's")
    task = replace(
        known.task,
        history=(*(known.task.history or ()), params.message),
        metadata=known.task.metadata if params.metadata is None else (known.task.metadata or {}) | params.metadata,
    )
    push = params.push_notification or known.push_notification
    return _fitting(replace(known, task=task, push_notification=push, updated_at=now))


def update(known: StoredTask | None, task_id: str, changes: Changes, now: datetime) -> StoredTask:
    """The task with these changes, all of them or none.

    Raises NotFound, PermissionDenied for another caller's task, Conflict for an artifact that is complete, TooLarge.
    """
    if known is None:
        raise absent(task_id)
    if changes.caller_id is not None and known.caller_id not in (None, changes.caller_id):
        raise PermissionDenied(f"task {known.id!r} is another caller's")
    task = replace(
        known.task,
        status=changes.status or known.task.status,
        history=(*(known.task.history or ()), *_said(changes)),
        artifacts=_with_artifacts(known.task, changes.artifacts_updates or ()),
        metadata=known.task.metadata if changes.metadata is None else changes.metadata,
    )
    return _fitting(
        replace(
            known,
            task=task,
            caller_id=known.caller_id if changes.caller_id is None else changes.caller_id,
            push_notification=changes.push_notification or known.push_notification,
            updated_at=now,
        )
    )


def shown(
    known: StoredTask | None, *, caller_id: str | None = None, history_length: int | None = None
) -> StoredTask | None:
    """The task as this caller may see it (None: any caller), with the last messages of its history, at most that many.

    None where there is none, or it is another caller's.  Raises InvalidRequest for a length below 0.
    """
    if history_length is not None and history_length < 0:
        raise InvalidRequest("a length is 0 or more", "$.history_length")
    if known is None or caller_id not in (None, known.caller_id):
        return None
    history = known.task.history
    if history is None or history_length is None or len(history) <= history_length:
        return known
    return replace(known, task=replace(known.task, history=history[len(history) - history_length :]))


STATES: Mapping[tasks.TaskStatus, TaskState] = {
    tasks.TaskStatus.DRAFT: TaskState.SUBMITTED,
    tasks.TaskStatus.PENDING: TaskState.SUBMITTED,
    tasks.TaskStatus.ASSIGNED: TaskState.WORKING,
    tasks.TaskStatus.IN_PROGRESS: TaskState.WORKING,
    tasks.TaskStatus.REVIEW: TaskState.WORKING,
    tasks.TaskStatus.AWAITING_APPROVAL: TaskState.INPUT_REQUIRED,
    tasks.TaskStatus.DONE: TaskState.COMPLETED,
    tasks.TaskStatus.FAILED: TaskState.FAILED,
    tasks.TaskStatus.CANCELLED: TaskState.CANCELED,
}
"""The state of an A2A task that one of polpod's own works on."""

OVER = frozenset({TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED})


def state_of(task: tasks.Task | None, known: TaskState) -> TaskState:
    """The state of an A2A task that this one works on (None: it was removed), and which was in this state."""
    if task is None:
        return known if known in OVER else TaskState.CANCELED
    if task.cancelled_by is not None and not task.finished:
        return TaskState.CANCELED  # its job is being ended
    if task.status is tasks.TaskStatus.AWAITING_APPROVAL and task.result is not None and task.result.status == "lost":
        return TaskState.UNKNOWN  # nobody knows what it did: a person decides whether it is done again
    return STATES[task.status]


def work_of(known: StoredTask, task: tasks.Task, text: str) -> Artifact:
    """What the newest run of the task wrote, or the end of it, as another artifact."""
    result = task.result
    outcome: dict[str, object] = {"run_id": task.run_id, "status": task.status}
    if result is not None and result.run_id == task.run_id:
        outcome |= {"reason": result.reason, "exit_code": result.exit_code}
    return Artifact(
        name=f"log of task {task.id}",
        parts=(TextPart(text=text),),
        index=max((artifact.index for artifact in known.task.artifacts or ()), default=-1) + 1,
        last_chunk=True,
        metadata={BY: {"task_id": task.id} | outcome},
    )


def has_work_of(known: StoredTask, task: tasks.Task) -> bool:
    """Whether there is an artifact of its newest run."""
    said = [(artifact.metadata or {}).get(BY) for artifact in known.task.artifacts or ()]
    return any(isinstance(by, dict) and by.get("run_id") == task.run_id for by in said)


BY = "polpod"
"""Key of the metadata of an artifact, under which is what polpod says of it."""


def absent(task_id: str) -> NotFound:
    return NotFound(f"there is no A2A task {task_id!r}")


def _begun(params: SendParams, now: datetime, is_streaming: bool, caller_id: str | None) -> StoredTask:
    task = A2ATask(
        id=params.id,
        session_id=params.session_id,
        status=TaskStatus(state=TaskState.SUBMITTED, timestamp=now),
        history=(params.message,),
        metadata=params.metadata,
    )
    return StoredTask(
        id=params.id,
        caller_id=caller_id,
        is_streaming=is_streaming,
        task=task,
        push_notification=params.push_notification,
        created_at=now,
        updated_at=now,
    )


def _said(changes: Changes) -> tuple[Message, ...]:
    """The messages to append: that of the status, too, unless it is among the new ones, as Elkar's streaming has it."""
    new = changes.new_messages or ()
    message = changes.status.message if changes.status is not None else None
    return new if message is None or message in new else (message, *new)


def _with_artifacts(task: A2ATask, updates: tuple[Artifact, ...]) -> tuple[Artifact, ...] | None:
    artifacts = {artifact.index: artifact for artifact in task.artifacts or ()}
    for artifact in updates:
        begun = artifacts.get(artifact.index)
        artifacts[artifact.index] = artifact if begun is None else _appended(begun, artifact)
    return tuple(artifacts.values()) or task.artifacts


def _appended(begun: Artifact, more: Artifact) -> Artifact:
    if begun.last_chunk:
        raise Conflict(f"artifact {begun.index} is complete: its last chunk has come")
    return replace(begun, parts=(*begun.parts, *more.parts), last_chunk=more.last_chunk)


def _fitting(stored: StoredTask) -> StoredTask:
    if (size := len(msgspec.json.encode(stored))) > LARGEST:
        raise TooLarge(
            f"task {stored.id!r}: {size} bytes of JSON, and at most {LARGEST}; send large files by their uri"
        )
    return stored
