"""Sessions and their messages, by the numbers of the list of behaviours (§13.5)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from polpo_stores import Polpo, polpo

from polpod.errors import InvalidRequest, NotFound
from polpod.model.polpo.sessions import Session, ToolCall
from polpod.store.polpo import ChatMessages, ChatSessions

__all__ = ("polpo",)

CALL = ToolCall(id="c1", name="bash", arguments={"command": ["ls"]}, result="ok", state="completed")


def the(session: Session | None) -> Session:
    assert session is not None
    return session


def test_a_session_begins_empty(polpo: Polpo) -> None:
    """Polpo 45; P1: with the agent, for which SQLite had no column."""
    session = the(polpo.sessions.get_session(polpo.sessions.create("hello", "fixer")))
    assert (session.title, session.agent, session.message_count) == ("hello", "fixer", 0)
    assert session.created_at == session.updated_at
    assert the(polpo.sessions.get_session(polpo.sessions.create())).title is None


def test_messages_come_in_the_order_in_which_they_were_added(polpo: Polpo) -> None:
    """Polpo 46, 47: also those of one instant; the last few, the oldest of them first."""
    session_id, other = polpo.sessions.create(), polpo.sessions.create()
    polpo.sessions.add_message(other, "user", "elsewhere")
    roles = ("user", "assistant")
    said = [polpo.sessions.add_message(session_id, roles[n % 2], str(n), [CALL] if n else ()) for n in range(12)]

    def same_instant(tx: Any) -> None:
        for message in said:
            tx[ChatMessages].save(structs.replace(message, ts=said[0].ts))

    polpo.write(same_instant)
    assert [m.content for m in polpo.sessions.get_messages(session_id)] == [str(n) for n in range(12)]
    assert [m.content for m in polpo.sessions.get_recent_messages(session_id, 3)] == ["9", "10", "11"]
    assert len(polpo.sessions.get_recent_messages(session_id, 99)) == 12
    assert polpo.sessions.get_recent_messages(session_id, 0) == []
    assert (said[1].role, said[1].tool_calls, said[1].session_id) == ("assistant", (CALL,), session_id)
    assert polpo.sessions.get_messages("99") == []


def test_a_message_needs_a_session_and_a_role(polpo: Polpo) -> None:
    with pytest.raises(NotFound, match="not found"):
        polpo.sessions.add_message("99", "user", "x")
    session_id = polpo.sessions.create()
    with pytest.raises(InvalidRequest, match="role"):
        polpo.sessions.add_message(session_id, "system", "x")
    with pytest.raises(InvalidRequest, match="content"):
        polpo.sessions.add_message(session_id, "user", "a\0b")
    assert the(polpo.sessions.get_session(session_id)).message_count == 0


def test_the_session_that_changed_last_comes_first(polpo: Polpo) -> None:
    """Polpo 48, 52: adding, changing and renaming count; so it is, too, where the clock stands still."""
    first, second, third = (polpo.sessions.create(name, agent) for name, agent in (("a", "x"), ("b", None), ("c", "x")))

    def order() -> list[str]:
        return [session.id for session in polpo.sessions.list_sessions()]

    assert order() == [third, second, first]
    message = polpo.sessions.add_message(first, "user", "1")
    assert order() == [first, third, second]
    polpo.sessions.rename_session(second, "B")
    assert order() == [second, first, third]
    polpo.sessions.update_message(first, message.id, "2")
    assert order() == [first, second, third]

    def same_instant(tx: Any) -> None:
        at = tx[ChatSessions].get(first).updated_at
        for session in tx[ChatSessions].find():
            tx[ChatSessions].save(structs.replace(session, updated_at=at))

    polpo.write(same_instant)
    assert order() == [first, second, third]
    assert [session.message_count for session in polpo.sessions.list_sessions()] == [1, 0, 0]
    assert the(polpo.sessions.get_latest_session()).id == first
    assert the(polpo.sessions.get_latest_session("x")).id == first
    assert the(polpo.sessions.get_latest_session(None)).id == second
    assert polpo.sessions.get_latest_session("nobody") is None


def test_a_session_is_renamed(polpo: Polpo) -> None:
    """Polpo 49."""
    session_id = polpo.sessions.create("a")
    assert polpo.sessions.rename_session(session_id, "b") is True
    assert the(polpo.sessions.get_session(session_id)).title == "b"
    assert polpo.sessions.rename_session("99", "b") is False


def test_the_messages_of_a_deleted_session_go_with_it(polpo: Polpo) -> None:
    """Polpo 50."""
    session_id, other = polpo.sessions.create(), polpo.sessions.create()
    for each in (session_id, other):
        polpo.sessions.add_message(each, "user", "x")
    assert polpo.sessions.delete_session(session_id) is True
    assert polpo.sessions.delete_session(session_id) is False
    assert polpo.sessions.get_session(session_id) is None
    assert [m.session_id for m in polpo.write(lambda tx: tx[ChatMessages].find())] == [other]
    assert polpo.sessions.create() not in (session_id, other)


def test_pruning_keeps_those_that_changed_last(polpo: Polpo) -> None:
    """Polpo 51."""
    ids = [polpo.sessions.create() for _ in range(5)]
    polpo.sessions.add_message(ids[0], "user", "x")
    assert polpo.sessions.prune(2) == 3
    assert [session.id for session in polpo.sessions.list_sessions()] == [ids[0], ids[4]]
    assert (polpo.sessions.prune(2), polpo.sessions.prune(0)) == (0, 2)
    assert polpo.write(lambda tx: tx[ChatMessages].count()) == 0


def test_a_message_is_changed(polpo: Polpo) -> None:
    """Polpo 53: what it says, and its tool calls where they are given; in its own session alone."""
    session_id, other = polpo.sessions.create(), polpo.sessions.create()
    message = polpo.sessions.add_message(session_id, "assistant", "a", [CALL])
    assert polpo.sessions.update_message(session_id, message.id, "b") is True
    assert polpo.sessions.get_messages(session_id) == [structs.replace(message, content="b")]
    assert polpo.sessions.update_message(session_id, message.id, "c", []) is True
    assert polpo.sessions.get_messages(session_id) == [structs.replace(message, content="c", tool_calls=())]
    assert polpo.sessions.update_message(other, message.id, "d") is False
    assert polpo.sessions.update_message(session_id, "99", "d") is False
    assert the(polpo.sessions.get_session(session_id)).message_count == 1
