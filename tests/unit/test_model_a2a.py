"""What an A2A document may hold: it holds from construction on, decoded or made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from kit.agents import message, status, text

from polpod.model.a2a import (
    A2ATask,
    Artifact,
    Changes,
    DataPart,
    FileContent,
    Message,
    Once,
    Part,
    PushNotification,
    Role,
    SendParams,
    TaskState,
    TaskStatus,
    TextPart,
)
from polpod.model.entity import LARGEST, MAX_DEPTH


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


UNSOUND: list[tuple[str, Callable[[], object]]] = [
    ("NUL", lambda: TextPart(text="a\0b")),
    ("NUL", lambda: A2ATask(id="a\0", status=status(TaskState.WORKING))),
    ("NUL", lambda: DataPart(data={"a": [{"b\0": 1}]})),
    ("NUL", lambda: Artifact(parts=text("a"), metadata={"a": "\0"})),
    ("surrogates", lambda: TextPart(text="\ud800")),
    ("surrogates", lambda: DataPart(data={"\udfff": 1})),
    ("finite", lambda: DataPart(data={"a": float("nan")})),
    ("finite", lambda: DataPart(data={"a": [float("-inf")]})),
    ("53 bits", lambda: DataPart(data={"a": LARGEST + 1})),
    ("deep", lambda: DataPart(data=nested(MAX_DEPTH + 1))),
    ("timezone", lambda: TaskStatus(state=TaskState.WORKING, timestamp=datetime(2026, 1, 1))),  # noqa: DTZ001
    ("timestamp", lambda: TaskStatus(state=TaskState.WORKING, timestamp=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))),
    ("length >= 1", lambda: A2ATask(id="", status=status(TaskState.WORKING))),
    ("length <= 500", lambda: SendParams(id="x" * 501, message=message("hi"))),
    (">= 1", lambda: Once(client="c", number=0)),
    ("schemes", lambda: PushNotification(url="u", authentication={})),
    ("schemes", lambda: PushNotification(url="u", authentication={"schemes": ["a", 1]})),
    ("either bytes or a uri", lambda: FileContent(name="a")),
    ("either bytes or a uri", lambda: FileContent(bytes="aGk=", uri="file:///a")),
    ("either bytes or a uri", lambda: FileContent(bytes="", uri="")),
]  # fmt: skip


@pytest.mark.parametrize(("because", "made"), UNSOUND)
def test_what_no_store_could_keep_cannot_be_made(because: str, made: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=because):
        made()


def test_what_is_at_the_edge_can() -> None:
    DataPart(data=nested(MAX_DEPTH - 1) | {"n": LARGEST, "m": -LARGEST, "f": 1e15, "b": True, "none": None, "é": "\n"})


@pytest.mark.parametrize(
    ("kind", "document", "at"),
    [
        (Message, {"role": "user", "parts": [{"type": "text", "text": "\0"}]}, "$.parts[0]"),
        (Message, {"role": "user", "parts": [{"type": "file", "file": {"name": "a"}}]}, "$.parts[0].file"),
        (Message, {"role": "user", "parts": [{"type": "video"}]}, "$.parts[0].type"),
        (Message, {"role": "system", "parts": []}, "$.role"),
        (TaskStatus, {"state": "rejected", "timestamp": "2026-01-01T00:00:00Z"}, "$.state"),
        (TaskStatus, {"state": "working", "timestamp": "2026-01-01T00:00:00"}, "$.timestamp"),
        (SendParams, {"id": "", "message": {"role": "user", "parts": []}}, "$.id"),
        (SendParams, {"id": "x" * 501, "message": {"role": "user", "parts": []}}, "$.id"),
        (Changes, {"state": "working"}, "unknown field `state`"),
        (Once, {"client": "", "number": 1}, "$.client"),
        (Once, {"client": "c", "number": 0}, "$.number"),
    ],
)
def test_a_document_is_refused_with_the_path_of_what_is_wrong(kind: type, document: dict[str, Any], at: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(document, kind)
    assert at in str(refused.value)


def test_instants_become_utc() -> None:
    at = datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    made = TaskStatus(state=TaskState.WORKING, timestamp=at)
    assert (made.timestamp.isoformat(), made.timestamp.tzinfo) == ("2026-01-01T00:00:00+00:00", UTC)
    assert msgspec.convert({"state": "working", "timestamp": at.isoformat()}, TaskStatus) == made


def test_what_agents_send_has_the_names_of_a2a() -> None:
    parts: tuple[Part, ...] = (*text("hi"),)
    artifact = Artifact(name="a", parts=parts, last_chunk=True)
    task = A2ATask(id="t", session_id="s", status=status(TaskState.INPUT_REQUIRED), artifacts=(artifact,), history=())
    assert json.loads(msgspec.json.encode(task)) == {
        "id": "t",
        "sessionId": "s",
        "status": {"state": "input-required", "message": None, "timestamp": "2026-03-01T12:00:00Z"},
        "artifacts": [
            {
                "name": "a",
                "description": None,
                "parts": [{"type": "text", "text": "hi", "metadata": None}],
                "metadata": None,
                "index": 0,
                "append": None,
                "lastChunk": True,
            }
        ],
        "history": [],
        "metadata": None,
    }
    sent = {"id": "t", "sessionId": "s", "message": {"role": "agent", "parts": []}, "historyLength": 3, "later": 1}
    push = {"url": "u", "authentication": {"schemes": ["Bearer"], "own": [1]}}
    expected = PushNotification(url="u", authentication={"schemes": ["Bearer"], "own": [1]})
    assert msgspec.convert(sent | {"pushNotification": push}, SendParams) == SendParams(
        id="t", session_id="s", message=Message(role=Role.AGENT, parts=()), push_notification=expected
    )
    assert message("x") == Message(role=Role.USER, parts=text("x"))
