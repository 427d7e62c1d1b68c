"""What the end of a run of checks means for the task whose work they are about: the table beside that of outcome.py.

Rules:

1. What was found decides, and only where the run ended as what it found says: a file that is not there, or of another
   run, or an exit code that says otherwise, is no verdict.
2. Checks that came to no verdict are carried out again: they spend no retry, and say nothing of the work.  How often is
   bounded (`maxAssessmentRetries`, `max_recoveries`).
3. The result stays that of the run that did the work; what was found is kept with it, earlier ones in short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from msgspec import structs

from polpod.model.assessments import HISTORY, Assessment, in_short, kept
from polpod.model.changes import Change
from polpod.model.events import Event
from polpod.model.runs import Reason, Run, RunStatus
from polpod.model.tasks import Task, TaskResult, TaskStatus, changed
from polpod.rules import prompts, retry
from polpod.rules.again import Circumstances, fix, retry_or_fail
from polpod.rules.deadlines import BY_DEADLINE
from polpod.rules.tasks import event, walk

Meaning = Callable[[Task, Run, datetime, Circumstances], Change]

NOT_CARRIED_OUT = "its checks could not be carried out"


def begin(task: Task, now: datetime, result: TaskResult) -> Change:
    """The work is done, and its checks are due."""
    trigger = "fix" if task.phase == "fix" else "retry" if task.retries else "initial"
    return walk(task, now, TaskStatus.REVIEW, result=result, phase="review", assessing=trigger, assessment_retries=0)


def launch(task: Task, run: Run, now: datetime) -> Change:
    """Its checks are carried out by this run; the task stays in review."""
    moved = changed(task, now, run_id=run.id, started_boot=run.boot_id, phase="review", not_before=None)
    started = event(task, "assessment:started", now, run_id=run.id, trigger=task.assessing, queue=task.queue)
    return Change(moved, (started,))


def finished_well(task: Task, now: datetime, result: TaskResult | None) -> Change:
    """Work that is done, and good as far as anybody could tell."""
    return walk(task, now, TaskStatus.DONE, assessing=None, result=result)


def with_history(result: TaskResult, before: TaskResult | None) -> TaskResult:
    """The result of another attempt, with what was found of those before."""
    if before is None:
        return result
    earlier = before.assessment_history
    if before.assessment is not None:
        earlier = (*earlier, in_short(before.assessment))
    return structs.replace(result, assessment_history=earlier[-HISTORY:])


def _judged(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    found = c.assessment
    if found is None or found.passed is None or found.passed is not (run.exit_code == 0):
        return _undecided(task, run, now, c)
    result = _assessed(task, run, found)
    if found.passed:
        return finished_well(task, now, result)
    return _failed(task, now, c, result, found, "its checks failed")


def _failed(
    task: Task, now: datetime, c: Circumstances, result: TaskResult, found: Assessment | None, why: str
) -> Change:
    if task.assessing == "reassess":
        # Somebody wanted to know, and nobody asked for anything else.
        return walk(task, now, TaskStatus.FAILED, why=why, result=result, assessing=None)
    if found is not None and found.passed is False:
        fixed = fix(task, now, c, prompts.after_checks(task, found, fix=True), result)
        if fixed is not None:
            return fixed
    told = prompts.after_checks(task, found, fix=False)
    return retry_or_fail(task, now, c, Reason.EXITED, why=why, told=told, result=result)


def _undecided(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    if task.cancelled_by is not None:
        return _cancelled(task, run, now, c)
    why = c.assessment.message if c.assessment is not None and c.assessment.passed is None else _how(run)
    found = c.assessment or Assessment(run_id=run.id, passed=None, timestamp=run.ended_at or now.isoformat())
    result = _assessed(task, run, structs.replace(found, passed=None, message=f"{NOT_CARRIED_OUT}: {why}"))
    if task.assessment_retries < c.terms.max_assessment_retries:
        return Change(changed(task, now, assessment_retries=task.assessment_retries + 1, result=result), ())
    return _failed(task, now, c, result, None, f"{NOT_CARRIED_OUT}: {why}")


def _cancelled(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    return _ended(task, now, task.cancelled_by or run.kill_by)


def _ended(task: Task, now: datetime, by: str | None) -> Change:
    """Somebody asked for its end: it is cancelled, or, at its deadline, failed."""
    status = TaskStatus.FAILED if by == BY_DEADLINE else TaskStatus.CANCELLED
    return walk(task, now, status, why=by, assessing=None)


def _interrupted(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    return _stays(task, run, now, "shutdown")


def _lost(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    if task.cancelled_by is not None:
        return _cancelled(task, run, now, c)
    lost = task.recoveries + 1
    if lost > task.max_recoveries:
        why = f"{NOT_CARRIED_OUT}: lost {lost} times"
        recovered = event(task, "task:recovered", now, previous=task.status, reason="lost")
        parked = walk(task, now, TaskStatus.AWAITING_APPROVAL, why=why, recoveries=lost, assessing=None)
        return Change(parked.task, (recovered, *parked.events))
    return _stays(task, run, now, "lost", recoveries=lost)


def _never_started(task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    # As in outcome.py: what was asked for before its runner claimed it happens at once.
    if run.kill_reason == Reason.CANCELLED or task.cancelled_by is not None:
        return _cancelled(task, run, now, c)
    if run.kill_reason == Reason.SHUTDOWN:
        return _interrupted(task, run, now, c)
    failures = task.launch_failures + 1
    if failures >= retry.LAUNCH_FAILURES_UNTIL_PARKED:
        why = f"{NOT_CARRIED_OUT}: they could not be started {failures} times in a row"
        return walk(task, now, TaskStatus.AWAITING_APPROVAL, why=why, launch_failures=failures, assessing=None)
    wait = timedelta(seconds=retry.delay(retry.LAUNCH_BACKOFF, task.launch_failures, c.roll))
    return _stays(task, run, now, "never_started", launch_failures=failures, not_before=now + wait)


def _stays(task: Task, run: Run, now: datetime, reason: str, **values: object) -> Change:
    """In review, to be checked once more."""
    if task.cancelled_by is not None:
        return _ended(task, now, task.cancelled_by)
    recovered = event(task, "task:recovered", now, previous=task.status, reason=reason)
    return Change(changed(task, now, **values), (recovered,))


MEANING: Mapping[tuple[RunStatus, Reason], Meaning] = {
    (RunStatus.COMPLETED, Reason.EXITED): _judged,
    (RunStatus.FAILED, Reason.EXITED): _judged,
    (RunStatus.FAILED, Reason.SIGNALLED): _undecided,
    (RunStatus.FAILED, Reason.OOM): _undecided,
    (RunStatus.FAILED, Reason.SPAWN_FAILED): _undecided,
    (RunStatus.KILLED, Reason.TIMEOUT): _undecided,
    (RunStatus.KILLED, Reason.STALE): _undecided,
    (RunStatus.KILLED, Reason.CANCELLED): _cancelled,
    (RunStatus.KILLED, Reason.SHUTDOWN): _interrupted,
    (RunStatus.LOST, Reason.LOST): _lost,
    (RunStatus.LOST, Reason.NEVER_STARTED): _never_started,
}


def outcome(task: Task, run: Run, now: datetime, c: Circumstances) -> Change | None:
    """The change that this terminal run of checks makes, or None when it comes too late to make one."""
    if task.status is not TaskStatus.REVIEW or (task.run_id or 0) > run.id or (task.applied_run or 0) >= run.id:
        return None
    meaning = MEANING[RunStatus(run.status), Reason(str(run.reason))]
    if task.run_id == run.id:
        return applied(meaning, task, run, now, c)
    # A power cut took back the launch, but not the run.
    if meaning is _never_started or (meaning is _cancelled and task.cancelled_by is None):
        return None
    launched = launch(task, run, now)
    return launched.and_then(applied(meaning, launched.task, run, now, c))


def applied(meaning: Meaning, task: Task, run: Run, now: datetime, c: Circumstances) -> Change:
    """What the run means, noted as applied."""
    change = meaning(task, run, now, c)
    failures = change.task.launch_failures if meaning is _never_started else 0
    noted = structs.replace(change.task, run_id=run.id, applied_run=run.id, launch_failures=failures)
    return Change(noted, (_complete(task, run, now, c), *change.events))


def _complete(task: Task, run: Run, now: datetime, c: Circumstances) -> Event:
    found = c.assessment
    return event(
        task, "assessment:complete", now, run_id=run.id, status=run.status, reason=str(run.reason),
        trigger=task.assessing, queue=task.queue, passed=found.passed if found else None, scores=found.scores if found else None,
        global_score=found.global_score if found else None, message=found.message if found else _how(run),
    )  # fmt: skip


def _assessed(task: Task, run: Run, found: Assessment) -> TaskResult:
    # A program that has the store as a library may have taken the result of the work away.
    work = task.result or TaskResult(run_id=run.id, status=run.status, reason=str(run.reason))
    found = structs.replace(found, trigger=task.assessing or "initial")
    return structs.replace(with_history(work, work), assessment=kept(found))


def _how(run: Run) -> str:
    """How the run of the checks ended, where that is all that is known."""
    if run.error:
        return run.error
    if run.signal is not None:
        return f"ended by signal {run.signal}"
    return f"exit code {run.exit_code}, and nothing written down" if run.reason == Reason.EXITED else str(run.reason)
