"""Sessions and their messages: functions of a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType, structs

from polpod.contracts.taskstore import said
from polpod.errors import NotFound
from polpod.model.polpo.sessions import Message, Session
from polpod.store.polpo import ChatMessages, ChatSessions, next_number
from polpod.store.records import Tx


def create(tx: Tx, title: str | None = None, agent: str | None = None) -> str:
    """Begin a session; its id."""
    at, touched = said.now(), next_number(tx, ChatSessions, ChatSessions.touched)
    values = {"id": str(touched), "title": title, "agent": agent, "created_at": at, "updated_at": at}
    session = said.entity(Session, values | {"touched": touched})
    tx[ChatSessions].add(session)
    return session.id


def add_message(
    tx: Tx, session_id: str, role: str, content: str, tool_calls: Sequence[Mapping[str, object]] = ()
) -> Message:
    """Add a message at the end.  Raises NotFound for a session that is not there; InvalidRequest, naming the field."""
    session = tx[ChatSessions].get(session_id)
    if session is None:
        raise NotFound(f"Session not found: {session_id}")
    seq = next_number(tx, ChatMessages, ChatMessages.seq)
    values = {"id": str(seq), "seq": seq, "session_id": session_id, "ts": said.now()}
    message = said.entity(Message, values | {"role": role, "content": content, "tool_calls": tool_calls})
    tx[ChatMessages].add(message)
    _touch(tx, session, message_count=session.message_count + 1)
    return message


def update_message(
    tx: Tx, session_id: str, message_id: str, content: str, tool_calls: Sequence[Mapping[str, object]] | None = None
) -> bool:
    """Replace what a message says, and its tool calls where they are given; whether there is such a message."""
    message = tx[ChatMessages].get(message_id)
    session = tx[ChatSessions].get(session_id)
    if message is None or session is None or message.session_id != session_id:
        return False
    values = structs.asdict(message) | {"content": content}
    values |= {} if tool_calls is None else {"tool_calls": tool_calls}
    tx[ChatMessages].save(said.entity(Message, values))
    _touch(tx, session)
    return True


def get_messages(tx: Tx, session_id: str) -> list[Message]:
    """All messages of the session, the oldest first."""
    return tx[ChatMessages].find(ChatMessages.session_id.eq(session_id))


def get_recent_messages(tx: Tx, session_id: str, limit: int) -> list[Message]:
    """The last messages of the session, the oldest of them first."""
    of_it, newest = ChatMessages.session_id.eq(session_id), (ChatMessages.seq.desc(),)
    found = tx[ChatMessages].find(of_it, order_by=newest, limit=said.number(limit))
    return found[::-1]


def list_sessions(tx: Tx) -> list[Session]:
    """All sessions, the one that changed last first."""
    return tx[ChatSessions].find()


def get_session(tx: Tx, session_id: str) -> Session | None:
    """The session; None: there is none of that id."""
    return tx[ChatSessions].get(session_id)


def get_latest_session(tx: Tx, agent: str | UnsetType | None = UNSET) -> Session | None:
    """The session that changed last: of any agent, of this one, or (None) of those that have none."""
    where = () if agent is UNSET else (ChatSessions.agent.eq(agent),)
    found = tx[ChatSessions].find(*where, limit=1)
    return found[0] if found else None


def rename_session(tx: Tx, session_id: str, title: str) -> bool:
    """Whether there is such a session."""
    session = tx[ChatSessions].get(session_id)
    if session is not None:
        _touch(tx, session, title=said.value("title", title, str))
    return session is not None


def delete_session(tx: Tx, session_id: str) -> bool:
    """Whether there was such a session; its messages go with it."""
    return tx[ChatSessions].delete(session_id)


def prune(tx: Tx, keep: int) -> int:
    """Keep the sessions that changed last, this many of them; how many went."""
    going = tx[ChatSessions].find(offset=said.number(keep))
    return sum(tx[ChatSessions].delete(session.id) for session in going)


def _touch(tx: Tx, session: Session, **values: object) -> None:
    touched = next_number(tx, ChatSessions, ChatSessions.touched)
    tx[ChatSessions].save(structs.replace(session, **values, updated_at=said.now(), touched=touched))
