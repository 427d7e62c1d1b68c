"""polpod's own tasks that work on A2A tasks: an agent is given what a user said last, and what it does is reported back.

Rules:

1. A message is worked on once: assigned again, it is the same task.  Another waits until the one before is over.
2. Whoever changes such a task notes it in the same transaction (store/changes.py); the note goes in the transaction that
   reported it here.  So a daemon that dies in between does it when it is there again, and an artifact is added once.
3. The newest task speaks for the A2A task; cancelling that one cancels it.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import NamedTuple

import trio
from msgspec import Struct, structs

from polpod import crash
from polpod.config import Config
from polpod.errors import Conflict, RequestError, TooLarge
from polpod.model.a2a import A2AAssignment, Changes, Role, StoredTask, TaskState, TaskStatus, TextPart
from polpod.model.submissions import Submission
from polpod.model.tasks import Spec, Task
from polpod.rules import a2a as rules
from polpod.services import a2a, operations
from polpod.services.insist import insist, insist_read
from polpod.services.instance import Instance, now
from polpod.services.logs import read_end
from polpod.services.rpc.method import Caller
from polpod.services.submission import create
from polpod.store import changes
from polpod.store.a2a import A2AAssignments, A2ATasks, newest_assignment
from polpod.store.records import Tx
from polpod.store.tables import Tasks

BATCH = 64
TAIL = 2**14
"""Bytes of a log that an artifact has."""
FALLBACK = 60.0
"""Seconds after which it looks even if nobody rang."""

log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """What a user asked for last."""

    message: int
    """Its place in the history."""
    text: str


class Assigned(Struct, frozen=True):
    task_id: str
    created: bool
    """False: the message was assigned before, to this task."""


class Tail(NamedTuple):
    run_id: int
    text: str


def wanted(tx: Tx, by: Caller, a2a_id: str) -> Wanted:
    """What its newest message of a user says.  Raises NotFound; Conflict where no user said anything."""
    task = a2a.require(tx, by, a2a_id).stored.task
    for number, message in reversed(list(enumerate(task.history or ()))):
        if message.role is Role.USER:
            text = "\n\n".join(part.text for part in message.parts if isinstance(part, TextPart))
            if text.strip():
                return Wanted(number, text)
            raise Conflict(f"A2A task {a2a_id!r}: there is no text in what the user said last")
    raise Conflict(f"A2A task {a2a_id!r}: no user said anything yet")


def assign(
    tx: Tx, by: Caller, a2a_id: str, said: Wanted, submission: Submission, spec: Spec, config: Config, at: datetime
) -> Assigned:
    """Let the submission's agent work on it.  Raises NotFound, Conflict: more was said, or earlier work goes on."""
    if wanted(tx, by, a2a_id) != said:
        raise Conflict(f"A2A task {a2a_id!r}: more was said meanwhile; assign it again")
    before = newest_assignment(tx, a2a_id)
    if before is not None and before.message == said.message:
        return Assigned(before.task_id, created=False)
    earlier = None if before is None else tx[Tasks].get(before.task_id)
    if earlier is not None and not earlier.finished:
        raise Conflict(f"task {earlier.id} still works on what was said before ({earlier.status})")
    task = create(tx, submission, spec, config, by.uid, at, a2a_id=a2a_id)
    tx[A2AAssignments].add(A2AAssignment(task.id, a2a_id, said.message, behind=True))
    changes.note(tx, at, "a2a:assigned", f"a2a/{a2a_id}", task_id=task.id, agent=submission.agent, by=by.name)
    report(tx, task.id, None, at)
    return Assigned(task.id, created=True)


def cancel_with(tx: Tx, stored: StoredTask, at: datetime, by: str) -> list[int]:
    """An A2A task was changed: if it is cancelled, so is what works on it.  The live runs that have to be ended for that."""
    newest = newest_assignment(tx, stored.id) if stored.task.status.state is TaskState.CANCELED else None
    task = None if newest is None else tx[Tasks].get(newest.task_id)
    if task is None or task.finished:
        return []
    run_id = operations.cancel(tx, task, at, by).run_id
    return [run_id] if isinstance(run_id, int) else []


async def serve(instance: Instance) -> None:
    """Report what is noted, for as long as the daemon lives."""
    await instance.recovered.wait()
    while True:
        behind = await insist_read(instance.tasks, _behind)
        for task_id, task in behind:
            tail = None if task is None else await _tail(instance, task)
            await _report(instance, task_id, tail)
            crash.point("a2a.reported")
        if not behind:
            await instance.journal.a2a.wait(trio.current_time() + FALLBACK)


def _behind(tx: Tx) -> list[tuple[str, Task | None]]:
    found = tx[A2AAssignments].find(A2AAssignments.behind.is_set(), limit=BATCH)
    return [(one.task_id, tx[Tasks].get(one.task_id)) for one in found]


async def _report(instance: Instance, task_id: str, tail: Tail | None) -> None:
    await insist(instance.tasks, lambda tx: report(tx, task_id, tail, now()), durable=False)


async def _tail(instance: Instance, task: Task) -> Tail | None:
    """The end of the log of its newest run, once it is over."""
    run_id = task.run_id
    if run_id is None or not task.finished:
        return None
    run = await insist_read(instance.runs, lambda tx: tx.get(run_id))
    try:
        data = b"" if run is None else await trio.to_thread.run_sync(read_end, run.log_path, TAIL)
    except RequestError as exc:
        data = f"({exc})\n".encode()
    return Tail(run_id, data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"))


def report(tx: Tx, task_id: str, tail: Tail | None, at: datetime) -> None:
    """Say in the A2A task how its task stands; that is noted no more, unless the end of another log is needed for it."""
    assignment = tx[A2AAssignments].get(task_id)
    if assignment is None or not assignment.behind:
        return
    task, kept = tx[Tasks].get(task_id), tx[A2ATasks].get(assignment.a2a_id)
    newest = newest_assignment(tx, assignment.a2a_id)
    if kept is not None and newest == assignment:
        known = kept.stored
        over = task is not None and task.finished and task.run_id is not None
        if task is not None and over and not rules.has_work_of(known, task):
            if tail is None or tail.run_id != task.run_id:
                return  # it went on since that was read
            known = _with(known, Changes(artifacts_updates=(rules.work_of(known, task, tail.text),)), at)
        state = rules.state_of(task, known.task.status.state)
        if state is not known.task.status.state:
            known = _with(known, Changes(status=TaskStatus(state=state, timestamp=at)), at)
        if known is not kept.stored:
            tx[A2ATasks].save(structs.replace(kept, stored=known))
            changes.note(tx, at, "a2a:updated", f"a2a/{known.id}", state=known.task.status.state, task_id=task_id)
    if task is None:
        tx[A2AAssignments].delete(task_id)
    else:
        tx[A2AAssignments].save(structs.replace(assignment, behind=False))


def _with(stored: StoredTask, said: Changes, at: datetime) -> StoredTask:
    try:
        return rules.update(stored, stored.id, said, at)
    except TooLarge as exc:
        log.warning("not all is said about what was done for it: %s", exc)
        return stored
