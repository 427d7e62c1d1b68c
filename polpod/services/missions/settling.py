"""What the end of a task means for its execution: barriers are reached, deadlocks seen, executions end.

Rules:

1. A task of an execution that begins or ceases to be over, or to be able to go on, is noted by the transaction that
   changed it (store/changes.py); the note goes in the transaction that did here what follows from it.  So a daemon that
   dies between the two does it when it is there again, and never twice.
2. Each look costs as much as what changed, whatever the size of the mission: counters of barriers are kept by the edge,
   and how an execution stands is asked of an index.  Only its end reads all of its tasks, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import trio
from msgspec import structs

from polpod import crash
from polpod.model.executions import (
    ENDED,
    Barrier,
    BarrierKind,
    BarrierState,
    BarrierTask,
    Execution,
    ExecutionStatus,
    Unsettled,
)
from polpod.model.polpo.approvals import ApprovalStatus, Resolution
from polpod.model.polpo.missions import MissionStatus
from polpod.model.tasks import Task, TaskStatus
from polpod.rules import deadlines
from polpod.rules import missions as rules
from polpod.rules.missions import Verdict
from polpod.rules.tasks import walk
from polpod.services import agents
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.missions import scheduling, workflows
from polpod.services.missions.executing import note
from polpod.store import approvals, changes
from polpod.store.missions import Barriers, BarrierTasks, Executions, UnsettledTasks
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.tables import Events, Tasks

BATCH = 256
MOST_NAMED = 100
"""Tasks that an event or a report names."""
DEADLOCK = "what it waits for failed for good"
FALLBACK = 60.0
"""Seconds after which it looks even if nobody rang."""


async def serve(instance: Instance) -> None:
    """Settle what is noted, and open delays when they are over, for as long as the daemon lives."""
    await instance.recovered.wait()
    while True:
        unsettled, until = await insist_read(instance.tasks, _wanted)
        if unsettled or (until is not None and until <= now()):
            await insist(instance.tasks, lambda tx: settle(tx, now()), durable=False)
            crash.point("mission.settled")
            continue
        sleep = FALLBACK if until is None else min(FALLBACK, (until - now()).total_seconds())
        await instance.journal.missions.wait(trio.current_time() + max(0.0, sleep))


def _wanted(tx: Tx) -> tuple[bool, datetime | None]:
    """Whether something is noted, and when the next delay is over."""
    first = tx[Barriers].find(Barriers.until.is_set(), order_by=(Barriers.until.asc(), Barriers.id.asc()), limit=1)
    return bool(tx[UnsettledTasks].find(limit=1)), first[0].until if first else None


def settle(tx: Tx, at: datetime) -> None:
    """One batch of what is noted, and the delays that are over."""
    noted = tx[UnsettledTasks].find(limit=BATCH)
    for one in noted:
        task = tx[Tasks].get(one.task_id)
        _pass(tx, one.task_id, task is None or task.finished, at)
        tx[UnsettledTasks].delete(one.task_id)
    due = tx[Barriers].find(Barriers.until.le(at), order_by=(Barriers.until.asc(), Barriers.id.asc()), limit=BATCH)
    for barrier in due:
        open_barrier(tx, barrier, at, None)
    for execution_id in dict.fromkeys(one.execution_id for one in noted):
        # What is not settled yet may open what holds back the rest: it is judged when all of it is.
        if not tx[UnsettledTasks].find(UnsettledTasks.execution_id.eq(execution_id), limit=1):
            _judge(tx, execution_id, at)
        changed_tasks = [one.task_id for one in noted if one.execution_id == execution_id]
        workflows.follow(tx, tx[Executions].get(execution_id), changed_tasks, at)


def _pass(tx: Tx, task_id: str, over: bool, at: datetime) -> None:
    """Tell the barriers behind the task whether it is over."""
    for edge in tx[BarrierTasks].find(BarrierTasks.task_id.eq(task_id)):
        barrier = tx[Barriers].get(edge.barrier_id)
        if barrier is None:
            continue
        if edge.over is not over:
            tx[BarrierTasks].save(BarrierTask(edge.barrier_id, task_id, over))
            barrier = structs.replace(barrier, remaining=barrier.remaining + (-1 if over else 1))
        if barrier.state is BarrierState.HOLDING and barrier.kind is BarrierKind.GATE:
            # What it missed is tried again, was done meanwhile, or is gone.
            barrier = structs.replace(barrier, state=BarrierState.WAITING, reason=None, reached_at=None)
        if barrier.state is BarrierState.WAITING and barrier.remaining == 0:
            _reach(tx, barrier, at)
        else:
            tx[Barriers].save(barrier)


def _reach(tx: Tx, barrier: Barrier, at: datetime) -> None:
    """All before it is over; where that is since the execution was aborted, nobody has to hear of it."""
    execution = _execution(tx, barrier)
    if execution.status in (ExecutionStatus.CANCELLING, ExecutionStatus.CANCELLED):
        tx[Barriers].save(barrier)
        return
    before = [
        t for e in tx[BarrierTasks].find(BarrierTasks.barrier_id.eq(barrier.id)) if (t := tx[Tasks].get(e.task_id))
    ]
    held = rules.reached(barrier, before, at)
    if held.state is BarrierState.OPEN:
        open_barrier(tx, barrier, at, None)
        return
    tx[Barriers].save(held)
    body = _about(held) | {"reached_at": at}
    match held.kind:
        case BarrierKind.CHECKPOINT:
            note(tx, at, execution, "checkpoint:reached", **body)
            if execution.status is ExecutionStatus.ACTIVE:
                move(tx, execution, ExecutionStatus.PAUSED, at, f"checkpoint {held.name} was reached")
        case BarrierKind.DELAY:
            note(tx, at, execution, "delay:started", **body, duration=held.duration, expires_at=held.until)
        case BarrierKind.GATE:
            note(tx, at, execution, "quality:gate:failed", **body, reason=held.reason)


_OPENED = {
    BarrierKind.GATE: "quality:gate:passed",
    BarrierKind.CHECKPOINT: "checkpoint:resumed",
    BarrierKind.DELAY: "delay:expired",
}


def open_barrier(tx: Tx, barrier: Barrier, at: datetime, by: str | None) -> None:
    """Let through what it holds back; `by`: a person, where it was one."""
    tx[Barriers].save(rules.opened(barrier, at, by))
    changes.meet(tx, barrier.id, at, met=True)
    body = _about(barrier) | ({"by": by} if by else {})
    note(tx, at, _execution(tx, barrier), _OPENED[barrier.kind], **body)
    look_again(tx, barrier.execution_id)  # it may have been all that held up the end of it


def look_again(tx: Tx, execution_id: str) -> bool:
    """Let it be judged though no task of it moves; whether it has any."""
    some = tx[Tasks].find(Tasks.execution_id.eq(execution_id), limit=1)
    for task in some:
        tx[UnsettledTasks].save(Unsettled(task.id, execution_id))
    return bool(some)


def _about(barrier: Barrier) -> dict[str, object]:
    told = {"notify_channels": barrier.notify_channels} if barrier.notify_channels else {}
    return {"name": barrier.name, "message": barrier.message, "blocks_tasks": barrier.blocks, **told}


def _execution(tx: Tx, barrier: Barrier) -> Execution:
    execution = tx[Executions].get(barrier.execution_id)
    assert execution is not None  # its barriers go with it
    return execution


def _judge(tx: Tx, execution_id: str, at: datetime) -> None:
    execution = tx[Executions].get(execution_id)
    if execution is None:
        return
    if execution.status in ENDED:
        return
    if execution.status is ExecutionStatus.CANCELLING:
        cancel_rest(tx, execution, at)
    verdict = Verdict.GOES_ON
    if not _any(tx, execution_id, "moving"):  # what is blocked is not read before: it may name ten thousand others
        held = bool(tx[Barriers].find(Barriers.holding.eq(execution_id), limit=1))
        verdict = rules.judge(blocked=_any(tx, execution_id, "blocked"), held=held)
    match verdict:
        case Verdict.GOES_ON if execution.reason == DEADLOCK:
            tx[Executions].save(structs.replace(execution, reason=None, version=execution.version + 1, updated_at=at))
        case Verdict.DEADLOCK:
            _fail_blocked(tx, execution, at)
        case Verdict.OVER:
            end(tx, execution, at)


def _any(tx: Tx, execution_id: str, stage: str) -> bool:
    return bool(tx[Tasks].find(Tasks.execution_id.eq(execution_id), Tasks.stage.eq(stage), limit=1))


def _fail_blocked(tx: Tx, execution: Execution, at: datetime) -> None:
    """All that is left waits for what failed for good: it fails, too, so that the execution has an end."""
    here = (Tasks.execution_id.eq(execution.id), Tasks.stage.eq("blocked"))
    if execution.reason != DEADLOCK:
        execution = structs.replace(execution, reason=DEADLOCK, version=execution.version + 1, updated_at=at)
        tx[Executions].save(execution)
        blocked = tx[Tasks].find(*here, limit=MOST_NAMED)
        note(tx, at, execution, "orchestrator:deadlock", task_ids=[t.id for t in blocked])
    if execution.on_deadlock == "wait":
        return
    for task in tx[Tasks].find(*here, limit=BATCH):
        failed = walk(task, at, TaskStatus.AWAITING_APPROVAL, TaskStatus.FAILED, why=DEADLOCK)
        changes.apply(tx, failed)


def cancel_rest(tx: Tx, execution: Execution, at: datetime) -> None:
    """Some of what has not started yet; what runs was asked to end when the execution was aborted."""
    by = execution.ended_by or "mission"
    for stage in ("blocked", "moving"):
        for task in tx[Tasks].find(Tasks.execution_id.eq(execution.id), Tasks.stage.eq(stage), limit=BATCH):
            if not task.may_have_live_run:
                changes.apply(tx, walk(task, at, TaskStatus.CANCELLED, why="aborted", cancelled_by=by))


def end(tx: Tx, execution: Execution, at: datetime) -> None:
    """All of its tasks are over: it has an outcome, its mission goes on, and its agents leave."""
    mission = tx[Missions].get(execution.mission_id)
    tasks = tx[Tasks].find(Tasks.execution_id.eq(execution.id))
    aborted = execution.status is ExecutionStatus.CANCELLING
    threshold = mission.quality_threshold if mission is not None else None
    status, reason = rules.ending(tasks, threshold, aborted=aborted)
    ended = structs.replace(
        execution, status=status, reason=reason, report=report(tasks, at), finished_at=at, updated_at=at,
        version=execution.version + 1,
    )  # fmt: skip
    tx[Executions].save(ended)
    if ended.volatile == "on_complete":
        agents.dismiss(tx, ended, at)
    after = scheduling.ended(tx, ended, at)
    if mission is not None and not tx[Executions].find(Executions.live.eq(mission.id), limit=1):
        tx[Missions].save(structs.replace(mission, status=after, version=mission.version + 1, updated_at=at))
    if (request := approvals.pending(tx, f"execution/{execution.id}")) is not None:
        over = Resolution(status=ApprovalStatus.REJECTED, by="mission", note=f"it is {status}")
        for told in approvals.resolve(tx, request.id, over, at):
            tx.append(Events, told)
    all_passed = status is ExecutionStatus.COMPLETED
    note(tx, at, ended, "mission:completed", status=status, all_passed=all_passed, reason=reason, report=ended.report)


def move(tx: Tx, execution: Execution, to: ExecutionStatus, at: datetime, reason: str | None) -> Execution:
    """Pause or resume it, and its mission with it."""
    rules.require_edge(execution.status, to)
    moved = structs.replace(
        execution, status=to, reason=reason, version=execution.version + 1, updated_at=at, finished_at=None, report=None
    )
    tx[Executions].save(moved)
    mission = tx[Missions].get(execution.mission_id)
    if mission is not None and to in (ExecutionStatus.ACTIVE, ExecutionStatus.PAUSED):
        status = MissionStatus(to.value)
        tx[Missions].save(structs.replace(mission, status=status, version=mission.version + 1, updated_at=at))
    note(tx, at, moved, f"mission:{_MOVED[to]}", reason=reason)
    return moved


_MOVED = {
    ExecutionStatus.ACTIVE: "resumed",
    ExecutionStatus.PAUSED: "paused",
    ExecutionStatus.CANCELLING: "aborted",
}


def report(tasks: Sequence[Task], at: datetime) -> dict[str, object]:
    """What is kept of how it went (polpo-behaviour §8.1)."""
    scores = [value for task in tasks if (value := rules.score(task)) is not None]
    return {
        "tasks": len(tasks),
        "by_status": {str(s): n for s, n in Counter(task.status for task in tasks).items()},
        "attempts": sum(task.attempts for task in tasks),
        "retries": sum(task.retries for task in tasks),
        "duration": sum(task.result.duration or 0.0 for task in tasks if task.result is not None),
        "average_score": sum(scores) / len(scores) if scores else None,
        "deadlines": {str(met): n for met, n in Counter(map(deadlines.kept, tasks)).items() if met is not None},
        "not_done": [
            {"id": task.id, "title": task.title, "status": task.status}
            for task in tasks
            if task.status is not TaskStatus.DONE
        ][:MOST_NAMED],
    }
