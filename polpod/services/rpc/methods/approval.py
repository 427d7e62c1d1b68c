"""approval.*: what waits for a person, and what that person says; and what runs ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import trio
from msgspec import Meta, Struct

from polpod.errors import PermissionDenied
from polpod.model.budgets import Budget
from polpod.model.polpo.approvals import ApprovalRequest, ApprovalStatus
from polpod.model.submissions import Id
from polpod.services import approvals, questions, views
from polpod.services.instance import now
from polpod.services.rpc import own
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.methods.follow import LONG_POLL, Wait
from polpod.services.rpc.refusal import entity
from polpod.store.changes import require
from polpod.store.polpo import Approvals, Missions
from polpod.store.records import Tx
from polpod.store.table import Where

X = TypeVar("X")

Text = Annotated[str, Meta(max_length=20_000, pattern=r"\S")]


class List(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    status: ApprovalStatus | None = ApprovalStatus.PENDING
    """Null: all."""
    task_id: Id | None = None
    after: int = 0
    """The `seq` of the last one of the page before."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class ById(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    """Or that of the task that it is about."""


class Approve(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id
    feedback: Text | None = None
    budget: Budget | None = None
    """The limits with which it goes on; null: what was spent is doubled."""


class Reject(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id
    feedback: Text | None = None
    final: bool = False


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    text: Text


class Ask(Struct, frozen=True, forbid_unknown_fields=True):
    text: Text


class Await(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    timeout: Wait = LONG_POLL


async def list_(call: Call, params: List) -> dict[str, object]:
    where: list[Where[ApprovalRequest]] = [Approvals.seq.gt(params.after)]
    if params.status is not None:
        where.append(Approvals.status.eq(params.status))
    if params.task_id is not None:
        where.append(Approvals.task_id.eq(params.task_id))
    found = await call.desk.instance.tasks.read(
        lambda tx: tx[Approvals].find(*where, order_by=(Approvals.seq.asc(),), limit=params.limit)
    )
    page = views.fitting(found)
    more = len(page) < len(found) or len(found) == params.limit
    return {"approvals": page, "next": page[-1].seq if more else None}


async def get(call: Call, params: ById) -> dict[str, object]:
    return {"approval": await call.desk.instance.tasks.read(lambda tx: approvals.require(tx, params.id))}


async def approve(call: Call, params: Approve) -> dict[str, object]:
    def decide(tx: Tx, request: ApprovalRequest, by: str) -> ApprovalRequest:
        return approvals.approve(tx, request, now(), by, feedback=params.feedback, budget=params.budget)

    return {"approval": await _decided(call, params.id, decide)}


async def reject(call: Call, params: Reject) -> dict[str, object]:
    def decide(tx: Tx, request: ApprovalRequest, by: str) -> tuple[ApprovalRequest, list[int]]:
        return approvals.reject(tx, request, now(), by, feedback=params.feedback, final=params.final)

    rejected, runs = await _decided(call, params.id, decide)
    if runs:
        await call.desk.killer.request(runs, "cancelled", call.caller.name)
    return {"approval": rejected}


async def answer(call: Call, params: Answer) -> dict[str, object]:
    def decide(tx: Tx, request: ApprovalRequest, by: str) -> ApprovalRequest:
        return approvals.answer(tx, request, params.text, now(), by)

    return {"approval": await _decided(call, params.id, decide)}


async def ask(call: Call, params: Ask) -> dict[str, object]:
    """Asked again in the same words, it is the same question."""
    instance = call.desk.instance
    instance.refuse_when_full()
    run = await own.own_run(call)
    rounds = instance.config.settings.max_question_rounds

    def body(tx: Tx) -> ApprovalRequest:
        with entity():
            return questions.ask(tx, run, params.text, rounds, now())

    asked = await instance.tasks.write(body)
    call.desk.health.active(run.id)
    return {"approval": asked}


async def await_(call: Call, params: Await) -> dict[str, Any]:
    """The answer, once there is one; null at the end of the long poll.  The run that waits is not idle."""
    instance = call.desk.instance
    run = await own.own_run(call)
    with instance.journal.listening([f"task/{run.task_id}"]) as watch:
        until = trio.current_time() + params.timeout
        while True:
            call.desk.health.active(run.id)
            request = await instance.tasks.write(lambda tx: questions.take_answer(tx, run, params.id, now()))
            if request is not None or trio.current_time() >= until:
                return {"approval": request}
            await watch.wait(until)


async def _decided(call: Call, name: str, decide: Callable[[Tx, ApprovalRequest, str], X]) -> X:
    if call.caller.right is Right.RUN:
        raise PermissionDenied("not from inside a run: a person decides")

    def body(tx: Tx) -> X:
        request = approvals.require(tx, name)
        _require_own(call, tx, request)
        return decide(tx, request, call.caller.name)

    return await call.desk.instance.tasks.write(body)


def _require_own(call: Call, tx: Tx, request: ApprovalRequest) -> None:
    """Who may: the daemon's own user, operators, and whose work it is.  Raises PermissionDenied, NotFound."""
    if call.caller.right >= Right.OPERATOR:
        return
    mission = None if request.mission_id is None else tx[Missions].get(request.mission_id)
    if request.kind is not None and request.task_id is not None:
        own.require_own(call.caller, require(tx, request.task_id))
    elif request.kind is not None and mission is not None:
        own.require_own(call.caller, mission)
    else:
        raise PermissionDenied(f"{request.id} is for the daemon's own user to decide")


METHODS = (
    Method("approval.list", List, dict, list_, "What waits for a person, by page, the oldest first.", Right.RUN),
    Method("approval.get", ById, dict, get, "One request, or the last one about a task.", Right.RUN),
    Method("approval.approve", Approve, dict, approve, "Let what waits go on.", writes=True),
    Method("approval.reject", Reject, dict, reject, "Do not let it, or have it done over.", writes=True),
    Method("approval.answer", Answer, dict, answer, "Answer what a run asked.", writes=True),
    Method("approval.ask", Ask, dict, ask, "A run asks a person.", Right.RUN, writes=True),
    Method(
        "approval.await", Await, dict, await_, "A run waits for the answer (long poll).", Right.RUN, writes=True,
        waits=True, telling=True,
    ),
)  # fmt: skip
