"""Takes work in: from what a client hands in to a stored task, or a refusal that names the field."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct, structs

from polpod.config import Config
from polpod.errors import Conflict, InvalidRequest, PermissionDenied, TooLarge
from polpod.model.agents import Agent, Queue
from polpod.model.changes import Change
from polpod.model.expectations import Expectation, as_said
from polpod.model.submissions import Edit, Submission
from polpod.model.tasks import Backoff, Lent, Spec, Task
from polpod.rules.approvals import held_to_start
from polpod.rules.tasks import event
from polpod.services import assignment
from polpod.services.instance import now
from polpod.services.reviewing import NO_REVIEWER, without_reviewer
from polpod.store import changes, quarantine, queries
from polpod.store.records import Tx
from polpod.store.tables import Queues, stored_spec

AGENT_MAX_DURATION = timedelta(minutes=30).total_seconds()
AGENT_STALE_THRESHOLD = timedelta(minutes=5).total_seconds()
"""Polpo's limits, for work given to an agent; a plain command has none unless somebody says so (DESIGN §5)."""


LARGEST_TASK = 2**18
LARGEST_SPEC = 2**21
"""Bytes of JSON: a task with what it executes and its runs must fit into one answer (DESIGN §9), and Linux hands no more
than this to a program as its arguments and environment."""


class Submitted(Struct, frozen=True):
    id: str
    created: bool
    """False: the idempotency key named a task that was there already."""


def enterable(cwd: str) -> None:
    """Refuse a working directory that a job could not enter (DESIGN §6).  Blocking.

    Raises InvalidRequest where there is no such directory, PermissionDenied where polpod's user may not enter it.
    """
    try:
        is_directory = os.path.isdir(cwd)
        may_enter = os.access(cwd, os.X_OK)
        os.stat(cwd)
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDenied(_FORBIDDEN.format(cwd=cwd)) from exc
        raise InvalidRequest(f"cwd {cwd}: {exc.strerror}", "$.cwd") from exc
    if not is_directory:
        raise InvalidRequest(f"cwd {cwd}: not a directory", "$.cwd")
    if not may_enter:
        raise PermissionDenied(_FORBIDDEN.format(cwd=cwd))


_FORBIDDEN = (
    "cwd {cwd}: the user that polpod runs as cannot enter it; run a polpod of your own for this directory, "
    "or share it with that user"
)


def specify(
    submission: Submission, config: Config, default_cwd: str, agents: Mapping[str, Agent] | None = None
) -> Spec:
    """What the submission says to execute.  Raises InvalidRequest, naming the field.

    `agents` are those that there are, by name; None: those of polpo.json.
    """
    agent = _agent(submission, {a.name: a for a in config.agents} if agents is None else agents)
    command, shell = submission.command, submission.shell
    lent = None if agent is None else Lent(env=agent.env, cwd=submission.cwd is None)
    if command is not None and shell is not None:
        raise InvalidRequest("command and shell: give one of them", "$.shell")
    if command is None and shell is None:
        if agent is None:
            raise InvalidRequest("no command, no shell text and no agent: nothing to do", "$.command")
        command, lent = assignment.command_of(agent), assignment.lent(agent, cwd=submission.cwd is None)
    if command is not None and not command[0]:
        raise InvalidRequest("the name of the command is empty", "$.command[0]")
    for number, argument in enumerate(command or ()):
        _refuse_nul(argument, f"$.command[{number}]")
    _refuse_nul(shell or "", "$.shell")
    cwd = submission.cwd or (_work_dir(agent, config, default_cwd) if agent else default_cwd)
    _refuse_nul(cwd, "$.cwd")
    _refuse_nul(submission.stdin or "", "$.stdin")
    if not os.path.isabs(cwd):
        raise InvalidRequest(f"cwd {cwd}: not an absolute path", "$.cwd")
    if submission.stdin is not None and not os.path.isabs(submission.stdin):
        raise InvalidRequest(f"stdin {submission.stdin}: not an absolute path", "$.stdin")
    env = dict(clean_environment() if submission.env is None else submission.env)
    for name, value in (env | (agent.env if agent else {})).items():
        if not name or "=" in name:
            raise InvalidRequest(f"env: {name!r} is not a name", "$.env")
        _refuse_nul(name + value, "$.env")
    umask = 0o022 if submission.umask is None else submission.umask
    spec = Spec(command=command, shell=shell, cwd=cwd, env=env, umask=umask, stdin=submission.stdin, agent=lent)
    assignment.refuse_prompt(spec, submission.title or "", submission.description)
    refuse_unreviewed(submission.expectations, config)
    _refuse_large("command, shell, cwd and env", spec, LARGEST_SPEC)
    refuse_large_task(structs.replace(submission, command=None, shell=None, cwd=None, env=None))
    return spec


def refuse_unreviewed(expectations: Iterable[Expectation], config: Config) -> None:
    """Raises InvalidRequest for a review that nobody could be asked for."""
    if (number := without_reviewer(expectations, config)) is not None:
        raise InvalidRequest(NO_REVIEWER, f"$.expectations[{number}].command")


def refuse_large_task(said: Submission | Edit) -> None:
    """Raises TooLarge when what is said about a task, other than what it executes, is too much to keep with it."""
    _refuse_large("title, description, labels and the like", said, LARGEST_TASK)


def store(tx: Tx, submission: Submission, spec: Spec, config: Config, uid: int) -> Submitted:
    """Store the task that the submission asks for, with its spec, dependencies and events.

    Raises NotFound for a dependency that does not exist, Conflict for an idempotency key that means something else.
    """
    at = now()
    if submission.idempotency_key is not None:
        known = queries.by_idempotency_key(tx, uid, submission.idempotency_key)
        if known is not None:
            if known.spec_id != stored_spec(spec).id or (spec.template and submission.description != _prompt(known)):
                raise Conflict(
                    f"idempotency key {submission.idempotency_key!r} is task {known.id}, which does other work"
                )
            return Submitted(known.id, created=False)
        if (kept := quarantine.by_idempotency_key(tx, uid, submission.idempotency_key)) is not None:
            raise Conflict(f"idempotency key {submission.idempotency_key!r} is {kept.subject}, which is quarantined")
    depends_on = tuple(dict.fromkeys(submission.depends_on))
    met = changes.dependencies(tx, depends_on)
    unmet = list(met.values()).count(False)
    task = create(tx, submission, spec, config, uid, at, depends_on=depends_on, unmet=unmet)
    changes.depend(tx, task.id, met)
    return Submitted(task.id, created=True)


def create(
    tx: Tx, submission: Submission, spec: Spec, config: Config, uid: int, at: datetime, id: str | None = None,
    **values: object,
) -> Task:  # fmt: skip
    """A new task as the submission says; `values` are fields that those who submit do not choose.

    Whoever says what it waits for stores that, too.  Raises InvalidRequest for an instant that is none in UTC.
    """
    not_before, deadline = utc(submission.not_before, "$.not_before"), utc(submission.deadline, "$.deadline")
    submission = structs.replace(submission, not_before=not_before, deadline=deadline)
    spec_id = queries.keep_spec(tx, spec)
    open_queue(tx, submission.queue, config)
    task = _task(submission, spec, spec_id, config, uid, at, id or queries.next_task_id(tx), queries.next_task_seq(tx))
    task = structs.replace(task, **values)
    created = event(task, "task:created", at, title=task.title, queue=task.queue, status=task.status)
    change = Change(task, (created,))
    if (held := held_to_start(task, at, config.settings.approval_gates)) is not None:
        change = change.and_then(held)
    return changes.apply(tx, change)


def open_queue(tx: Tx, name: str, config: Config) -> None:
    """Make the queue known to the scheduler; one of polpo.json is, and stays as that says until somebody sets it."""
    if name not in config.queues() and tx[Queues].get(name) is None:
        tx[Queues].add(Queue(name=name))


def utc(instant: datetime | None, path: str) -> datetime | None:
    """The instant as it is stored.  Raises InvalidRequest, naming the field, for one that UTC has no date for."""
    try:
        return None if instant is None else instant.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidRequest(f"{instant}: out of range", path) from exc


def _task(s: Submission, spec: Spec, spec_id: str, config: Config, uid: int, at: datetime, id: str, seq: int) -> Task:
    settings = config.settings
    for_agent = s.agent is not None
    return Task(
        id=id,
        seq=seq,
        title=s.title if s.title is not None else title_of(spec, s.description),
        description=s.description,
        spec_id=spec_id,
        project=s.project or config.project,
        queue=s.queue,
        labels=s.labels,
        assigned_to=s.agent,
        priority=s.priority,
        created_by=uid,
        idempotency_key=s.idempotency_key,
        hold=s.hold,
        max_retries=s.max_retries if s.max_retries is not None else settings.max_retries,
        backoff=_backoff(s.retry_delay),
        max_duration=_limit(s.max_duration, settings.task_timeout, AGENT_MAX_DURATION if for_agent else None),
        stale_threshold=_limit(
            s.stale_threshold, settings.stale_threshold, AGENT_STALE_THRESHOLD if for_agent else None
        ),
        kill_grace=s.kill_grace,
        memory_max=s.memory_max,
        cpus=s.cpus,
        tasks_max=s.tasks_max,
        nice=s.nice,
        side_effects=s.side_effects,
        needs_approval=s.needs_approval,
        approve_done=s.approve_done,
        budget=s.budget,
        expectations=as_said(s.expectations),
        metrics=as_said(s.metrics),
        not_before=s.not_before,
        deadline=s.deadline,
        created_at=at,
        updated_at=at,
    )


def _limit(said: float | None, milliseconds: int | None, default: float | None) -> float | None:
    if said is not None:
        return said
    return default if milliseconds is None else milliseconds / 1000


def _work_dir(agent: Agent, config: Config, root: str) -> str:
    return agent.cwd or os.path.normpath(os.path.join(root, config.settings.work_dir))


def _agent(submission: Submission, agents: Mapping[str, Agent]) -> Agent | None:
    if submission.agent is None:
        return None
    if (agent := agents.get(submission.agent)) is None:
        raise InvalidRequest(f"there is no agent {submission.agent}: `polpoctl agent list` shows them", "$.agent")
    return agent


def _prompt(task: Task) -> str:
    """What it was to do when it was submitted, unless somebody has edited that."""
    return task.description if task.original_description is None else task.original_description


def title_of(spec: Spec, description: str) -> str:
    """What a task is called if nobody says so: what is to be done, or else the command."""
    said = description if spec.template else ""
    text = said if said.strip() else spec.shell if spec.shell is not None else shlex.join(spec.command or ())
    return " ".join(text.split())[:200]


def _backoff(delay: float | None) -> Backoff:
    usual = Backoff()
    return usual if delay is None else Backoff(delay=delay, limit=max(delay, usual.limit))


def _refuse_large(what: str, value: Struct, most: int) -> None:
    if (size := len(msgspec.json.encode(value))) > most:
        raise TooLarge(f"{what}: {size} bytes together, and at most {most}; put large input into a file")


def _refuse_nul(text: str, path: str) -> None:
    if "\0" in text:
        raise InvalidRequest("a NUL character cannot be handed to a program", path)


def clean_environment() -> dict[str, str]:
    """What of our own environment is no secret, and what any program expects (`--clean-env`)."""
    names = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ")
    return {name: os.environ[name] for name in names if name in os.environ}
