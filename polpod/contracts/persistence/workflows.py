"""Workflow definitions and executions: each save says which version it makes, and the one after the stored one wins."""

from __future__ import annotations

from polpod.contracts.persistence.errors import OF_INSERTS, VersionConflictError
from polpod.contracts.persistence.repository import Repository, kept, only, where
from polpod.model.organisation.workflows import (
    WorkflowDefinition,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowType,
)
from polpod.store import organisation as stored
from polpod.store.records import Tx


def _require_next(old: WorkflowDefinition | WorkflowExecution | None, version: int, what: str) -> None:
    found = 0 if old is None else old.version
    if version != found + 1:
        raise VersionConflictError(f"{what}: version {version} does not follow version {found}, which is stored")


class WorkflowDefinitions(Repository[WorkflowDefinition, str]):
    async def save(self, definition: WorkflowDefinition) -> None:
        """A new one of any version, or the version after the stored one, whose creator and `created_at` stay.

        Raises VersionConflictError.
        """

        def body(tx: Tx) -> None:
            if (old := tx[stored.WorkflowDefinitions].get(definition.id)) is not None:
                _require_next(old, definition.version, f"workflow definition {definition.id}")
            tx[stored.WorkflowDefinitions].save(kept(definition, old, "created_by", "created_at"))

        await self._write(body)

    async def get(self, definition_id: str) -> WorkflowDefinition | None:
        return await self._get(definition_id)

    async def list_definitions(self, *, workflow_type: WorkflowType | None = None) -> tuple[WorkflowDefinition, ...]:
        """The last updated first."""
        return await self._find(*where((stored.WorkflowDefinitions.workflow_type.eq, workflow_type)))

    async def delete(self, definition_id: str) -> bool:
        """Raises QueryError while there are executions of it."""
        return await self._delete(definition_id)


class WorkflowExecutions(Repository[WorkflowExecution, str]):
    async def save(self, execution: WorkflowExecution) -> None:
        """Version 1 is a new one, any other has to follow the stored one.

        Raises DuplicateRecordError, VersionConflictError; QueryError if there is no such definition.
        """

        def body(tx: Tx) -> None:
            if execution.version == 1:
                tx[stored.WorkflowExecutions].add(execution)
            else:
                old = tx[stored.WorkflowExecutions].get(execution.id)
                _require_next(old, execution.version, f"workflow execution {execution.id}")
                tx[stored.WorkflowExecutions].save(execution)

        await self._write(body, OF_INSERTS)

    async def get(self, execution_id: str) -> WorkflowExecution | None:
        return await self._get(execution_id)

    async def list_by_definition(self, definition_id: str) -> tuple[WorkflowExecution, ...]:
        """The last updated first."""
        return await self._find(only(stored.WorkflowExecutions.definition_id.eq, definition_id))

    async def list_by_status(self, status: WorkflowExecutionStatus) -> tuple[WorkflowExecution, ...]:
        """The last updated first."""
        return await self._find(only(stored.WorkflowExecutions.status.eq, status))

    async def find_by_task_id(self, task_id: str) -> WorkflowExecution | None:
        """The running one in which a node is this task; of several the last updated."""
        running = await self.list_by_status(WorkflowExecutionStatus.RUNNING)
        return next((one for one in running if any(node.task_id == task_id for node in one.node_executions)), None)

    async def delete(self, execution_id: str) -> bool:
        return await self._delete(execution_id)
