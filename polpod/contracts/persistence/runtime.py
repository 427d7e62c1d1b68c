"""Agents at work: parked executions, checkpoints, heartbeats, and who is busy."""

from __future__ import annotations

from datetime import datetime

from polpod.contracts.persistence.repository import Repository, only, where
from polpod.model.organisation.runtime import (
    AgentRuntimeState,
    Checkpoint,
    ExecutionStatus,
    Heartbeat,
    ParkedContext,
)
from polpod.store import organisation as stored


class ParkedContexts(Repository[ParkedContext, str]):
    async def save(self, context: ParkedContext) -> None:
        await self._save(context)

    async def get(self, parked_id: str) -> ParkedContext | None:
        return await self._get(parked_id)

    async def get_by_approval(self, approval_id: str) -> ParkedContext | None:
        """The newest that waits for this approval."""
        return await self._first(only(stored.ParkedContexts.approval_id.eq, approval_id))

    async def get_by_agent(self, agent_id: str) -> tuple[ParkedContext, ...]:
        """The newest first."""
        return await self._find(only(stored.ParkedContexts.agent_id.eq, agent_id))

    async def delete(self, parked_id: str) -> bool:
        return await self._delete(parked_id)


class Checkpoints(Repository[Checkpoint, str]):
    async def save(self, checkpoint: Checkpoint) -> None:
        await self._save(checkpoint)

    async def get_latest(self, *, execution_id: str | None = None, task_id: str | None = None) -> Checkpoint | None:
        """Of the highest turn, and of several of that the newest.  Raises ValueError without any filter."""
        if execution_id is None and task_id is None:
            raise ValueError("get_latest: name an execution, a task, or both")
        of = stored.Checkpoints
        return await self._first(*where((of.execution_id.eq, execution_id), (of.task_id.eq, task_id)))

    async def delete_by_execution(self, execution_id: str) -> int:
        return await self._delete_where(only(stored.Checkpoints.execution_id.eq, execution_id))


class Heartbeats(Repository[Heartbeat, str]):
    async def save(self, heartbeat: Heartbeat) -> None:
        await self._save(heartbeat)

    async def get(self, execution_id: str) -> Heartbeat | None:
        return await self._get(execution_id)

    async def get_stale(self, threshold: datetime) -> tuple[Heartbeat, ...]:
        """Those before the threshold, the oldest first; one at it is none of them."""
        return await self._find(only(stored.Heartbeats.last_at.lt, threshold))

    async def delete(self, execution_id: str) -> bool:
        return await self._delete(execution_id)


class AgentStates(Repository[AgentRuntimeState, str]):
    async def save(self, state: AgentRuntimeState) -> None:
        await self._save(state)

    async def get(self, agent_id: str) -> AgentRuntimeState | None:
        return await self._get(agent_id)

    async def get_active(self) -> tuple[AgentRuntimeState, ...]:
        """Those that are not idle, the last active first."""
        return await self._find(stored.AgentStates.status.ne(ExecutionStatus.IDLE))

    async def delete(self, agent_id: str) -> bool:
        return await self._delete(agent_id)
