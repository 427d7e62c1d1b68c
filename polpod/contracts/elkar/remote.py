"""Elkar's task store, kept by a polpod: a client of its socket."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from anyio.lowlevel import RunVar

from polpod import paths
from polpod.contracts.elkar import models
from polpod.contracts.elkar.line import Line
from polpod.model import a2a

if TYPE_CHECKING:
    from elkar.a2a_types import TaskSendParams
    from elkar.store.base import StoredTask, UpdateTaskParams


class PolpodTaskManagerStore:
    """For trio and asyncio; in several event loops, too, each of which has a connection of its own.

    It looks for polpod where polpoctl does: at `socket`, `$POLPO_SOCKET`, in the `.polpo` of `root`, of `$POLPO_ROOT` or
    of the nearest parent, then where a service has it (DESIGN §10).  `async with` closes the connection at the end.
    """

    def __init__(self, socket: str | None = None, root: str | None = None) -> None:
        self._sockets = paths.client_sockets(socket, root, os.environ, os.getcwd())
        self._lines: RunVar[Line] = RunVar("polpod")

    async def upsert_task(
        self, params: TaskSendParams, is_streaming: bool = False, caller_id: str | None = None
    ) -> StoredTask:
        """Begin the task with its message, or add the message to it.

        Raises Refused for another caller's task, or another user's; Unreachable.
        """
        sent = msgspec.to_builtins(models.send_params(params))
        asked = {"params": sent, "is_streaming": is_streaming, "caller_id": caller_id}
        return _stored(await self._line().change("a2a.upsert", asked))

    async def get_task(
        self, task_id: str, history_length: int | None = None, caller_id: str | None = None
    ) -> StoredTask | None:
        """The task, with at most so many messages, the last ones; None if there is none of this caller (None: of any).

        Raises Refused for a length below 0, Unreachable.
        """
        asked = {"id": task_id, "history_length": history_length, "caller_id": caller_id}
        answer = await self._line().ask("a2a.get", asked)
        return None if answer["stored"] is None else _stored(answer)

    async def update_task(self, task_id: str, params: UpdateTaskParams) -> StoredTask:
        """Make all of the changes, or none.  Raises UnknownTask, Refused, Unreachable."""
        asked = {"id": task_id, "changes": msgspec.to_builtins(models.changes(params))}
        return _stored(await self._line().change("a2a.update", asked))

    async def aclose(self) -> None:
        """Close this event loop's connection; the next call makes another."""
        await self._line().aclose()

    async def __aenter__(self) -> PolpodTaskManagerStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()

    def _line(self) -> Line:
        try:
            return self._lines.get()
        except LookupError:
            line = Line(self._sockets)
            self._lines.set(line)
            return line


def _stored(answer: dict[str, Any]) -> StoredTask:
    return models.stored_task(msgspec.convert(answer["stored"], a2a.StoredTask))
