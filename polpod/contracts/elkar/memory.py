"""Elkar's task store in memory: for development and tests, gone with the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from polpod.contracts.elkar import models
from polpod.contracts.elkar.refusals import refused
from polpod.errors import RequestError
from polpod.rules import a2a

if TYPE_CHECKING:
    from elkar.a2a_types import TaskSendParams
    from elkar.store.base import StoredTask, UpdateTaskParams

    from polpod.model import a2a as model


class InMemoryTaskManagerStore:
    """For any event loop, and any thread: nothing in it waits."""

    def __init__(self) -> None:
        self._tasks: dict[str, model.StoredTask] = {}
        self._lock = threading.Lock()

    async def upsert_task(
        self, params: TaskSendParams, is_streaming: bool = False, caller_id: str | None = None
    ) -> StoredTask:
        """Begin the task with its message, or add the message to it.  Raises Refused for another caller's task."""
        sent = models.send_params(params)
        with self._alone():
            known = self._tasks.get(sent.id)
            return self._keep(
                a2a.upsert(known, sent, datetime.now(UTC), is_streaming=is_streaming, caller_id=caller_id)
            )

    async def get_task(
        self, task_id: str, history_length: int | None = None, caller_id: str | None = None
    ) -> StoredTask | None:
        """The task, with at most so many messages, the last ones; None if there is none of this caller (None: of any)."""
        with self._alone():
            shown = a2a.shown(self._tasks.get(task_id), caller_id=caller_id, history_length=history_length)
            return None if shown is None else models.stored_task(shown)

    async def update_task(self, task_id: str, params: UpdateTaskParams) -> StoredTask:
        """Make all of the changes, or none.  Raises UnknownTask, Refused."""
        said = models.changes(params)
        with self._alone():
            return self._keep(a2a.update(self._tasks.get(task_id), task_id, said, datetime.now(UTC)))

    def _keep(self, task: model.StoredTask) -> StoredTask:
        self._tasks[task.id] = task
        return models.stored_task(task)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except RequestError as exc:
            raise refused(str(exc), exc.kind) from exc
