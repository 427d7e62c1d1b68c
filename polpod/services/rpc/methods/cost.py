"""cost.*: what calls of language models cost, as those say who made them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from polpod import crash
from polpod.errors import TooLarge
from polpod.model.organisation.money import CallCategory, CostRecord
from polpod.model.submissions import Id
from polpod.model.tasks import Instant
from polpod.rules.budgets import BY
from polpod.rules.metrics import agent_of
from polpod.services import bookkeeping, budgets
from polpod.services.instance import Instance, now
from polpod.services.rpc import own
from polpod.services.rpc.method import Call, Method, Right
from polpod.services.rpc.refusal import entity
from polpod.store.changes import require
from polpod.store.organisation import CostRecords, StoredCost
from polpod.store.records import Tx

Tokens = Annotated[int, Meta(ge=0, le=10**9)]
"""Of one call; all of a task add up to what any reader of JSON has as an integer."""
PAGE = 500

MOST = 10_000
"""Costs of one task, all its runs together: whoever has more to say adds some of them up."""


class Add(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    usd: Annotated[float, Meta(ge=0, le=1e9)]
    provider: Annotated[str, Meta(min_length=1, max_length=200)]
    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    category: CallCategory | None = None
    task_id: Id | None = None
    """Null: the task of the run that asks."""


class Report(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    by: Literal["agent", "task", "day"] = "agent"
    since: Instant | None = None


class Spent(Struct, kw_only=True):
    """By one group."""

    group: str
    calls: int = 0
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


async def add(call: Call, params: Add) -> dict[str, object]:
    call.desk.instance.refuse_when_full()
    about = await own.own_task(call, params.task_id)

    def body(tx: Tx) -> tuple[CostRecord, list[int]]:
        task, at = require(tx, about.task.id), now()
        if tx[CostRecords].count(CostRecords.task_id.eq(task.id)) >= MOST:
            raise TooLarge(
                f"task {task.id} has {MOST} costs, as many as are kept of one: add up those of several calls"
            )
        with entity(cost_usd="usd"):
            record = CostRecord(
                agent_id=agent_of(task), task_id=task.id, provider=params.provider, model=params.model,
                input_tokens=params.input_tokens, output_tokens=params.output_tokens, cost_usd=params.usd,
                timestamp=at, call_category=params.category,
            )  # fmt: skip
        tx.append(CostRecords, StoredCost(0, record))
        if about.run is not None:
            bookkeeping.acted(tx, task, about.run, at, cost_usd=params.usd)
        after = budgets.spend(tx, task, at, money=params.usd, tokens=params.input_tokens + params.output_tokens)
        ends = after.over_budget is not None and after.may_have_live_run and after.run_id is not None
        return record, [after.run_id] if ends and after.run_id is not None else []

    record, runs = await call.desk.instance.tasks.write(body)
    if runs:
        crash.point("kill.noted")
        await call.desk.killer.request(runs, "cancelled", BY)
    return {"cost": record}


async def report(call: Call, params: Report) -> dict[str, object]:
    """A run sees what its own task cost."""
    task_id = None if call.caller.run_id is None else (await own.own_run(call)).task_id
    groups: dict[str, Spent] = {}
    after = 0
    while page := await _page(call.desk.instance, after, task_id):
        after = page[-1].seq
        for record in (cost.record for cost in page if params.since is None or cost.record.timestamp >= params.since):
            group = _group(record, params.by)
            spent = groups.setdefault(group, Spent(group=group))
            spent.calls += 1
            spent.usd += record.cost_usd
            spent.input_tokens += record.input_tokens
            spent.output_tokens += record.output_tokens
    return {"costs": sorted(groups.values(), key=lambda spent: spent.group)}


async def _page(instance: Instance, after: int, task_id: str | None) -> list[StoredCost]:
    where = [CostRecords.seq.gt(after)]
    if task_id is not None:
        where.append(CostRecords.task_id.eq(task_id))
    return await instance.tasks.read(lambda tx: tx[CostRecords].find(*where, limit=PAGE))


def _group(record: CostRecord, by: str) -> str:
    match by:
        case "agent":
            return record.agent_id
        case "task":
            return record.task_id
    return record.timestamp.date().isoformat()


METHODS = (
    Method(
        "cost.add",
        Add,
        {"cost": CostRecord},
        add,
        "Note what a call of a model cost.",
        Right.RUN,
        writes=True,
        telling=True,
    ),
    Method("cost.report", Report, {"costs": list[Spent]}, report, "What was spent, by agent, task or day.", Right.RUN),
)
