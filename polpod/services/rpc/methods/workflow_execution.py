"""workflow_execution.*: how the carryings out of workflows went, node by node."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from polpod.errors import NotFound
from polpod.model.organisation.workflows import WorkflowExecution
from polpod.model.submissions import Id
from polpod.services import views
from polpod.services.rpc.method import Call, Method
from polpod.store.organisation import WorkflowExecutions


class List(Struct, frozen=True, forbid_unknown_fields=True):
    workflow: Id | None = None
    """Those of this definition."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id


async def list_(call: Call, params: List) -> dict[str, object]:
    of = () if params.workflow is None else (WorkflowExecutions.definition_id.eq(params.workflow),)
    found = await call.desk.instance.tasks.read(lambda tx: tx[WorkflowExecutions].find(*of, limit=params.limit))
    return {"workflow_executions": views.fitting(found)}


async def get(call: Call, params: ById) -> dict[str, object]:
    found = await call.desk.instance.tasks.read(lambda tx: tx[WorkflowExecutions].get(params.id))
    if found is None:
        raise NotFound(
            f"there is no workflow execution {params.id}: `polpoctl workflow executions` shows what there is"
        )
    return {"workflow_execution": found}


METHODS = (
    Method(
        "workflow_execution.list",
        List,
        {"workflow_executions": list[WorkflowExecution]},
        list_,
        "Executions of workflows, the last updated first.",
    ),
    Method(
        "workflow_execution.get",
        ById,
        {"workflow_execution": WorkflowExecution},
        get,
        "One execution of a workflow, node by node.",
    ),
)
