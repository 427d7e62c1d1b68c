"""The stores of the page, for programs that block: each method is the function that it names (faces.py)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from uuid import uuid4

from polpod.contracts.taskstore import (
    approvals,
    gates,
    logs,
    memory,
    missions,
    notifications,
    runs,
    said,
    sessions,
    state,
    tasks,
)
from polpod.contracts.taskstore.faces import Blocking, Store, reads, writes
from polpod.model.polpo.logs import LogEntry


class TaskStore(Blocking):
    """Tasks and missions, and the state of the project."""

    get_state = reads(state.get_state)
    set_state = writes(state.set_state)
    add_task = writes(tasks.add_task)
    get_task = reads(tasks.get_task)
    get_all_tasks = reads(tasks.get_all_tasks)
    update_task = writes(tasks.update_task)
    remove_task = writes(tasks.remove_task)
    remove_tasks = writes(tasks.remove_tasks)
    transition = writes(tasks.transition)
    unsafe_set_status = writes(tasks.unsafe_set_status)
    save_mission = writes(missions.save_mission)
    get_mission = reads(missions.get_mission)
    get_mission_by_name = reads(missions.get_mission_by_name)
    get_all_missions = reads(missions.get_all_missions)
    update_mission = writes(missions.update_mission)
    delete_mission = writes(missions.delete_mission)
    next_mission_name = reads(missions.next_mission_name)


class RunStore(Blocking):
    """Runs of another orchestrator, as it records them; polpod's own are `polpoctl runs`."""

    upsert_run = writes(runs.upsert_run)
    update_activity = writes(runs.update_activity)
    update_outcomes = writes(runs.update_outcomes)
    complete_run = writes(runs.complete_run)
    get_run = reads(runs.get_run)
    get_run_by_task_id = reads(runs.get_run_by_task_id)
    get_active_runs = reads(runs.get_active_runs)
    get_terminal_runs = reads(runs.get_terminal_runs)
    delete_run = writes(runs.delete_run)


class SessionStore(Blocking):
    """Conversations with agents."""

    create = writes(sessions.create)
    add_message = writes(sessions.add_message)
    update_message = writes(sessions.update_message)
    get_messages = reads(sessions.get_messages)
    get_recent_messages = reads(sessions.get_recent_messages)
    list_sessions = reads(sessions.list_sessions)
    get_session = reads(sessions.get_session)
    get_latest_session = reads(sessions.get_latest_session)
    rename_session = writes(sessions.rename_session)
    delete_session = writes(sessions.delete_session)
    prune = writes(sessions.prune)


class MemoryStore(Blocking):
    """What agents remember, together and each by itself."""

    exists = reads(memory.exists)
    get = reads(memory.get)
    save = writes(memory.save)
    append = writes(memory.append)
    update = writes(memory.update)
    list_scopes = reads(memory.list_scopes)


class LogStore(Blocking):
    """What an orchestrator notes, session by session; this object writes to one at a time."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._session_id, self._begun = uuid4().hex, False

    def start_session(self) -> str:
        """Begin another session, to which entries are added from now on; its id."""
        session_id = uuid4().hex
        self.store.write(partial(logs.start, session_id=session_id))
        self._session_id, self._begun = session_id, True
        return session_id

    def get_session_id(self) -> str | None:
        """The session to which entries are added; None before the first."""
        return self._session_id if self._begun else None

    def append(self, entry: LogEntry | Mapping[str, object] | None = None, **fields: object) -> None:
        """Add an entry, to a new session if none was begun.  Raises InvalidRequest, naming the field."""
        added = said.entity(LogEntry, said.fields(entry, fields))
        self.store.write(partial(logs.append, session_id=self._session_id, entry=added))
        self._begun = True

    def get_session_entries(self, session_id: str | None = None) -> list[LogEntry]:
        """The entries of a session, or of the one that is written to, the oldest first."""
        return self.store.read(partial(logs.get_session_entries, session_id=session_id or self._session_id))

    list_sessions = reads(logs.list_sessions)
    prune = writes(logs.prune)


class NotificationStore(Blocking):
    """Notifications that were sent, or could not be."""

    append = writes(notifications.append)
    list = reads(notifications.list_)
    list_by_channel = reads(notifications.list_by_channel)
    list_by_rule = reads(notifications.list_by_rule)
    list_by_status = reads(notifications.list_by_status)
    count = reads(notifications.count)
    prune = writes(notifications.prune)


class ApprovalStore(Blocking):
    """What was asked, and what was decided."""

    upsert = writes(approvals.upsert)
    get = reads(approvals.get)
    list = reads(approvals.list_)
    list_by_task = reads(approvals.list_by_task)
    delete = writes(approvals.delete)


class CheckpointStore(Blocking):
    """Where the checkpoints of missions stand."""

    load = reads(gates.load_checkpoints)
    save = writes(gates.save_checkpoints)
    remove_group = writes(gates.remove_checkpoints)


class DelayStore(Blocking):
    """Where the delays of missions stand."""

    load = reads(gates.load_delays)
    save = writes(gates.save_delays)
    remove_group = writes(gates.remove_delays)
