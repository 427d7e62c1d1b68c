"""A2A tasks as an Elkar store keeps them: what agents send each other, in the form of A2A 0.1.

Rules:

1. A document that is sent between agents (`A2ATask`, `Message`, `SendParams`, …) has A2A's camelCase when encoded; what a
   store says about it (`StoredTask`, `Changes`) has snake_case.  A key that A2A 0.1 does not have is ignored, as by Elkar.
2. Each value holds from its construction on (model/entity.py).
3. Nothing here changes: what a rule makes of a task is another task (rules/a2a.py).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from polpod.model.entity import Entity
from polpod.model.tasks import Instant

TaskId = Annotated[str, Meta(min_length=1, max_length=500)]
Document = dict[str, Any]


class TaskState(StrEnum):
    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input-required"
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"
    UNKNOWN = "unknown"


class TaskType(StrEnum):
    OUTGOING = "outgoing"
    INCOMING = "incoming"


class Role(StrEnum):
    USER = "user"
    AGENT = "agent"


class TextPart(Entity, frozen=True, kw_only=True, tag="text"):
    text: str
    metadata: Document | None = None


class FileContent(Entity, frozen=True, kw_only=True, rename="camel"):
    """Exactly one of `bytes` (in base64) and `uri` says what is in it."""

    name: str | None = None
    mime_type: str | None = None
    bytes: str | None = None
    uri: str | None = None
    rules = (lambda file: "a file has either bytes or a uri" if bool(file.bytes) is bool(file.uri) else None,)


class FilePart(Entity, frozen=True, kw_only=True, tag="file"):
    file: FileContent
    metadata: Document | None = None


class DataPart(Entity, frozen=True, kw_only=True, tag="data"):
    data: Document
    metadata: Document | None = None


Part = TextPart | FilePart | DataPart


class Message(Entity, frozen=True, kw_only=True):
    role: Role
    parts: tuple[Part, ...]
    metadata: Document | None = None


class TaskStatus(Entity, frozen=True, kw_only=True):
    state: TaskState
    message: Message | None = None
    timestamp: Instant


class Artifact(Entity, frozen=True, kw_only=True, rename="camel"):
    """What an agent made.  `index` tells the artifacts of a task apart; after `last_chunk` nothing is appended."""

    name: str | None = None
    description: str | None = None
    parts: tuple[Part, ...]
    metadata: Document | None = None
    index: int = 0
    append: bool | None = None
    last_chunk: bool | None = None


class Authentication(Struct, frozen=True, kw_only=True):
    """What is the same in every place's."""

    schemes: tuple[str, ...]
    credentials: str | None = None


def _problem(value: Document | None, kind: Any) -> str | None:
    try:
        msgspec.convert(value, kind)
    except ValueError as error:
        return str(error)
    return None


class PushNotification(Entity, frozen=True, kw_only=True):
    """Where a client wants to be told; `authentication` is an Authentication, with whatever else that place asks for."""

    url: str
    token: str | None = None
    authentication: Document | None = None
    rules = (lambda push: _problem(push.authentication, Authentication | None),)


class A2ATask(Entity, frozen=True, kw_only=True, rename="camel"):
    id: TaskId
    session_id: str | None = None
    status: TaskStatus
    artifacts: tuple[Artifact, ...] | None = None
    history: tuple[Message, ...] | None = None
    metadata: Document | None = None


class SendParams(Entity, frozen=True, kw_only=True, rename="camel"):
    """What a client says to begin a task, or to go on with it (`tasks/send`)."""

    id: TaskId
    session_id: str | None = None
    message: Message
    push_notification: PushNotification | None = None
    metadata: Document | None = None


class StoredTask(Entity, frozen=True, kw_only=True):
    """`caller_id`: whose task it is, None for nobody's in particular."""

    id: TaskId
    caller_id: str | None = None
    task_type: TaskType = TaskType.INCOMING
    is_streaming: bool = False
    task: A2ATask
    push_notification: PushNotification | None = None
    created_at: Instant
    updated_at: Instant
    agent_url: str | None = None


class Changes(Entity, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an update says; None is not said."""

    status: TaskStatus | None = None
    artifacts_updates: tuple[Artifact, ...] | None = None
    new_messages: tuple[Message, ...] | None = None
    metadata: Document | None = None
    push_notification: PushNotification | None = None
    caller_id: str | None = None


class Once(Entity, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which call of which client this is, so that it is carried out once however often it is sent.

    A client counts its calls, and has no later one under way before the earlier ones are answered or given up.
    """

    client: Annotated[str, Meta(min_length=1, max_length=64)]
    number: Annotated[int, Meta(ge=1)]


class A2AAssignment(Struct, frozen=True):
    """polpod's task works on what a user said in an A2A task: the message at this place of its history."""

    task_id: str
    a2a_id: TaskId
    message: Annotated[int, Meta(ge=0)]
    behind: bool = False
    """The task changed, and the A2A task does not say so yet."""


class KeptTask(Entity, frozen=True, kw_only=True):
    """A task as polpod keeps it: with its place in the order of creation, and who made it by which user or run."""

    stored: StoredTask
    seq: int
    created_by: int
    created_run: int | None = None
    calls: dict[str, int] = {}
    """The last call of each client that changed it (`Once`), the client that called last at the end."""
