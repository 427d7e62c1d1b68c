"""Log sessions: functions of a transaction.  Which session is meant is what a face remembers (stores.py)."""

from __future__ import annotations

from msgspec import structs

from polpod.contracts.taskstore import said
from polpod.model.polpo.logs import LogEntry, LogSession
from polpod.store.polpo import LogEntries, LogSessions, next_number
from polpod.store.records import Tx


def start(tx: Tx, session_id: str) -> None:
    """Begin a session, unless it has begun."""
    if tx[LogSessions].get(session_id) is None:
        seq = next_number(tx, LogSessions, LogSessions.seq)
        tx[LogSessions].add(LogSession(session_id=session_id, started_at=said.now(), seq=seq))


def append(tx: Tx, session_id: str, entry: LogEntry) -> None:
    """Add an entry at the end of the session, which begins with it if need be."""
    start(tx, session_id)
    session = tx[LogSessions].get(session_id)
    assert session is not None
    seq = next_number(tx, LogEntries, LogEntries.seq)
    tx[LogEntries].add(structs.replace(entry, ts=entry.ts or said.now(), session_id=session_id, seq=seq))
    tx[LogSessions].save(structs.replace(session, entries=session.entries + 1))


def get_session_entries(tx: Tx, session_id: str) -> list[LogEntry]:
    """The entries of a session, the oldest first."""
    return tx[LogEntries].find(LogEntries.session_id.eq(session_id))


def list_sessions(tx: Tx) -> list[LogSession]:
    """All sessions, the newest first."""
    return tx[LogSessions].find()


def prune(tx: Tx, keep: int) -> int:
    """Keep the newest sessions, this many of them; how many went."""
    return sum(tx[LogSessions].delete(session.session_id) for session in tx[LogSessions].find(offset=said.number(keep)))
