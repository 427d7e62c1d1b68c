"""The stores of the page, to be awaited, on trio and asyncio: each method is the function that it names (faces.py)."""

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
from polpod.contracts.taskstore.faces import Awaited, awaits_read, awaits_write
from polpod.model.polpo.logs import LogEntry
from polpod.store.gate import Gate
from polpod.store.records import Tx


class AsyncTaskStore(Awaited):
    """Tasks and missions, and the state of the project."""

    get_state = awaits_read(state.get_state)
    set_state = awaits_write(state.set_state)
    add_task = awaits_write(tasks.add_task)
    get_task = awaits_read(tasks.get_task)
    get_all_tasks = awaits_read(tasks.get_all_tasks)
    update_task = awaits_write(tasks.update_task)
    remove_task = awaits_write(tasks.remove_task)
    remove_tasks = awaits_write(tasks.remove_tasks)
    transition = awaits_write(tasks.transition)
    unsafe_set_status = awaits_write(tasks.unsafe_set_status)
    save_mission = awaits_write(missions.save_mission)
    get_mission = awaits_read(missions.get_mission)
    get_mission_by_name = awaits_read(missions.get_mission_by_name)
    get_all_missions = awaits_read(missions.get_all_missions)
    update_mission = awaits_write(missions.update_mission)
    delete_mission = awaits_write(missions.delete_mission)
    next_mission_name = awaits_read(missions.next_mission_name)


class AsyncRunStore(Awaited):
    """Runs of another orchestrator, as it records them; polpod's own are `polpoctl runs`."""

    upsert_run = awaits_write(runs.upsert_run)
    update_activity = awaits_write(runs.update_activity)
    update_outcomes = awaits_write(runs.update_outcomes)
    complete_run = awaits_write(runs.complete_run)
    get_run = awaits_read(runs.get_run)
    get_run_by_task_id = awaits_read(runs.get_run_by_task_id)
    get_active_runs = awaits_read(runs.get_active_runs)
    get_terminal_runs = awaits_read(runs.get_terminal_runs)
    delete_run = awaits_write(runs.delete_run)


class AsyncSessionStore(Awaited):
    """Conversations with agents."""

    create = awaits_write(sessions.create)
    add_message = awaits_write(sessions.add_message)
    update_message = awaits_write(sessions.update_message)
    get_messages = awaits_read(sessions.get_messages)
    get_recent_messages = awaits_read(sessions.get_recent_messages)
    list_sessions = awaits_read(sessions.list_sessions)
    get_session = awaits_read(sessions.get_session)
    get_latest_session = awaits_read(sessions.get_latest_session)
    rename_session = awaits_write(sessions.rename_session)
    delete_session = awaits_write(sessions.delete_session)
    prune = awaits_write(sessions.prune)


class AsyncMemoryStore(Awaited):
    """What agents remember, together and each by itself."""

    exists = awaits_read(memory.exists)
    get = awaits_read(memory.get)
    save = awaits_write(memory.save)
    append = awaits_write(memory.append)
    update = awaits_write(memory.update)
    list_scopes = awaits_read(memory.list_scopes)


class AsyncLogStore(Awaited):
    """What an orchestrator notes, session by session; this object writes to one at a time."""

    def __init__(self, gate: Gate[Tx]) -> None:
        super().__init__(gate)
        self._session_id, self._begun = uuid4().hex, False

    async def start_session(self) -> str:
        """Begin another session, to which entries are added from now on; its id."""
        session_id = uuid4().hex
        await self.gate.write(partial(logs.start, session_id=session_id))
        self._session_id, self._begun = session_id, True
        return session_id

    async def get_session_id(self) -> str | None:
        """The session to which entries are added; None before the first."""
        return self._session_id if self._begun else None

    async def append(self, entry: LogEntry | Mapping[str, object] | None = None, **fields: object) -> None:
        """Add an entry, to a new session if none was begun.  Raises InvalidRequest, naming the field."""
        added = said.entity(LogEntry, said.fields(entry, fields))
        await self.gate.write(partial(logs.append, session_id=self._session_id, entry=added))
        self._begun = True

    async def get_session_entries(self, session_id: str | None = None) -> list[LogEntry]:
        """The entries of a session, or of the one that is written to, the oldest first."""
        return await self.gate.read(partial(logs.get_session_entries, session_id=session_id or self._session_id))

    list_sessions = awaits_read(logs.list_sessions)
    prune = awaits_write(logs.prune)


class AsyncNotificationStore(Awaited):
    """Notifications that were sent, or could not be."""

    append = awaits_write(notifications.append)
    list = awaits_read(notifications.list_)
    list_by_channel = awaits_read(notifications.list_by_channel)
    list_by_rule = awaits_read(notifications.list_by_rule)
    list_by_status = awaits_read(notifications.list_by_status)
    count = awaits_read(notifications.count)
    prune = awaits_write(notifications.prune)


class AsyncApprovalStore(Awaited):
    """What was asked, and what was decided."""

    upsert = awaits_write(approvals.upsert)
    get = awaits_read(approvals.get)
    list = awaits_read(approvals.list_)
    list_by_task = awaits_read(approvals.list_by_task)
    delete = awaits_write(approvals.delete)


class AsyncCheckpointStore(Awaited):
    """Where the checkpoints of missions stand."""

    load = awaits_read(gates.load_checkpoints)
    save = awaits_write(gates.save_checkpoints)
    remove_group = awaits_write(gates.remove_checkpoints)


class AsyncDelayStore(Awaited):
    """Where the delays of missions stand."""

    load = awaits_read(gates.load_delays)
    save = awaits_write(gates.save_delays)
    remove_group = awaits_write(gates.remove_delays)
