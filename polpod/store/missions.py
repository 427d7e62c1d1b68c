"""The tables of executions: what becomes of a mission when it is carried out.

Each column and index is there for a query below; none reads more than it returns, however large a mission is.
"""

from __future__ import annotations

from datetime import datetime

from polpod.model import deadlines
from polpod.model.executions import (
    ENDED,
    IDLE,
    Barrier,
    BarrierState,
    BarrierTask,
    Document,
    Execution,
    ExecutionStatus,
    Unsettled,
)
from polpod.store.records import Tx
from polpod.store.table import Columns, Index, Ref, Table, Unique


def _sla_at(execution: Execution) -> datetime | None:
    done = execution.status is ExecutionStatus.COMPLETED
    return deadlines.look_at(
        execution.deadline, execution.sla, done=done, dropped=execution.status in ENDED and not done
    )


_x = Columns[Execution]()


class Executions(Table[Execution, str]):
    name = "executions"
    noun = "execution"
    entity = Execution
    id = _x.text("id", lambda x: x.id)
    seq = _x.integer("seq", lambda x: x.seq)
    mission_id = _x.text("mission_id", lambda x: x.mission_id)
    number = _x.integer("number", lambda x: x.number)
    idle = _x.text("idle", lambda x: x.status if x.status in IDLE else None)
    live = _x.text("live", lambda x: x.mission_id if x.finished_at is None else None)
    sla_at = _x.instant("sla_at", _sla_at)
    key = (id,)
    order = (seq.asc(),)
    unique = (Unique((seq,)), Unique((mission_id, number)))
    indexes = (
        Index((idle.asc(), id.asc()), where_not_null=idle),
        Index((live.asc(), seq.asc()), where_not_null=live),
        Index((sla_at.asc(), seq.asc()), where_not_null=sla_at),
    )


_o = Columns[Document]()


class Documents(Table[Document, str]):
    name = "mission_documents"
    noun = "document"
    entity = Document
    id = _o.text("id", lambda o: o.id)
    key = (id,)


_b = Columns[Barrier]()


class Barriers(Table[Barrier, str]):
    name = "barriers"
    noun = "barrier"
    entity = Barrier
    id = _b.text("id", lambda b: b.id)
    seq = _b.integer("seq", lambda b: b.seq)
    execution_id = _b.text("execution_id", lambda b: b.execution_id)
    holding = _b.text("holding", lambda b: b.execution_id if b.state is BarrierState.HOLDING else None)
    until = _b.instant("until", lambda b: b.until if b.state is BarrierState.HOLDING else None)
    key = (id,)
    order = (seq.asc(),)
    unique = (Unique((seq,)),)
    indexes = (
        Index((execution_id.asc(), seq.asc())),
        Index((holding.asc(), seq.asc()), where_not_null=holding),
        Index((until.asc(), id.asc()), where_not_null=until),
    )
    refs = (Ref(execution_id, Executions, on_delete="cascade"),)


_t = Columns[BarrierTask]()


class BarrierTasks(Table[BarrierTask, tuple[str, str]]):
    name = "barrier_tasks"
    noun = "barrier_task"
    entity = BarrierTask
    barrier_id = _t.text("barrier_id", lambda t: t.barrier_id)
    task_id = _t.text("task_id", lambda t: t.task_id)
    key = (barrier_id, task_id)
    indexes = (Index((task_id.asc(), barrier_id.asc())),)
    refs = (Ref(barrier_id, Barriers, on_delete="cascade"),)


_u = Columns[Unsettled]()


class UnsettledTasks(Table[Unsettled, str]):
    """What services/missions/settling.py has still to do; a row goes in the transaction that did it."""

    name = "unsettled_tasks"
    noun = "unsettled_task"
    entity = Unsettled
    task_id = _u.text("task_id", lambda u: u.task_id)
    execution_id = _u.text("execution_id", lambda u: u.execution_id)
    key = (task_id,)
    indexes = (Index((execution_id.asc(), task_id.asc())),)


TABLES = (Executions, Documents, Barriers, BarrierTasks, UnsettledTasks)


def idle(tx: Tx) -> frozenset[str]:
    """The executions of which nothing starts, though they are not over: as a rule few."""
    return frozenset(x.id for x in tx[Executions].find(Executions.idle.is_in(IDLE), order_by=(Executions.idle.asc(),)))
