"""A2A tasks as an Elkar store keeps them: what agents send each other, in the form of A2A 0.1.

Rules:

1. A document that is sent between agents (`A2ATask`, `Message`, `SendParams`, …) has A2A's camelCase when encoded; what a
   store says about it (`StoredTask`, `Changes`) has snake_case.  A key that A2A 0.1 does not have is ignored, as by Elkar.
2. Each value holds from its construction on: it is within its limits, with no NUL, no lone surrogate, no number that
   JSON would not bring back, no nesting without end, and every instant in UTC.  Anything else is a ValueError, by the one
   mechanism of `Sound`.  Of which type it is, is seen to where it is decoded, and by the type checker.
3. Nothing here changes: what a rule makes of a task is another task (rules/a2a.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_origin

import msgspec
from msgspec import Meta, Struct

from polpod.model.tasks import Instant

MOST = 2**53
"""The largest magnitude of a number that every JSON codec keeps exact."""

DEEPEST = 50
"""Lists and objects within each other in one value: with what is around it, it is no deeper than a message may be."""

TaskId = Annotated[str, Meta(min_length=1, max_length=500)]
Document = dict[str, Any]


class Sound(Struct, frozen=True, kw_only=True):
    """A struct whose values are within their limits, and what every store, and JSON, can keep (rule 2)."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            _refuse_unsound(getattr(self, name), name)
        for name, limited in _limits(type(self)):
            msgspec.structs.force_setattr(self, name, _within(getattr(self, name), limited, name))


@cache
def _limits(entity: type[Struct]) -> tuple[tuple[str, Any], ...]:
    """The fields that are declared with limits, and their types."""
    fields = msgspec.structs.fields(entity)
    return tuple((field.name, field.type) for field in fields if get_origin(field.type) is Annotated)


def _within(value: object, limited: Any, name: str) -> object:
    try:
        known = msgspec.convert(value, limited)
        return known.astimezone(UTC) if isinstance(known, datetime) else known
    except (ValueError, OverflowError) as exc:  # an instant may be one that UTC has no date for
        raise ValueError(f"{name}: {exc}") from exc


def _refuse_unsound(value: object, where: str, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ValueError(f"{where[:80]}: nested more than {DEEPEST} deep")
    match value:
        case str():
            if "\0" in value:
                raise ValueError(f"{where}: contains a NUL character")
            value.encode()  # a lone surrogate is a UnicodeEncodeError, so a ValueError
        case int() | float():
            if not -MOST <= value <= MOST:  # NaN is beyond, too
                raise ValueError(f"{where}: a number beyond ±2**53")
        case list() | tuple():
            for index, member in enumerate(value):
                _refuse_unsound(member, f"{where}[{index}]", depth + 1)
        case dict():
            for key, member in value.items():
                _refuse_unsound(key, f"a key of {where}")
                _refuse_unsound(member, f"{where}.{key}", depth + 1)
        case _:  # None, or a struct, which was looked at when it was made
            pass


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


class TextPart(Sound, frozen=True, kw_only=True, tag="text"):
    text: str
    metadata: Document | None = None


class FileContent(Sound, frozen=True, kw_only=True, rename="camel"):
    """Exactly one of `bytes` (in base64) and `uri` says what is in it."""

    name: str | None = None
    mime_type: str | None = None
    bytes: str | None = None
    uri: str | None = None

    def __post_init__(self) -> None:
        Sound.__post_init__(self)
        if bool(self.bytes) is bool(self.uri):
            raise ValueError("a file has either bytes or a uri")


class FilePart(Sound, frozen=True, kw_only=True, tag="file"):
    file: FileContent
    metadata: Document | None = None


class DataPart(Sound, frozen=True, kw_only=True, tag="data"):
    data: Document
    metadata: Document | None = None


Part = TextPart | FilePart | DataPart


class Message(Sound, frozen=True, kw_only=True):
    role: Role
    parts: tuple[Part, ...]
    metadata: Document | None = None


class TaskStatus(Sound, frozen=True, kw_only=True):
    state: TaskState
    message: Message | None = None
    timestamp: Instant


class Artifact(Sound, frozen=True, kw_only=True, rename="camel"):
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


class PushNotification(Sound, frozen=True, kw_only=True):
    """Where a client wants to be told; `authentication` is an Authentication, with whatever else that place asks for."""

    url: str
    token: str | None = None
    authentication: Document | None = None

    def __post_init__(self) -> None:
        Sound.__post_init__(self)
        if self.authentication is not None:
            msgspec.convert(self.authentication, Authentication)


class A2ATask(Sound, frozen=True, kw_only=True, rename="camel"):
    id: TaskId
    session_id: str | None = None
    status: TaskStatus
    artifacts: tuple[Artifact, ...] | None = None
    history: tuple[Message, ...] | None = None
    metadata: Document | None = None


class SendParams(Sound, frozen=True, kw_only=True, rename="camel"):
    """What a client says to begin a task, or to go on with it (`tasks/send`)."""

    id: TaskId
    session_id: str | None = None
    message: Message
    push_notification: PushNotification | None = None
    metadata: Document | None = None


class StoredTask(Sound, frozen=True, kw_only=True):
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


class Changes(Sound, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an update says; None is not said."""

    status: TaskStatus | None = None
    artifacts_updates: tuple[Artifact, ...] | None = None
    new_messages: tuple[Message, ...] | None = None
    metadata: Document | None = None
    push_notification: PushNotification | None = None
    caller_id: str | None = None


class Once(Sound, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which call of which client this is, so that it is carried out once however often it is sent.

    A client counts its calls, and has no later one under way before the earlier ones are answered or given up.
    """

    client: Annotated[str, Meta(min_length=1, max_length=64)]
    number: Annotated[int, Meta(ge=1)]


class KeptTask(Sound, frozen=True, kw_only=True):
    """A task as polpod keeps it: with its place in the order of creation, and who made it by which user or run."""

    stored: StoredTask
    seq: int
    created_by: int
    created_run: int | None = None
    calls: dict[str, int] = {}
    """The last call of each client that changed it (`Once`), the client that called last at the end."""
