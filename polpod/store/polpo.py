"""The tables of missions and of what a library's users keep beside their tasks (polpod/taskstore.py).

Each column is there for a query in polpod/contracts/taskstore.  Order is by `seq` and the like, which the store gives:
instants have ties, and clocks go backwards.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct

from polpod.errors import Conflict
from polpod.model.polpo.approvals import ApprovalRequest, ApprovalStatus
from polpod.model.polpo.logs import LogEntry, LogSession
from polpod.model.polpo.memories import Memory
from polpod.model.polpo.missions import CheckpointState, DelayState, Mission
from polpod.model.polpo.notifications import NotificationRecord
from polpod.model.polpo.runs import RunRecord
from polpod.model.polpo.sessions import Message, Session
from polpod.model.polpo.state import Project
from polpod.store.records import Tx
from polpod.store.table import AnyTable, Col, Columns, Index, Ref, Table, Unique
from polpod.store.tables import Setting, Settings

S = TypeVar("S")

_NAMED = re.compile(r"mission-([0-9]{1,15})")


class Sole(Struct, Generic[S], frozen=True):
    """A document of which there is one."""

    name: str
    value: S


SOLE = "state"
"""The name of each of them."""

_m = Columns[Mission]()


class Missions(Table[Mission, str]):
    name = "missions"
    noun = "mission"
    entity = Mission
    id = _m.text("id", lambda m: m.id)
    seq = _m.integer("seq", lambda m: m.seq)
    mission = _m.text("name", lambda m: m.name)
    key = (id,)
    order = (seq.desc(),)
    unique = (Unique((seq,)), Unique((mission,)))


_p = Columns[Sole[Project]]()


class Projects(Table[Sole[Project], str]):
    """The state of the project, without its tasks."""

    name = "project_state"
    noun = "project"
    entity = Sole[Project]
    sole = _p.text("name", lambda p: p.name)
    key = (sole,)


_c = Columns[Sole[CheckpointState]]()


class MissionCheckpoints(Table[Sole[CheckpointState], str]):
    name = "mission_checkpoints"
    noun = "checkpoints"
    entity = Sole[CheckpointState]
    sole = _c.text("name", lambda c: c.name)
    key = (sole,)


_d = Columns[Sole[DelayState]]()


class MissionDelays(Table[Sole[DelayState], str]):
    name = "mission_delays"
    noun = "delays"
    entity = Sole[DelayState]
    sole = _d.text("name", lambda d: d.name)
    key = (sole,)


_r = Columns[RunRecord]()


class RecordedRuns(Table[RunRecord, str]):
    """Of other orchestrators: the daemon neither watches nor judges them; its own runs are in runs.db."""

    name = "recorded_runs"
    noun = "recorded_run"
    entity = RunRecord
    id = _r.text("id", lambda r: r.id)
    seq = _r.integer("seq", lambda r: r.seq)
    task_id = _r.text("task_id", lambda r: r.task_id)
    status = _r.text("status", lambda r: r.status)
    started_at = _r.instant("started_at", lambda r: r.started_at)
    key = (id,)
    order = (seq.asc(),)
    unique = (Unique((seq,)),)
    indexes = (Index((task_id.asc(), started_at.asc(), seq.asc())), Index((status.asc(), seq.asc())))


_s = Columns[Session]()


class ChatSessions(Table[Session, str]):
    name = "chat_sessions"
    noun = "session"
    entity = Session
    id = _s.text("id", lambda s: s.id)
    agent = _s.text("agent", lambda s: s.agent)
    touched = _s.integer("touched", lambda s: s.touched)
    key = (id,)
    order = (touched.desc(),)
    unique = (Unique((touched,)),)


_g = Columns[Message]()


class ChatMessages(Table[Message, str]):
    name = "chat_messages"
    noun = "message"
    entity = Message
    id = _g.text("id", lambda g: g.id)
    seq = _g.integer("seq", lambda g: g.seq)
    session_id = _g.text("session_id", lambda g: g.session_id)
    key = (id,)
    order = (seq.asc(),)
    unique = (Unique((seq,)),)
    indexes = (Index((session_id.asc(), seq.asc())),)
    refs = (Ref(session_id, ChatSessions, on_delete="cascade"),)


_y = Columns[Memory]()


class Memories(Table[Memory, str]):
    name = "memories"
    noun = "memory"
    entity = Memory
    scope = _y.text("scope", lambda y: y.scope)
    key = (scope,)


_l = Columns[LogSession]()


class LogSessions(Table[LogSession, str]):
    name = "log_sessions"
    noun = "log_session"
    entity = LogSession
    session_id = _l.text("session_id", lambda s: s.session_id)
    seq = _l.integer("seq", lambda s: s.seq)
    key = (session_id,)
    order = (seq.desc(),)
    unique = (Unique((seq,)),)


_e = Columns[LogEntry]()


class LogEntries(Table[LogEntry, int]):
    name = "log_entries"
    noun = "log_entry"
    entity = LogEntry
    seq = _e.integer("seq", lambda e: e.seq)
    session_id = _e.text("session_id", lambda e: e.session_id)
    key = (seq,)
    order = (seq.asc(),)
    indexes = (Index((session_id.asc(), seq.asc())),)
    refs = (Ref(session_id, LogSessions, on_delete="cascade"),)


_n = Columns[NotificationRecord]()


class SentNotifications(Table[NotificationRecord, str]):
    name = "sent_notifications"
    noun = "notification"
    entity = NotificationRecord
    id = _n.text("id", lambda n: n.id)
    seq = _n.integer("seq", lambda n: n.seq)
    channel = _n.text("channel", lambda n: n.channel)
    rule_id = _n.text("rule_id", lambda n: n.rule_id)
    status = _n.text("status", lambda n: n.status)
    key = (id,)
    order = (seq.desc(),)
    unique = (Unique((seq,)),)
    indexes = (Index((channel.asc(), seq.asc())), Index((rule_id.asc(), seq.asc())), Index((status.asc(), seq.asc())))


def _pending_about(request: ApprovalRequest) -> str | None:
    return request.about if request.status is ApprovalStatus.PENDING else None


def _due(request: ApprovalRequest) -> datetime | None:
    """When its deadline passes, until that was told."""
    return request.deadline if _pending_about(request) is not None and request.timed_out_at is None else None


_a = Columns[ApprovalRequest]()


class Approvals(Table[ApprovalRequest, str]):
    name = "approvals"
    noun = "approval"
    entity = ApprovalRequest
    id = _a.text("id", lambda a: a.id)
    seq = _a.integer("seq", lambda a: a.seq)
    task_id = _a.text("task_id", lambda a: a.task_id)
    status = _a.text("status", lambda a: a.status)
    about = _a.text("about", lambda a: a.about)
    pending = _a.text("pending", _pending_about)
    due = _a.instant("due", _due)
    key = (id,)
    order = (seq.asc(),)
    unique = (Unique((seq,)), Unique((pending,), where_not_null=pending))
    indexes = (
        Index((task_id.asc(), seq.asc())),
        Index((status.asc(), seq.asc())),
        Index((about.asc(), seq.asc()), where_not_null=about),
        Index((due.asc(), seq.asc()), where_not_null=due),
    )


def named(tx: Tx, name: str) -> Mission | None:
    """The mission of that name."""
    found = tx[Missions].find(Missions.mission.eq(name))
    return found[0] if found else None


def next_mission_name(tx: Tx) -> str:
    """`mission-N`, one past the highest of these names that a mission has."""
    taken = [int(match[1]) for mission in tx[Missions].find() if (match := _NAMED.fullmatch(mission.name))]
    return f"mission-{max(taken, default=0) + 1}"


def require_free(tx: Tx, mission: Mission) -> None:
    """Raises Conflict: another mission has its name."""
    other = named(tx, mission.name)
    if other is not None and other.id != mission.id:
        raise Conflict(f"mission {other.id} has the name {mission.name!r} already")


def next_number(tx: Tx, table: AnyTable, column: Col[Any, Any]) -> int:
    """A number that no row of the table has in this column, larger than all that were given, removed ones included."""
    counter = f"{table.name}.last_{column.name}"
    setting = tx[Settings].get(counter)
    last = int(setting.value) if setting is not None and setting.value.isdecimal() else 0  # it may be unreadable (F10)
    newest = tx[table].stored(order_by=(column.desc(),), limit=1)
    number = max([last, *(int(row.columns[column.name] or 0) for row in newest)]) + 1
    tx[Settings].save(Setting(counter, str(number)))
    return number


TABLES = (
    Missions,
    Projects,
    MissionCheckpoints,
    MissionDelays,
    RecordedRuns,
    ChatSessions,
    ChatMessages,
    Memories,
    LogSessions,
    LogEntries,
    SentNotifications,
    Approvals,
)
