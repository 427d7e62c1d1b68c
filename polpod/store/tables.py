"""The tables of the task store.

Rules:

1. A task of another owner is stored whole, and is NULL in every column that the scheduler, health, lists or counters
   read: what is not ours cannot be started, counted or shown by mistake (DESIGN §8).
2. Each column and index is there for a query in store/queries.py or pages.py, but for what lists the tasks of another owner.  A
   change here needs a migration.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct

from polpod.model import deadlines
from polpod.model.agents import Queue
from polpod.model.events import Event
from polpod.model.tasks import Dependency, Instant, Spec, Task, TaskStatus
from polpod.store.table import Columns, Index, Ref, Scalar, Table, Unique

OWNER = "polpod"


class StoredSpec(Struct, frozen=True):
    """`id` is the hash of the spec's content, so that equal specs are stored once."""

    id: str
    spec: Spec


class Setting(Struct, frozen=True):
    """One value that the store keeps for itself, such as a counter."""

    name: str
    value: str


class Quarantined(Struct, frozen=True, kw_only=True):
    """A row that meant nothing to polpod, as it was found (F10)."""

    seq: int = 0
    at: Instant
    subject: str
    """As in the journal: `task/12`."""
    table: str
    problem: str
    columns: dict[str, Scalar]
    doc: str
    """Bytes of it that are no UTF-8 stand as `\\xff`."""


def stored_spec(spec: Spec) -> StoredSpec:
    """The spec with its id, which is the same for every order of `env`."""
    return StoredSpec(hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest(), spec)


def _status(task: Task) -> TaskStatus | None:
    return task.status if task.owner == OWNER else None


def _other_status(task: Task) -> str | None:
    """What another owner calls its status."""
    if task.owner == OWNER or task.document is UNSET:
        return None
    status = task.document.get("status")
    return status if isinstance(status, str) else None


def _to_start(task: Task) -> bool:
    """Whether it waits for a run, of its work or of its checks."""
    return task.owner == OWNER and (task.status is TaskStatus.PENDING or task.awaits_checks)


def _occupies(task: Task) -> bool:
    return task.owner == OWNER and task.occupies


def _ready_queue(task: Task) -> str | None:
    if task.not_before is not None or task.spec_id is None or not _to_start(task):
        return None
    held_back = task.status is TaskStatus.PENDING and (task.unmet or task.hold)
    return None if held_back else task.queue


def _wake_at(task: Task) -> datetime | None:
    return task.not_before if task.not_before is not None and _to_start(task) else None


def _busy_queue(task: Task) -> str | None:
    return task.queue if _occupies(task) else None


def _stage(task: Task) -> str | None:
    """Where a task of an execution stands: `blocked` by others, over in one of three ways, or else `moving`."""
    if task.execution_id is None or _status(task) is None:
        return None
    if task.finished:
        return task.status
    return "blocked" if task.status is TaskStatus.PENDING and task.unmet else "moving"


def _sla_at(task: Task) -> datetime | None:
    if task.deadline is None or task.owner != OWNER:
        return None
    done = task.status is TaskStatus.DONE
    return deadlines.look_at(task.deadline, task.sla, done=done, dropped=task.finished and not done)


def _live_run(task: Task) -> int | None:
    return task.run_id if _occupies(task) else None


_t = Columns[Task]()


class Tasks(Table[Task, str]):
    name = "tasks"
    noun = "task"
    entity = Task
    id = _t.text("id", lambda t: t.id)
    seq = _t.integer("seq", lambda t: t.seq)
    owner = _t.text("owner", lambda t: t.owner)
    status = _t.text("status", _status)
    queue = _t.text("queue", lambda t: t.queue)
    project = _t.text("project", lambda t: t.project)
    assigned_to = _t.text("assigned_to", lambda t: t.assigned_to)
    mission_id = _t.text("mission_id", lambda t: t.mission_id)
    priority = _t.integer("priority", lambda t: t.priority)
    created_by = _t.integer("created_by", lambda t: t.created_by)
    idempotency_key = _t.text("idempotency_key", lambda t: t.idempotency_key)
    created_at = _t.instant("created_at", lambda t: t.created_at)
    finished_at = _t.instant("finished_at", lambda t: t.finished_at if t.owner == OWNER else None)
    ready_queue = _t.text("ready_queue", _ready_queue)
    wake_at = _t.instant("wake_at", _wake_at)
    busy_queue = _t.text("busy_queue", _busy_queue)
    live_run = _t.integer("live_run", _live_run)
    other_status = _t.text("other_status", _other_status)
    execution_id = _t.text("execution_id", lambda t: t.execution_id)
    stage = _t.text("stage", _stage)
    sla_at = _t.instant("sla_at", _sla_at)
    key = (id,)
    order = (seq.asc(),)
    unique = (
        Unique((seq,)),
        Unique((created_by, idempotency_key), where_not_null=idempotency_key),
    )
    indexes = (
        Index((ready_queue.asc(), priority.desc(), seq.asc(), execution_id.asc()), where_not_null=ready_queue),
        Index((wake_at.asc(), seq.asc()), where_not_null=wake_at),
        Index((busy_queue.asc(), seq.asc()), where_not_null=busy_queue),
        Index((status.asc(), seq.asc())),
        Index((finished_at.asc(), seq.asc()), where_not_null=finished_at),
        Index((execution_id.asc(), stage.asc(), seq.asc()), where_not_null=stage),
        Index((other_status.asc(), seq.asc()), where_not_null=other_status),
        Index((sla_at.asc(), seq.asc()), where_not_null=sla_at),
    )


_s = Columns[StoredSpec]()


class Specs(Table[StoredSpec, str]):
    name = "specs"
    noun = "spec"
    entity = StoredSpec
    id = _s.text("id", lambda s: s.id)
    key = (id,)


_d = Columns[Dependency]()


class Dependencies(Table[Dependency, tuple[str, str]]):
    """They go with the task that waits, and outlive the one that is waited for."""

    name = "dependencies"
    noun = "dependency"
    entity = Dependency
    task_id = _d.text("task_id", lambda d: d.task_id)
    on_id = _d.text("on_id", lambda d: d.on_id)
    unmet = _d.text("unmet", lambda d: None if d.met else d.task_id)
    key = (task_id, on_id)
    indexes = (
        Index((on_id.asc(), task_id.asc())),
        Index((unmet.asc(), task_id.asc(), on_id.asc()), where_not_null=unmet),
    )
    refs = (Ref(task_id, Tasks, on_delete="cascade"),)


_e = Columns[Event]()


class Events(Table[Event, int]):
    """The journal (DESIGN §11)."""

    name = "events"
    noun = "event"
    entity = Event
    seq = _e.integer("seq", lambda e: e.seq)
    at = _e.instant("at", lambda e: e.at)
    kind = _e.text("kind", lambda e: e.kind)
    subject = _e.text("subject", lambda e: e.subject)
    key = (seq,)
    indexes = (Index((subject.asc(), seq.asc())),)


_q = Columns[Queue]()


class Queues(Table[Queue, str]):
    name = "queues"
    noun = "queue"
    entity = Queue
    queue = _q.text("name", lambda q: q.name)
    key = (queue,)


_k = Columns[Setting]()


class Settings(Table[Setting, str]):
    name = "settings"
    noun = "setting"
    entity = Setting
    setting = _k.text("name", lambda s: s.name)
    key = (setting,)


def _idempotency_key(row: Quarantined) -> str | None:
    key = row.columns.get(Tasks.idempotency_key.name)
    return key if isinstance(key, str) else None


_b = Columns[Quarantined]()


class Quarantine(Table[Quarantined, int]):
    """Where rows are kept that had to be set aside; nothing removes them."""

    name = "quarantine"
    noun = "quarantine"
    entity = Quarantined
    seq = _b.integer("seq", lambda b: b.seq)
    subject = _b.text("subject", lambda b: b.subject)
    idempotency_key = _b.text("idempotency_key", _idempotency_key)
    key = (seq,)
    indexes = (
        Index((subject.asc(), seq.asc())),
        Index((idempotency_key.asc(),), where_not_null=idempotency_key),
    )


TABLES = (Tasks, Specs, Dependencies, Events, Queues, Settings, Quarantine)
