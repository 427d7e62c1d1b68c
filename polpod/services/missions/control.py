"""What people do to missions: pause, resume, abort, delete, let a barrier through.  Each is one body of the task store."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, structs

from polpod.errors import Conflict, InvalidTransition, NotFound
from polpod.model.changes import Change
from polpod.model.documents import read
from polpod.model.executions import Barrier, BarrierKind, BarrierState, Execution, ExecutionStatus
from polpod.model.polpo.missions import Mission
from polpod.model.tasks import TaskStatus, changed
from polpod.rules.tasks import event
from polpod.services import agents, operations
from polpod.services.missions import scheduling, workflows
from polpod.services.missions.settling import cancel_rest, look_again, move, open_barrier
from polpod.store import approvals, changes
from polpod.store.missions import Barriers, Documents, Executions
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.tables import Events, Tasks

X = ExecutionStatus


class Resumed(Struct, frozen=True):
    execution_id: str
    opened: list[str]
    """Barriers that were let through."""
    retried: list[str]
    """Tasks that are tried again."""


def last(tx: Tx, mission: Mission) -> Execution | None:
    """The execution that goes on; if none does, the last.  None: there is none, or its record cannot be read."""
    live = tx[Executions].find(Executions.live.eq(mission.id), order_by=(Executions.seq.desc(),), limit=1)
    found = live or tx[Executions].find(
        Executions.mission_id.eq(mission.id), order_by=(Executions.number.desc(),), limit=1
    )
    return found[0] if found else None


def latest(tx: Tx, mission: Mission) -> Execution:
    """As `last`.  Raises NotFound."""
    found = last(tx, mission)
    if found is None:
        why = "has no execution any more" if mission.execution_count else "was never carried out"
        raise NotFound(f"mission {mission.name} {why}: polpoctl mission execute {mission.name}")
    return found


def pause(tx: Tx, mission: Mission, at: datetime, by: str) -> Execution:
    """Nothing of it starts any more; what runs goes on.  Raises InvalidTransition, NotFound."""
    return move(tx, latest(tx, mission), X.PAUSED, at, f"paused by {by}")


def resume(
    tx: Tx, mission: Mission, at: datetime, by: str, *, barrier: str | None = None, retry_failed: bool = False
) -> Resumed:
    """Let it go on: through the barrier of that name, or without one through every checkpoint that was reached.

    `retry_failed`: what failed, or was failed because of it, is tried again; so a failed execution goes on.  One in which
    nothing failed any more, since somebody tried each again by itself, is judged anew.
    Raises NotFound, InvalidTransition, Conflict.
    """
    execution = latest(tx, mission)
    if execution.status is X.FAILED and not retry_failed:
        raise Conflict(f"execution {execution.id} failed: give --retry-failed to try again what failed in it")
    if (request := approvals.pending(tx, f"execution/{execution.id}")) is not None:
        raise Conflict(f"{request.message}: polpoctl approval approve {request.id}")
    held = _to_open(tx, execution, barrier)
    for one in held:
        open_barrier(tx, one, at, by)
    if execution.status is X.FAILED and execution.volatile is not None:
        _call_back(tx, execution, at)
    if execution.status in (X.PAUSED, X.FAILED):
        move(tx, execution, X.ACTIVE, at, None)
    elif execution.status is not X.ACTIVE:
        raise InvalidTransition(f"execution {execution.id} is {execution.status}: it cannot be resumed")
    retried = []
    if retry_failed:
        for task in tx[Tasks].find(Tasks.execution_id.eq(execution.id), Tasks.stage.eq(TaskStatus.FAILED)):
            operations.retry(tx, task, at, by)
            retried.append(task.id)
    if execution.status is X.FAILED and not retried and not look_again(tx, execution.id):
        raise Conflict(f"nothing of execution {execution.id} is left to try again")
    return Resumed(execution.id, [one.name for one in held], retried)


def held_by_checkpoint(tx: Tx, execution: Execution) -> bool:
    """Whether it is at a checkpoint that nobody resumed yet."""
    holding = tx[Barriers].find(Barriers.holding.eq(execution.id))
    return any(barrier.kind is BarrierKind.CHECKPOINT for barrier in holding)


def _call_back(tx: Tx, execution: Execution, at: datetime) -> None:
    """The agents that left when it failed."""
    stored, mission = tx[Documents].get(execution.document_id), tx[Missions].get(execution.mission_id)
    assert mission is not None
    if stored is None:
        raise Conflict(f"the document of execution {execution.id} cannot be read: who its agents were, nobody knows")
    agents.engage(tx, execution, read(stored.text).team, mission.created_by, at)


def _to_open(tx: Tx, execution: Execution, name: str | None) -> list[Barrier]:
    barriers = tx[Barriers].find(Barriers.execution_id.eq(execution.id))
    if name is None:
        return [b for b in barriers if b.kind is BarrierKind.CHECKPOINT and b.state is BarrierState.HOLDING]
    found = [b for b in barriers if b.name == name]
    if not found:
        names = ", ".join(b.name for b in barriers) or "none"
        raise NotFound(f"execution {execution.id} has no gate, checkpoint or delay {name!r} (it has: {names})")
    if found[0].state is BarrierState.WAITING:
        raise Conflict(f"{found[0].kind} {name} was not reached yet: {found[0].remaining} tasks before it are not over")
    return [b for b in found if b.state is BarrierState.HOLDING]


def abort(tx: Tx, mission: Mission, at: datetime, by: str) -> list[int]:
    """Cancel what is not over; the live runs that have to be ended for it.  Raises InvalidTransition, NotFound."""
    execution = latest(tx, mission)
    aborted = move(tx, structs.replace(execution, ended_by=by), X.CANCELLING, at, f"aborted by {by}")
    for barrier in tx[Barriers].find(Barriers.holding.eq(execution.id), Barriers.until.is_set()):
        tx[Barriers].save(structs.replace(barrier, until=None))  # nobody waits for it any more
    runs = []
    for task in tx[Tasks].find(Tasks.execution_id.eq(execution.id), Tasks.busy_queue.is_set()):
        asked = changed(task, at, cancelled_by=by)
        changes.apply(tx, Change(asked, (event(task, "task:updated", at, fields=["cancelled_by"], by=by),)))
        runs += [task.run_id] if task.run_id is not None else []
    cancel_rest(tx, aborted, at)
    scheduling.aborted(tx, mission, at, by)
    return runs


def delete(tx: Tx, mission: Mission, at: datetime, by: str) -> int:
    """Forget the mission, its executions and their tasks; how many tasks went.

    Raises Conflict while one goes on, or a task of one that is over was tried again, and runs.
    """
    if live := tx[Executions].find(Executions.live.eq(mission.id), limit=1):
        raise Conflict(f"execution {live[0].id} is {live[0].status}: polpoctl mission abort {mission.name}, and wait")
    number = 0
    for execution in tx[Executions].find(Executions.mission_id.eq(mission.id)):
        tasks = tx[Tasks].find(Tasks.execution_id.eq(execution.id))
        for task in tasks:
            operations.refuse_live(task)
        changes.remove(tx, tasks, at, by)
        number += len(tasks)
        _forget(tx, execution, at, by)
        if _has_own_document(execution):
            tx[Documents].delete(execution.document_id)
    tx[Missions].delete(mission.id)
    changes.note(tx, at, "mission:deleted", f"mission/{mission.id}", name=mission.name, deleted_tasks=number, by=by)
    return number


def prune(tx: Tx, execution: Execution, at: datetime, by: str) -> None:
    """Forget an execution that is over and has no task any more, and is not its mission's last."""
    _forget(tx, execution, at, by)
    others = tx[Executions].find(Executions.mission_id.eq(execution.mission_id))
    if _has_own_document(execution) and all(other.document_id != execution.document_id for other in others):
        tx[Documents].delete(execution.document_id)
    about = f"mission/{execution.mission_id}"
    changes.note(tx, at, "mission:pruned", about, execution_id=execution.id, number=execution.number, by=by)


def _forget(tx: Tx, execution: Execution, at: datetime, by: str) -> None:
    for told in approvals.forget(tx, f"execution/{execution.id}", at, by):
        tx.append(Events, told)
    agents.dismiss(tx, execution, at)
    tx[Executions].delete(execution.id)
    workflows.forget(tx, execution)


def _has_own_document(execution: Execution) -> bool:
    return execution.document_id.startswith(
        f"{execution.mission_id}/"
    )  # before there were such ids, others had it, too
