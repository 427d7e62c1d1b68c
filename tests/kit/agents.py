"""What agents say to each other, in its shortest form, and a task store asked as an agent's server asks it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from polpod.model.a2a import (
    Artifact,
    Changes,
    Message,
    Part,
    Role,
    SendParams,
    StoredTask,
    TaskState,
    TaskStatus,
    TextPart,
)
from polpod.services import a2a
from polpod.services.rpc.method import Caller, Right
from polpod.store.records import Tx

X = TypeVar("X")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWNER = Caller(uid=0, pid=1, right=Right.OWNER)


class Store(Protocol):
    def write(self, body: Callable[[Tx], X]) -> X: ...


def text(said: str) -> tuple[Part, ...]:
    return (TextPart(text=said),)


def message(said: str, role: Role = Role.USER, **values: Any) -> Message:
    return Message(role=role, parts=text(said), **values)


def status(state: TaskState, said: str | None = None) -> TaskStatus:
    return TaskStatus(state=state, message=None if said is None else message(said, Role.AGENT), timestamp=NOW)


def artifact(said: str, index: int = 0, **values: Any) -> Artifact:
    return Artifact(parts=text(said), index=index, **values)


def texts(stored: StoredTask | None) -> list[str]:
    """What the history says, a text for each message."""
    assert stored is not None
    return [part.text for m in stored.task.history or () for part in m.parts if isinstance(part, TextPart)]


class Agents:
    """The functions of services/a2a.py, each in a transaction of its own, a second after the one before."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seconds = itertools.count()

    def now(self) -> datetime:
        return NOW + timedelta(seconds=next(self._seconds))

    def upsert(self, task_id: str = "t", said: str = "hi", *, by: Caller = OWNER, **values: Any) -> StoredTask:
        """`values`: of SendParams, and the keyword arguments of `upsert`."""
        rest = {name: values.pop(name) for name in ("is_streaming", "caller_id", "once") if name in values}
        params = SendParams(**{"id": task_id, "message": message(said)} | values)
        return self.store.write(lambda tx: a2a.upsert(tx, by, params, self.now(), **rest))

    def update(self, task_id: str = "t", *, by: Caller = OWNER, once: Any = None, **values: Any) -> StoredTask:
        """`values`: of Changes."""
        return self.store.write(lambda tx: a2a.update(tx, by, task_id, Changes(**values), self.now(), once=once))

    def get(self, task_id: str = "t", *, by: Caller = OWNER, **values: Any) -> StoredTask | None:
        return self.store.write(lambda tx: a2a.get(tx, by, task_id, **values))
