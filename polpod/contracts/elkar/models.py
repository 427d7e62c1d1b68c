"""Between Elkar's models and ours: the one place that knows both.

What comes out is a copy each time, so that nobody who changes it changes what is stored.  Elkar's instants may be without
a zone, and are local then.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any, TypeVar

import msgspec

from polpod.contracts.elkar.refusals import refused
from polpod.model.a2a import Changes, SendParams, StoredTask
from polpod.wire.errors import INVALID

try:
    from elkar import a2a_types
    from elkar.common import TaskType
    from elkar.store import base
except (ImportError, SyntaxError) as exc:  # its syntax is that of Python 3.12
    raise ImportError("this needs the package elkar: `pip install elkar`, with Python 3.12 or later") from exc

T = TypeVar("T")


def send_params(params: a2a_types.TaskSendParams) -> SendParams:
    """Raises Refused for what no store can keep."""
    return _ours(_plain(params), SendParams)


def changes(params: base.UpdateTaskParams) -> Changes:
    """Raises Refused for what no store can keep."""
    status = _plain(params.status)
    if status is not None:
        status["timestamp"] = params.status.timestamp.astimezone(UTC)
    said = {
        "status": status,
        "artifacts_updates": _each(params.artifacts_updates),
        "new_messages": _each(params.new_messages),
        "metadata": params.metadata,
        "push_notification": _plain(params.push_notification),
        "caller_id": params.caller_id,
    }
    return _ours(said, Changes)


def stored_task(stored: StoredTask) -> base.StoredTask:
    push = stored.push_notification
    return base.StoredTask(
        id=stored.id,
        caller_id=stored.caller_id,
        task_type=TaskType(stored.task_type),
        is_streaming=stored.is_streaming,
        task=a2a_types.Task.model_validate_json(msgspec.json.encode(stored.task)),
        push_notification=None
        if push is None
        else a2a_types.PushNotificationConfig.model_validate_json(msgspec.json.encode(push)),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        agent_url=stored.agent_url,
    )


def _plain(model: Any) -> Any:
    """A pydantic model as JSON has it."""
    return None if model is None else model.model_dump(mode="json", by_alias=True)


def _each(models: list[Any] | None) -> list[Any] | None:
    return None if models is None else [_plain(model) for model in models]


def _ours(said: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(said, kind)
    except ValueError as exc:
        raise refused(str(exc), INVALID) from exc
