"""Why a task waits, in words: computed from rows, never stored (DESIGN §5)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from msgspec import Struct, structs

from polpod.model.agents import Busy, Queue
from polpod.model.executions import Barrier, BarrierKind, BarrierState, Execution, ExecutionStatus
from polpod.model.polpo.approvals import ApprovalKind, ApprovalRequest
from polpod.model.runs import Run
from polpod.model.tasks import Task, TaskStatus
from polpod.rules import failures
from polpod.rules.budgets import first_over
from polpod.rules.pick import Capacity


class State(StrEnum):
    """What a person wants to read: the status, made finer where it hides something."""

    DRAFT = "draft"
    HELD = "held"
    PAUSED = "paused"
    """With its mission, or since its project is over its budget."""
    BLOCKED = "blocked"
    WAITING = "waiting"
    DELAYED = "delayed"
    READY = "ready"
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    CANCELLING = "cancelling"
    STUCK = "stuck"
    REVIEW = "review"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_PLAIN = {
    TaskStatus.DRAFT: State.DRAFT,
    TaskStatus.AWAITING_APPROVAL: State.AWAITING_APPROVAL,
    TaskStatus.REVIEW: State.REVIEW,
    TaskStatus.DONE: State.DONE,
    TaskStatus.FAILED: State.FAILED,
    TaskStatus.CANCELLED: State.CANCELLED,
}
_ENDED = {TaskStatus.FAILED: "failed", TaskStatus.CANCELLED: "was cancelled"}
DEAD_ENDS = frozenset(_ENDED)
"""A dependency that will not be done unless a person retries it."""


class Surroundings(Struct, frozen=True):
    """What a task's state depends on beside its own row."""

    dependencies: Sequence[Task] = ()
    """Those that are not done."""
    run: Run | None = None
    """Its live run."""
    stuck: bool = False
    """Its kill was asked for long ago and something of it still lives."""
    quarantined: Sequence[str] = ()
    """Ids of tasks and barriers that it waits for and whose records cannot be read: nothing becomes of them (F10)."""
    barriers: Sequence[Barrier] = ()
    """Those of its mission that are not open."""
    idle: Execution | None = None
    """Its execution, where nothing of that starts now."""
    approval: ApprovalRequest | None = None
    """The one that is pending about it."""
    rejected: ApprovalRequest | None = None
    """The one by which it failed."""
    over_budget: str | None = None
    """Its project, where nothing of that starts now, since it spent too much."""


def state(task: Task, around: Surroundings) -> State:
    if task.status is TaskStatus.REVIEW and task.occupies:
        return _of_run(task, around, State.REVIEW)
    if plain := _PLAIN.get(task.status):
        return plain
    if task.status is not TaskStatus.PENDING:
        return _of_run(task, around, State.RUNNING)
    if task.hold:
        return State.HELD
    if task.unmet:
        dead_end = around.quarantined or any(d.status in DEAD_ENDS for d in around.dependencies)
        return State.BLOCKED if dead_end or any(b.reason for b in around.barriers) else State.WAITING
    if around.idle is not None or around.over_budget is not None:
        return State.PAUSED
    if task.spec_id is None:
        return State.WAITING
    return State.DELAYED if task.not_before is not None else State.READY


def _of_run(task: Task, around: Surroundings, usual: State) -> State:
    if around.stuck:
        return State.STUCK
    return State.CANCELLING if around.run is not None and around.run.kill_reason else usual


class Ending(Struct, frozen=True):
    """How waiting for a task ends: None while it goes on."""

    outcome: Literal["done", "failed", "cancelled", "unknown", "blocked"] | None
    message: str | None = None


def ending(task: Task, rejected: ApprovalRequest | None = None) -> Ending:
    """Whether, and how, waiting for this task is over, whatever becomes of those that it waits for.

    `rejected`: the request by which it failed.
    """
    match task.status:
        case TaskStatus.DONE:
            return Ending("done")
        case TaskStatus.FAILED:
            return Ending("failed", failures.sentence(task, rejected))
        case TaskStatus.CANCELLED:
            return Ending("cancelled")
        case TaskStatus.AWAITING_APPROVAL:
            return Ending("unknown", _parked(task).sentences[0])
    return Ending(None)


def blocked(on_id: str, status: TaskStatus | None) -> Ending:
    """How waiting ends for a pending task that waits, directly or through others, for one of DEAD_ENDS.

    `status`: None for one that is quarantined.
    """
    what = "is quarantined" if status is None else _ENDED[status]
    return Ending("blocked", f"task {on_id}, which it waits for, {what}")


class Why(Struct, frozen=True):
    """Sentences that explain, and the commands that would change it."""

    sentences: tuple[str, ...]
    next: tuple[str, ...] = ()


def why(
    task: Task,
    around: Surroundings,
    capacity: Capacity,
    busy: Busy,
    ahead: int,
    paused: str | None,
    now: datetime,
) -> Why:
    """Why the task is where it is.  `ahead`: ready tasks of its queue before it; `paused`: why nothing starts at all."""
    at = state(task, around)
    t = task.id
    match at:
        case State.HELD:
            return Why((f"Task {t} is on hold.",), (f"polpoctl release {t}",))
        case State.WAITING if not task.unmet:
            return _nothing_to_execute(task)
        case State.BLOCKED | State.WAITING:
            return _unmet(task, around)
        case State.PAUSED if around.idle is not None:
            return _paused(around.idle)
        case State.PAUSED:
            return _project_over_budget(str(around.over_budget))
        case State.DELAYED:
            return _delayed(task, " after a failed attempt" if task.attempts else "", now)
        case State.READY:
            return _queued(task, capacity, busy, ahead, paused)
        case State.REVIEW:
            return _in_review(task, around, capacity, busy, ahead, paused, now)
        case State.RUNNING:
            return _asks(task, around.approval) or Why(
                (f"Task {t} is running (run {task.run_id}).",), (f"polpoctl logs -f {t}",)
            )
        case State.CANCELLING:
            assert around.run is not None
            return Why((_ending_run(around.run, now),), (f"polpoctl wait {t}",))
        case State.STUCK:
            return Why(
                (f"Run {task.run_id} cannot be ended: something of it survives SIGKILL.",), (f"polpoctl show {t}",)
            )
        case State.AWAITING_APPROVAL:
            return _parked(task, around.approval, now)
        case State.FAILED:
            return Why((failures.sentence(task, around.rejected),), failures.steps(task, around.rejected))
        case State.CANCELLED if task.cancelled_by is not None:
            return Why((f"Task {t} was cancelled by {task.cancelled_by}.",), (f"polpoctl retry {t}",))
        case _:
            return Why((f"Task {t} is {at}.",))


def _delayed(task: Task, because: str, now: datetime) -> Why:
    assert task.not_before is not None
    seconds = max(0, round((task.not_before - now).total_seconds()))
    until = f"{task.not_before:%Y-%m-%d %H:%M:%S} UTC, {seconds} s from now"
    return Why((f"Task {task.id} waits{because} until {until}.",))


def _in_review(
    task: Task, around: Surroundings, capacity: Capacity, busy: Busy, ahead: int, paused: str | None, now: datetime
) -> Why:
    number = len(task.expectations) + len(task.metrics)
    checks, come = ("1 check", "comes") if number == 1 else (f"{number} checks", "come")
    if task.occupies:
        goes_on = f"The work of task {task.id} is done, and goes through {checks} (run {task.run_id})."
        return Why((goes_on,), (f"polpoctl logs -f {task.id}",))
    if not task.awaits_checks:
        steps = (f"polpoctl reassess {task.id}",) if number and task.run_id is not None else ()
        open_end = f"The work of task {task.id} is done, and nobody has said yet whether it is good."
        return Why((open_end,), (*steps, f"polpoctl cancel {task.id}"))
    if around.idle is not None:
        waits = _paused(around.idle)
    elif task.not_before is not None:
        waits = _delayed(task, ", since they could not be started,", now)
    else:
        waits = _queued(task, capacity, busy, ahead, paused)
    return Why((f"The work of task {task.id} is done; {checks} of it {come} next.", *waits.sentences), waits.next)


def _ending_run(run: Run, now: datetime) -> str:
    text = f"Run {run.id} is being ended ({run.kill_reason})"
    if run.kill_at is None or run.kill_grace is None:
        return f"{text}."
    asked = (now - datetime.fromisoformat(run.kill_at)).total_seconds()
    left = run.kill_grace - asked
    then = f"SIGKILL follows in {left:.0f} s" if left > 0 else f"SIGKILL {-left:.0f} s ago"
    return f"{text}: SIGTERM {max(0.0, asked):.0f} s ago, {then}."


def _paused(execution: Execution) -> Why:
    because = f": {execution.reason}" if execution.reason else ""
    mission = execution.mission_id
    if first_over(execution.budget, execution.spent) is not None:
        return Why((f"Mission {mission} is {execution.status}{because}.",), ("polpoctl approval list",))
    return Why(
        (f"Mission {mission} is {execution.status}{because}.",),
        (f"polpoctl mission resume {mission}",) if execution.status is ExecutionStatus.PAUSED else (),
    )


def _held_back(task: Task, barrier: Barrier) -> tuple[str, str | None]:
    """A sentence on what holds the task back, and the command that lets it through."""
    what = f"{barrier.kind} {barrier.name}"
    says = f" ({barrier.message})" if barrier.message else ""
    mission = barrier.execution_id.rpartition(".")[0]
    through = f"polpoctl mission resume {mission} --barrier {shlex.quote(barrier.name)}"
    if barrier.state is BarrierState.WAITING:
        return f"Task {task.id} waits for {what}, and that for {barrier.remaining} tasks to be over.", None
    if barrier.kind is BarrierKind.DELAY:
        return f"Task {task.id} waits for {what}{says} until {barrier.until:%Y-%m-%d %H:%M:%S} UTC.", through
    if barrier.kind is BarrierKind.GATE:
        return f"Task {task.id} is blocked: {what}{says} does not open: {barrier.reason}.", through
    return f"Task {task.id} waits for a person at {what}{says}.", through


def _unmet(task: Task, around: Surroundings) -> Why:
    dependencies, quarantined = around.dependencies, around.quarantined
    if around.barriers:
        held = [_held_back(task, barrier) for barrier in around.barriers]
        rest = _unmet(task, structs.replace(around, barriers=())) if dependencies or quarantined else Why(())
        through = tuple(dict.fromkeys(step for _, step in held if step))
        return Why((*rest.sentences, *(says for says, _ in held)), (*rest.next, *through))
    dead = [d for d in dependencies if d.status in DEAD_ENDS]
    if dead or quarantined:
        because = [f"task {d.id} ({d.title}) {_ENDED[d.status]}" for d in dead]
        lost = [("barrier" if "/" in i else "task", i) for i in quarantined]
        because += [f"{noun} {i} is quarantined, since its record cannot be read" for noun, i in lost]
        steps = [f"polpoctl retry {d.id}" for d in dead] + [f"polpoctl show {i}" for noun, i in lost if noun == "task"]
        sentences = tuple(f"Task {task.id} is blocked: {what}." for what in because)
        return Why(sentences, (*steps, f"polpoctl cancel {task.id}"))
    names = ", ".join(f"{d.id} ({d.status})" for d in dependencies[:10])
    more = f" and {len(dependencies) - 10} more" if len(dependencies) > 10 else ""
    return Why((f"Task {task.id} waits for task {names}{more} to be done.",))


def _nothing_to_execute(task: Task) -> Why:
    """It was stored by a program that uses the store as a library, and carries out its tasks by itself."""
    who = f"agent {task.assigned_to}" if task.assigned_to else "somebody"
    return Why(
        (f"Task {task.id} says nothing to execute: it waits for {who} outside polpod to take it.",),
        (f"polpoctl cancel {task.id}",),
    )


def _queued(task: Task, capacity: Capacity, busy: Busy, ahead: int, paused: str | None) -> Why:
    if paused:
        return Why((f"Nothing starts at the moment: {paused}.",), ("polpoctl status",))
    if task.assigned_to is not None and capacity.agents.get(task.assigned_to) == 0:
        return Why(
            (f"Task {task.id} waits for agent {task.assigned_to}, and there is none of that name any more.",),
            ("polpoctl agent list", f"polpoctl edit {task.id} --agent NAME"),
        )
    queue = capacity.queues.get(task.queue, Queue(name=task.queue))
    if queue.paused:
        return Why((f"Queue {queue.name} is paused.",), (f"polpoctl resume {queue.name}",))
    taken = busy.queues.get(task.queue, 0)
    first = "1 ready task of this queue goes" if ahead == 1 else f"{ahead} ready tasks of this queue go"
    before = f" {first} first." if ahead else ""
    if queue.slots is not None and taken >= queue.slots:
        raise_to = f"polpoctl queue {queue.name} --slots {queue.slots + 1}"
        return Why((f"All {queue.slots} slots of queue {queue.name} are taken.{before}",), (raise_to,))
    if busy.total >= capacity.total:
        return Why((f"All {capacity.total} slots are taken.{before}",), ("polpoctl list",))
    if task.assigned_to and busy.agents.get(task.assigned_to, 0) >= capacity.agents.get(
        task.assigned_to, capacity.total
    ):
        return Why((f"Agent {task.assigned_to} is busy.{before}",), ("polpoctl list",))
    return Why((f"Task {task.id} is about to start.{before}",))


_UNDECIDED = {"lost": "The outcome of run {} is unknown", "shutdown": "Run {} was ended as polpod stopped"}


def _asks(task: Task, request: ApprovalRequest | None) -> Why | None:
    """Where its run, which goes on, has asked something."""
    if request is None:
        return None
    says = f"Run {task.run_id} of task {task.id} asks: {request.message}"
    return Why((says,), (f"polpoctl answer {task.id} TEXT", f"polpoctl logs -f {task.id}"))


def _project_over_budget(project: str) -> Why:
    return Why((f"Project {project} is over its budget: nothing more of it starts.",), ("polpoctl approval list",))


_ASKED = {
    ApprovalKind.START: "Task {0} starts when somebody approves it.",
    ApprovalKind.DONE: "What task {0} did is done when somebody approves it.",
    ApprovalKind.EFFECTS: "It has side effects: a person has to decide whether to do it again.",
    ApprovalKind.ESCALATION: "Nobody got it right: a person has to decide.",
    ApprovalKind.BUDGET: "It is over its budget: {1}.",
    ApprovalKind.QUESTION: "It asks: {1}",
    ApprovalKind.QUARANTINED: "Nobody can read how its run ended ({1}): a person has to decide.",
}


def _parked(task: Task, request: ApprovalRequest | None = None, now: datetime | None = None) -> Why:
    """`request`: the one that is pending about it, where it was read."""
    said = _ASKED.get(request.kind) if request is not None and request.kind is not None else None
    if request is None or said is None:
        return _stopped(task, request)
    gate = f" ({request.gate_name or request.gate_id})" if request.gate_id != "polpod" else ""
    sentences = [said.format(task.id, request.message) + gate]
    if request.deadline is not None and now is not None:
        left = (request.deadline - now).total_seconds()
        then = {"approve": "it is approved by itself", "reject": "it is rejected by itself"}.get(
            request.on_timeout or "", "that is told, and it goes on waiting"
        )
        when = f"{request.deadline:%Y-%m-%d %H:%M:%S} UTC"
        sentences.append(f"At {when} {then}." if left > 0 else f"The deadline passed at {when}.")
    if request.kind is ApprovalKind.QUESTION:
        return Why(tuple(sentences), (f"polpoctl answer {task.id} TEXT", f"polpoctl approval reject {task.id}"))
    return Why(tuple(sentences), (f"polpoctl approval approve {task.id}", f"polpoctl approval reject {task.id}"))


def _stopped(task: Task, request: ApprovalRequest | None) -> Why:
    result = task.result
    commands = (f"polpoctl retry {task.id}", f"polpoctl cancel {task.id}")
    if task.launch_failures:
        return Why((f"It could not be started {task.launch_failures} times in a row.",), commands)
    if (found := failures.not_passed(task)) is not None:
        also = ", and it has side effects" if task.side_effects else ""
        again = (f"polpoctl reassess {task.id}", *commands)
        return Why((f"Task {task.id} did not pass its checks{also}: {found}: a person has to decide.",), again)
    if result is not None and result.reason in _UNDECIDED:
        lost = "once" if task.recoveries == 1 else f"{task.recoveries} times"
        also = " and it has side effects" if task.side_effects else f" (lost {lost})"
        return Why((f"{_UNDECIDED[result.reason].format(result.run_id)}{also}: a person has to decide.",), commands)
    because = f": {request.message}" if request is not None and request.message else ""
    return Why((f"Task {task.id} waits for approval{because}.",), commands)
