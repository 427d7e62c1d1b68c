"""The questions that the daemon asks of the task store beyond get and find: each a function of a transaction.

None reads what it does not return, however many tasks are stored, unless its docstring says so (DESIGN §8, F58).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

import msgspec

from polpod.model.agents import Busy
from polpod.model.events import Event
from polpod.model.tasks import Dependency, Spec, Task, TaskStatus
from polpod.store.records import Tx
from polpod.store.table import AnyOf, Where
from polpod.store.tables import OWNER, Dependencies, Events, Setting, Settings, Specs, Tasks, stored_spec

_LAST_ID = "tasks.last_id"
_LAST_SEQ = "tasks.last_seq"
_LAST_RUN = "runs.last_id"
_LOOSE_SPEC = "specs.loose."
_CURSOR = "notifications.cursor."
_SILENCES = "notifications.silences."
_RETENTION_CLOCK = "retention.clock"
_AT_WORK = "daemon.at_work"
_REACHABLE_DIGITS = 18
"""A number of more digits is beyond any counter."""


def ready(
    tx: Tx,
    queue: str,
    limit: int,
    idle: Collection[str] = (),
    full: Collection[str] = (),
    over_budget: Collection[str] = (),
) -> list[Task]:
    """The tasks of a queue that may start now, in the order in which they should; none of the `idle` executions, and none
    of the agents that are `full`, nor of the projects that are `over_budget`.
    """
    order = (Tasks.priority.desc(), Tasks.seq.asc())
    others = _going_on(idle, over_budget)
    others += [Tasks.assigned_to.not_in(sorted(full))] if full else []
    return tx[Tasks].find(Tasks.ready_queue.eq(queue), *others, order_by=order, limit=limit)


def next_wake(tx: Tx) -> datetime | None:
    """When the next delayed task may start."""
    order = (Tasks.wake_at.asc(), Tasks.seq.asc())
    first = tx[Tasks].find(Tasks.wake_at.is_set(), order_by=order, limit=1)
    return first[0].not_before if first else None


def due(tx: Tx, now: datetime) -> list[Task]:
    """The delayed tasks whose time has come, the earliest first."""
    return tx[Tasks].find(Tasks.wake_at.le(now), order_by=(Tasks.wake_at.asc(), Tasks.seq.asc()))


def delayed(tx: Tx) -> list[Task]:
    """All delayed tasks, the earliest first; for when the clock was set."""
    return tx[Tasks].find(Tasks.wake_at.is_set(), order_by=(Tasks.wake_at.asc(), Tasks.seq.asc()))


def occupying(tx: Tx) -> list[Task]:
    """The tasks that take a slot, by queue."""
    return tx[Tasks].find(Tasks.busy_queue.is_set(), order_by=(Tasks.busy_queue.asc(), Tasks.seq.asc()))


def busy(tx: Tx, queues: Iterable[str], agents: Iterable[str]) -> Busy:
    """The slots that are taken, of these queues (every queue that has tasks) and these agents."""
    taken = Tasks.busy_queue.is_set()  # with its checks, too: they need the place where the agent works as it left it
    return Busy(
        {name: tx[Tasks].count(Tasks.busy_queue.eq(name)) for name in queues},
        {name: tx[Tasks].count(taken, Tasks.assigned_to.eq(name)) for name in agents},
    )


def at_work(tx: Tx, agent: str) -> Task | None:
    """The task that the agent is at, one of them if it is at several, not one being checked; reads what takes a slot."""
    in_progress = Tasks.status.eq(TaskStatus.IN_PROGRESS)
    found = tx[Tasks].find(Tasks.busy_queue.is_set(), in_progress, Tasks.assigned_to.eq(agent), limit=1)
    return found[0] if found else None


def count_ready(tx: Tx, queue: str, idle: Collection[str] = (), over_budget: Collection[str] = ()) -> int:
    """How many tasks of the queue are ready, but for those of these executions and projects; reads their part of an index."""
    return tx[Tasks].count(Tasks.ready_queue.eq(queue), *_going_on(idle, over_budget))


def _going_on(idle: Collection[str], over_budget: Collection[str]) -> list[Where[Task]]:
    """None of these executions, and none of these projects."""
    others: list[Where[Task]] = [Tasks.execution_id.not_in(sorted(idle))] if idle else []
    return others + ([Tasks.project.not_in(sorted(over_budget))] if over_budget else [])


def ready_before(tx: Tx, task: Task) -> int:
    """How many ready tasks of its queue go before this one; reads their part of an index."""
    in_queue = Tasks.ready_queue.eq(task.queue)
    sooner = tx[Tasks].count(in_queue, Tasks.priority.gt(task.priority))
    return sooner + tx[Tasks].count(in_queue, Tasks.priority.eq(task.priority), Tasks.seq.lt(task.seq))


def dependents_of(tx: Tx, task_id: str) -> list[Dependency]:
    """Who waits, or waited, for the task."""
    return tx[Dependencies].find(Dependencies.on_id.eq(task_id))


def waits(tx: Tx, task_id: str) -> bool:
    """Whether something that the task waits for is not done, or not open."""
    return bool(tx[Dependencies].find(Dependencies.unmet.eq(task_id), limit=1))


def unmet(tx: Tx, task_id: str) -> list[Dependency]:
    """What the task still waits for."""
    return tx[Dependencies].find(Dependencies.unmet.eq(task_id))


def own(tx: Tx, task_id: str) -> Task | None:
    """The task of that id, if it is polpod's own: to whoever is to act on it, another owner's is none."""
    task = tx[Tasks].get(task_id)
    return task if task is not None and task.owner == OWNER else None


def by_idempotency_key(tx: Tx, created_by: int, key: str) -> Task | None:
    """The task that this user submitted under this key."""
    found = tx[Tasks].find(Tasks.created_by.eq(created_by), Tasks.idempotency_key.eq(key))
    return found[0] if found else None


def count_by_status(tx: Tx) -> dict[TaskStatus, int]:
    """As below."""
    counts = {status: tx[Tasks].count(Tasks.status.eq(status)) for status in TaskStatus}
    return {status: number for status, number in counts.items() if number}


def count_by_queue(tx: Tx) -> dict[tuple[str, str], int]:
    """Our tasks by queue and status.  Reads the whole index of statuses: for the start of the daemon, and for checks."""
    counts = tx[Tasks].tally(Tasks.queue, Tasks.status, where=(Tasks.status.is_set(),))
    return {(str(queue), str(status)): number for (queue, status), number in counts.items()}


def tasks_after(tx: Tx, after: int, limit: int) -> list[Task]:
    """Tasks of every owner past the `seq` `after`, in its order."""
    return tx[Tasks].find(Tasks.seq.gt(after), limit=limit)


def finished_before(tx: Tx, before: datetime, after: int, limit: int) -> list[Task]:
    """Our tasks past the `seq` `after` that finished at this time or earlier, in its order; looks through all of them."""
    return tx[Tasks].find(Tasks.finished_at.le(before), Tasks.seq.gt(after), limit=limit)


def page_of_journal(
    tx: Tx, *, after: int | None = None, kinds: Collection[str] = (), subject: str | None = None, limit: int = 100
) -> list[Event]:
    """Events past the `seq` `after`, oldest first; without it the last ones.  `kinds` are globs, one of which must fit.

    Reads on until the page is full where `kinds` leave most events out.
    """
    where: list[Where[Event]] = []
    if kinds:
        where.append(AnyOf(tuple(Events.kind.glob(kind) for kind in kinds)))
    if subject is not None:
        where.append(Events.subject.eq(subject))
    if after is not None:
        return tx[Events].find(Events.seq.gt(after), *where, order_by=(Events.seq.asc(),), limit=limit)
    return tx[Events].find(*where, order_by=(Events.seq.desc(),), limit=limit)[::-1]


def first_seq(tx: Tx) -> int | None:
    """The oldest event that is kept."""
    first = tx[Events].find(order_by=(Events.seq.asc(),), limit=1)
    return first[0].seq if first else None


def last_seq(tx: Tx) -> int:
    """The newest event; 0 before the first."""
    last = tx[Events].stored(order_by=(Events.seq.desc(),), limit=1)  # whether it can be read or not
    return int(last[0].columns[Events.seq.name] or 0) if last else 0


def cursor(tx: Tx, channel: str) -> int:
    """The last event that the channel was told of; a new one begins with what happens from now on."""
    if tx[Settings].get(_CURSOR + channel) is None:
        set_cursor(tx, channel, last_seq(tx))
    return _counter(tx, _CURSOR + channel)


def set_cursor(tx: Tx, channel: str, seq: int) -> None:
    tx[Settings].save(Setting(_CURSOR + channel, str(seq)))


def silences(tx: Tx, channel: str) -> dict[str, datetime]:
    """Until when rules tell the channel of nothing more."""
    setting = tx[Settings].get(_SILENCES + channel)
    return {} if setting is None else msgspec.json.decode(setting.value, type=dict[str, datetime])


def set_silences(tx: Tx, channel: str, until: Mapping[str, datetime]) -> None:
    tx[Settings].save(Setting(_SILENCES + channel, msgspec.json.encode(until).decode()))


def drop_cursors(tx: Tx, channels: Collection[str]) -> None:
    """Forget where channels other than these were, and which rules were silent."""
    for prefix in (_CURSOR, _SILENCES):
        for setting in tx[Settings].find(Settings.setting.glob(prefix + "*")):
            if setting.name.removeprefix(prefix) not in channels:
                tx[Settings].delete(setting.name)


def keep_spec(tx: Tx, spec: Spec) -> str:
    """Store the spec unless an equal one is there; its id.  One that was let go of is so no more."""
    stored = stored_spec(spec)
    if tx[Specs].get(stored.id) is None:
        tx[Specs].add(stored)
    else:
        tx[Settings].delete(_LOOSE_SPEC + stored.id)
    return stored.id


def let_go_of_spec(tx: Tx, spec_id: str | None) -> None:
    """A task that had this spec is gone: perhaps it was the last one (`drop_specs`)."""
    if spec_id is not None:
        tx[Settings].save(Setting(_LOOSE_SPEC + spec_id, ""))


def loose_specs(tx: Tx) -> set[str]:
    """The specs that a task let go of, perhaps the last one."""
    return {s.name.removeprefix(_LOOSE_SPEC) for s in tx[Settings].find(Settings.setting.glob(_LOOSE_SPEC + "*"))}


def drop_specs(tx: Tx, loose: Iterable[str], unused: Collection[str | None], after: int) -> int:
    """Settle these loose specs: remove those of them that are unused, as no task up to the `seq` `after` has them.

    One that a later task has stays, and so does one that a task was given meanwhile.  Returns how many went.
    """
    taken = {task.spec_id for task in tx[Tasks].find(Tasks.seq.gt(after))}
    still = [spec_id for spec_id in loose if tx[Settings].delete(_LOOSE_SPEC + spec_id)]
    return sum(tx[Specs].delete(spec_id) for spec_id in still if spec_id in unused and spec_id not in taken)


def next_task_id(tx: Tx) -> str:
    """An id that no task has or had; ids that clients chose are skipped."""
    number = _last_id(tx) + 1
    while tx[Tasks].count(Tasks.id.eq(str(number))):
        number += 1
    tx[Settings].save(Setting(_LAST_ID, str(number)))
    return str(number)


def _last_id(tx: Tx) -> int:
    """Where the counter cannot be read any more, as many as were submitted: no id of the store's own is higher."""
    return _counter(tx, _LAST_ID) or _counter(tx, _LAST_SEQ)


def next_task_seq(tx: Tx) -> int:
    """A place in the order of submission, past all others."""
    number = (_counter(tx, _LAST_SEQ) or _newest_seq(tx)) + 1
    tx[Settings].save(Setting(_LAST_SEQ, str(number)))
    return number


def _newest_seq(tx: Tx) -> int:
    newest = tx[Tasks].stored(order_by=(Tasks.seq.desc(),), limit=1)
    return int(newest[0].columns[Tasks.seq.name] or 0) if newest else 0


def note_client_id(tx: Tx, task_id: str) -> None:
    """A client chose this id: where it is a number, the store's own ids go on above it."""
    if task_id.isascii() and task_id.isdigit() and len(task_id) <= _REACHABLE_DIGITS:
        number = max(_last_id(tx), int(task_id))
        tx[Settings].save(Setting(_LAST_ID, str(number)))


def note_task_seq(tx: Tx, seq: int) -> None:
    """This place in the order of submission was taken: others go on above it."""
    tx[Settings].save(Setting(_LAST_SEQ, str(max(seq, _counter(tx, _LAST_SEQ)))))


def counters(tx: Tx) -> tuple[str, int, int]:
    """The last task id and task seq that the store gave, and the last run id that it knows of."""
    return str(_counter(tx, _LAST_ID)), _counter(tx, _LAST_SEQ), _counter(tx, _LAST_RUN)


def raise_counters(tx: Tx, task_id: str, seq: int, run_id: int) -> None:
    """Give nothing again up to these."""
    note_client_id(tx, task_id)
    note_task_seq(tx, seq)
    note_run_id(tx, run_id)


def note_run_id(tx: Tx, run_id: int) -> None:
    """A task was given this run: an id that runs.db must never give again, even if it falls back behind it."""
    tx[Settings].save(Setting(_LAST_RUN, str(max(run_id, _counter(tx, _LAST_RUN)))))


def last_run_id(tx: Tx) -> int:
    """The largest run id that the task store knows of."""
    return _counter(tx, _LAST_RUN)


def begin_work(tx: Tx) -> bool:
    """Note that a daemon is at work; whether the one before it never said that it stopped."""
    crashed = not was_stopped(tx)
    tx[Settings].save(Setting(_AT_WORK, "yes"))
    return crashed


def was_stopped(tx: Tx) -> bool:
    """Whether no daemon has worked with it, or the last one stopped in order."""
    return tx[Settings].get(_AT_WORK) is None


def end_work(tx: Tx) -> None:
    """The daemon stops in order."""
    tx[Settings].delete(_AT_WORK)


def _counter(tx: Tx, name: str) -> int:
    """0 where there is none yet, or none that can be read any more (F10)."""
    setting = tx[Settings].get(name)
    return int(setting.value) if setting is not None and setting.value.isdecimal() else 0


def retention_clock(tx: Tx) -> datetime | None:
    """What time it was, as far as the last pass of retention believed the clock; None before the first."""
    setting = tx[Settings].get(_RETENTION_CLOCK)
    try:
        return None if setting is None else datetime.fromisoformat(setting.value)
    except ValueError:  # it cannot be read any more (F10)
        return None


def set_retention_clock(tx: Tx, at: datetime) -> None:
    tx[Settings].save(Setting(_RETENTION_CLOCK, at.isoformat()))
