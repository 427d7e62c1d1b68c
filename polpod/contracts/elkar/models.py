"""Between Elkar's models and ours: the one place that knows both.

What comes out is a copy each time, so that nobody who changes it changes what is stored.  Elkar's instants may be without
a zone, and are local then.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from polpod.contracts.elkar.refusals import refused
from polpod.model.a2a import Changes, SendParams, StoredTask
from polpod.wire.errors import INVALID

try:
    from elkar import a2a_types
    from elkar.common import TaskType
    from elkar.store import base
    from pydantic import BaseModel
except (ImportError, SyntaxError) as exc:  # its syntax is that of Python 3.12
    raise ImportError("this needs the package elkar: `pip install elkar`, with Python 3.12 or later") from exc

T = TypeVar("T")


def send_params(params: a2a_types.TaskSendParams) -> SendParams:
    """Raises Refused for what no store can keep."""
    return _ours(params, SendParams)


def changes(params: base.UpdateTaskParams) -> Changes:
    """Raises Refused for what no store can keep."""
    said = {field: getattr(params, field) for field in Changes.__struct_fields__}
    if params.status is not None:
        said["status"] = _dumped(params.status) | {"timestamp": params.status.timestamp.astimezone(UTC)}
    return _ours(said, Changes)


def stored_task(stored: StoredTask) -> base.StoredTask:
    return base.StoredTask(
        id=stored.id,
        caller_id=stored.caller_id,
        task_type=TaskType(stored.task_type),
        is_streaming=stored.is_streaming,
        task=_theirs(stored.task, a2a_types.Task),
        push_notification=_theirs(stored.push_notification, a2a_types.PushNotificationConfig),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        agent_url=stored.agent_url,
    )


def _theirs(value: Struct | None, kind: Any) -> Any:
    return None if value is None else kind.model_validate_json(msgspec.json.encode(value))


def _ours(said: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(msgspec.to_builtins(said, str_keys=True, enc_hook=_dumped), kind)
    except (ValueError, TypeError, OverflowError) as exc:
        raise refused(str(exc), INVALID) from exc


def _dumped(model: Any) -> dict[str, Any]:
    """A pydantic model's values as they are: to JSON, pydantic would turn NaN into null."""
    if not isinstance(model, BaseModel):
        raise TypeError(f"a value of type {type(model).__name__} is none that JSON has")
    plain: dict[str, Any] = model.model_dump(by_alias=True)
    return plain
