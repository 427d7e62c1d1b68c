"""What the end of a run means for its task: the table of DESIGN §7, used by collection, recovery and shutdown alike.

Rule 1: the key of idempotence is `applied_run`, never the status: applying a run a second time is a no-op.
Rule 2: recovery and shutdown never spend a retry; any other failure spends exactly one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from polpod.model.assessments import Assessment
from polpod.model.changes import Change
from polpod.model.policies import Terms
from polpod.model.polpo.approvals import ApprovalKind, Asked
from polpod.model.runs import Phase, Reason, Run, RunStatus
from polpod.model.tasks import Task, TaskResult, TaskStatus
from polpod.rules import approvals, budgets, prompts, retry, review
from polpod.rules.again import Circumstances, retry_or_fail
from polpod.rules.deadlines import BY_DEADLINE
from polpod.rules.tasks import event, requeue, walk

Meaning = Callable[[Task, Run, datetime, Circumstances], Change]


def _done(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    if task.checked:
        return review.begin(task, now, _result(task, run))
    reviewed = walk(task, now, TaskStatus.REVIEW, result=_result(task, run))
    return reviewed.and_then(review.finished_well(reviewed.task, now, reviewed.task.result))


def _failed(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    reason = Reason(str(run.reason))
    told = prompts.after_run(task, run, c.tail)
    failed = retry_or_fail(task, now, c, reason, why=reason, told=told, result=_result(task, run))
    if reason not in (Reason.TIMEOUT, Reason.STALE):
        return failed
    noted = event(task, "task:timeout", now, run_id=run.id, reason=reason, elapsed=run.duration)
    return Change(failed.task, (noted, *failed.events))


def _asked(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    """Its run asked and ended: the answer lets the task go on, and where that was given already it does."""
    question = task.question
    assert question is not None
    if question.refused:
        return walk(task, now, TaskStatus.FAILED, why="its question was rejected", result=_result(task, run))
    parked = walk(
        task, now, TaskStatus.AWAITING_APPROVAL, why="question", phase="clarification", result=_result(task, run)
    )
    parked = msgspec.structs.replace(parked, asked=Asked(kind=ApprovalKind.QUESTION, message=question.text))
    if question.answer is None:
        return parked
    why = f"{question.approval_id} was answered"
    return parked.and_then(approvals.resume(parked.task, question.text, question.answer, now, why))


def _cancelled(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    return walk(task, now, TaskStatus.CANCELLED, result=_result(task, run), why=task.cancelled_by or run.kill_by)


def _interrupted(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    return requeue(task, now, "shutdown", park=task.side_effects, result=_result(task, run))


def _lost(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    park = task.side_effects or task.recoveries >= task.max_recoveries
    return requeue(task, now, "lost", park=park, result=_result(task, run))


def _never_started(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    # A run that was to be ended before its runner claimed it: what was asked for happens at once.
    if run.kill_reason == Reason.CANCELLED:
        return _cancelled(task, run, now, c)
    if run.kill_reason == Reason.SHUTDOWN:
        return _interrupted(task, run, now, c)
    failures = task.launch_failures + 1
    wait = timedelta(seconds=retry.delay(retry.LAUNCH_BACKOFF, task.launch_failures, c.roll))
    park = failures >= retry.LAUNCH_FAILURES_UNTIL_PARKED
    return requeue(
        task, now, "never_started", park=park, launch_failures=failures, not_before=None if park else now + wait
    )


MEANING: Mapping[tuple[RunStatus, Reason], Meaning] = {
    (RunStatus.COMPLETED, Reason.EXITED): _done,
    (RunStatus.FAILED, Reason.EXITED): _failed,
    (RunStatus.FAILED, Reason.SIGNALLED): _failed,
    (RunStatus.FAILED, Reason.OOM): _failed,
    (RunStatus.FAILED, Reason.SPAWN_FAILED): _failed,
    (RunStatus.KILLED, Reason.TIMEOUT): _failed,
    (RunStatus.KILLED, Reason.STALE): _failed,
    (RunStatus.KILLED, Reason.CANCELLED): _cancelled,
    (RunStatus.KILLED, Reason.SHUTDOWN): _interrupted,
    (RunStatus.LOST, Reason.LOST): _lost,
    (RunStatus.LOST, Reason.NEVER_STARTED): _never_started,
}

_BEFORE_AN_END = frozenset({TaskStatus.PENDING, TaskStatus.AWAITING_APPROVAL, TaskStatus.IN_PROGRESS})
"""Where a power cut can have left the task of a run that ended; from anywhere else somebody moved it since."""

REQUEUES = frozenset({_interrupted, _lost, _never_started})
"""What would make a task run again by itself, but not one whose end somebody asked for (F48)."""


def outcome(
    task: Task | None,
    run: Run,
    now: datetime,
    roll: float,
    *,
    tail: str = "",
    assessment: Assessment | None = None,
    terms: Terms = Terms(),
) -> Change | None:
    """The change that this terminal run makes, or None when it comes too late to make one.

    `roll` in [0, 1) is the luck of the backoff's jitter; the rest as in Circumstances.  Raises KeyError for a status and
    reason that no table has.
    """
    c = Circumstances(roll=roll, tail=tail, assessment=assessment, terms=terms)
    if task is not None and run.phase is Phase.REVIEW:
        return review.outcome(task, run, now, c)
    if task is None or not _awaits(task, run):
        return None
    meaning = MEANING[RunStatus(run.status), Reason(str(run.reason))]
    if task.status is not TaskStatus.IN_PROGRESS:
        unknown = task.cancelled_by is None and run.kill_by != budgets.BY
        if meaning is _never_started or (meaning is _cancelled and unknown):
            return None  # nothing happened, or recovery ended a run that its task knows nothing of
        # A power cut took back the launch, but not the run: walk it once more.
        launched = launch(task, run, now)
        return launched.and_then(_applied(meaning, launched.task, run, now, c))
    return _applied(meaning, task, run, now, c)


def no_row(task: Task, boot_id: str, now: datetime) -> Change:
    """What a task in progress without any row in runs.db means: its run was rolled back by a power cut, or never was.

    In another boot it may have done anything (as lost); in this one it cannot have started.
    """
    status, reason = (
        (RunStatus.LOST, Reason.NEVER_STARTED) if task.started_boot == boot_id else (RunStatus.LOST, Reason.LOST)
    )
    run_id = task.run_id or 0
    phase = Phase.REVIEW if task.status is TaskStatus.REVIEW else Phase.EXECUTION
    stand_in = Run(
        id=run_id, task_id=task.id, attempt=task.attempts, phase=phase, queue=task.queue, nonce="", token_hash="", status=status,
        reason=reason, created_at="", boot_id="", claim_until_mono=0, containment="session", log_path="",
        error="its row is gone from the run store",
    )  # fmt: skip
    c = Circumstances(roll=0.0)
    if phase is Phase.REVIEW:
        return review.applied(review.MEANING[status, reason], task, stand_in, now, c)
    return _applied(MEANING[status, reason], task, stand_in, now, c)


def inexecutable(task: Task, now: datetime, error: str) -> Change:
    """A pending task that no run can carry out fails at once, and no repetition would help it."""
    result = TaskResult(run_id=task.run_id or 0, status=RunStatus.FAILED, reason=Reason.SPAWN_FAILED, error=error)
    return walk(task, now, TaskStatus.AWAITING_APPROVAL, TaskStatus.FAILED, why=error, result=result)


def launch(task: Task, run: Run, now: datetime) -> Change:
    """pending → assigned → in_progress, with the run that does it; `assigned` is never seen at rest.

    A run of checks leaves the task in review.
    """
    if run.phase is Phase.REVIEW:
        return review.launch(task, run, now)
    phase = "fix" if task.phase == "fix" else "execution"
    moved = walk(
        task, now, TaskStatus.ASSIGNED, TaskStatus.IN_PROGRESS,
        run_id=run.id, started_boot=run.boot_id, attempts=run.attempt, phase=phase, not_before=None, started_at=now,
        question=None,
    )  # fmt: skip
    # What a pending task was changed by last is as a rule what made it ready.
    waited = max(0.0, (now - task.updated_at).total_seconds())
    spawned = event(
        task, "agent:spawned", now, run_id=run.id, attempt=run.attempt, agent=task.assigned_to, queue=task.queue,
        waited=waited,
    )  # fmt: skip
    return Change(moved.task, (*moved.events, spawned))


def _awaits(task: Task, run: Run) -> bool:
    """in_progress with this run, or rolled back to before it."""
    return task.status in _BEFORE_AN_END and (task.run_id or 0) <= run.id and (task.applied_run or 0) < run.id


def _applied(meaning: Meaning, task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    if task.cancelled_by is not None and meaning in REQUEUES:
        meaning = _failed if task.cancelled_by == BY_DEADLINE else _cancelled
    if meaning is _done and _asks(task, run):
        meaning = _asked if task.cancelled_by is None else _cancelled
    change = meaning(task, run, now, c)
    ended = event(task, "agent:finished", now, **msgspec.to_builtins(_of(run)), queue=task.queue)
    failures = change.task.launch_failures if meaning is _never_started else 0
    # A power cut may have taken back the launch of this run, and left the task in progress with an older one.
    applied = msgspec.structs.replace(
        change.task,
        run_id=run.id or task.run_id,
        attempts=run.attempt,
        applied_run=run.id or task.applied_run,
        launch_failures=failures,
    )
    return msgspec.structs.replace(change, task=applied, events=(ended, *change.events))


def _asks(task: Task, run: Run) -> bool:
    """Whether the run asked, and ended without the answer."""
    return task.question is not None and task.question.run_id == run.id and not task.question.delivered


def _result(task: Task, run: Run) -> TaskResult:
    return review.with_history(_of(run), task.result)


def _of(run: Run) -> TaskResult:
    return TaskResult(
        run_id=run.id, status=run.status, reason=str(run.reason), exit_code=run.exit_code, signal=run.signal,
        duration=run.duration, error=run.error,
    )  # fmt: skip
