"""Whose a call is: the run that it comes from, and the task that it is about.

Rules:

1. A run acts on its own task, and only while it is live.
2. Others name the task: the owner and operators any, a member its own.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from polpod.errors import Conflict, InvalidRequest, PermissionDenied
from polpod.model.agents import StoredAgent
from polpod.model.polpo.missions import Mission
from polpod.model.runs import Run
from polpod.model.tasks import Task
from polpod.services.rpc.method import Call, Caller, Right
from polpod.services.rpc.peers import of_run
from polpod.store.changes import require

WRONG_TOKENS = 3
"""After so many that are none, a connection is told nothing any more, and ends."""


class Own(NamedTuple):
    """The task that a call is about, and the run that it comes from, if from one."""

    task: Task
    run: Run | None

    @property
    def by(self) -> str:
        """Whose work it is: the agent's, or the user's who submitted it."""
        return self.task.assigned_to or f"uid:{self.task.created_by}"


async def identify(call: Call, run_id: int, token: str) -> Run:
    """Give the connection the rights of that run and no others.

    Raises PermissionDenied: not its token, or another run's while inside of one; Conflict: the run is over.
    """
    run = await call.desk.instance.runs.read(lambda tx: tx.get(run_id))
    if call.wrong_tokens >= WRONG_TOKENS:
        raise PermissionDenied("too many wrong tokens")
    given = hashlib.sha256(token.encode()).hexdigest()
    if not hmac.compare_digest(given, run.token_hash if run is not None else "") or run is None:
        call.wrong_tokens += 1
        raise PermissionDenied(f"that is not the token of run {run_id}")
    if call.caller.run_id not in (None, run_id):
        raise PermissionDenied(f"from inside run {call.caller.run_id}, nobody speaks for run {run_id}")
    if not run.live:
        raise Conflict(f"run {run_id} is over: what it left behind does not speak for it")
    call.caller = of_run(call.caller, run_id)
    return run


async def own_run(call: Call) -> Run:
    """The run that the call comes from.  Raises PermissionDenied: from none; Conflict: it is over."""
    run_id = call.caller.run_id
    if run_id is None:
        raise PermissionDenied("only a job says that, of its own run: call it in the task's command")
    run = await call.desk.instance.runs.read(lambda tx: tx.get(run_id))
    if run is None or not run.live:
        raise Conflict(f"run {run_id} is over")
    return run


async def own_task(call: Call, task_id: str | None) -> Own:
    """The task that the call is about: the run's, or the one that is named.

    Raises PermissionDenied, NotFound, Conflict (rule 1), InvalidRequest: none is named.
    """
    run = None if call.caller.run_id is None else await own_run(call)
    if run is not None and task_id not in (None, run.task_id):
        raise PermissionDenied(f"run {run.id} acts on task {run.task_id} only")
    wanted = task_id if run is None else run.task_id
    if wanted is None:
        raise InvalidRequest("which task? outside of a run it has to be named", "$.task_id")
    task = await call.desk.instance.tasks.read(lambda tx: require(tx, wanted))
    if run is None:
        require_own(call.caller, task)
    return Own(task, run)


_NOUNS = {Task: "task", Mission: "mission", StoredAgent: "agent"}


def is_own(caller: Caller, what: Task | Mission | StoredAgent) -> bool:
    """Rule 2, of a caller outside of a run."""
    return caller.right >= Right.OPERATOR or (caller.right is Right.MEMBER and caller.uid == what.created_by)


def require_own(caller: Caller, what: Task | Mission | StoredAgent) -> None:
    """Raises PermissionDenied: a member's call about what is another user's, or any call about it from a run."""
    if caller.right is Right.RUN:
        raise PermissionDenied("not from inside a run")
    if not is_own(caller, what):
        raise PermissionDenied(f"{_NOUNS[type(what)]} {what.id} belongs to uid {what.created_by}")
