"""Notifications, logs, approvals and memory, by the numbers of the list of behaviours (§13.6, §13.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from polpo_stores import Polpo, lasting, polpo
from store_makers import Maker

from polpod.errors import Conflict, InvalidRequest
from polpod.model.polpo.approvals import ApprovalRequest, ApprovalStatus
from polpod.store.polpo import LogEntries
from polpod.store.schema import TABLES
from polpod.taskstore import LogStore

__all__ = ("lasting", "polpo")

WHEN = datetime(2030, 1, 1, tzinfo=UTC)


def notify(polpo: Polpo, **fields: Any) -> str:
    usual = {"rule_id": "r", "channel": "ops", "status": "sent", "title": "t", "timestamp": WHEN}
    return polpo.notifications.append(usual | fields).id


def test_notifications_come_newest_first(polpo: Polpo) -> None:
    """Polpo 54: by the order in which they were appended, whatever their times; at most a hundred unless more are asked for."""
    ids = [notify(polpo, timestamp=WHEN - timedelta(n % 3)) for n in range(120)]
    assert [n.id for n in polpo.notifications.list()] == ids[:19:-1]
    assert [n.id for n in polpo.notifications.list(2)] == [ids[119], ids[118]]
    assert len(polpo.notifications.list(None)) == 120
    given = notify(polpo, id="mine", error="no route", attachment_count=2, attachment_types=["pdf"], severity="high")
    (newest,) = polpo.notifications.list(1)
    assert (newest.id, newest.error, newest.attachment_count) == (given, "no route", 2)
    assert (newest.attachment_types, newest.severity, newest.timestamp) == (("pdf",), "high", WHEN)
    with pytest.raises(Conflict, match="mine"):
        notify(polpo, id="mine")


def test_notifications_are_found_and_counted(polpo: Polpo) -> None:
    """Polpo 55, 56."""
    a = notify(polpo, channel="ops", rule_id="x", status="failed")
    b = notify(polpo, channel="dev", rule_id="x")
    c = notify(polpo, channel="ops", rule_id="y")
    assert [n.id for n in polpo.notifications.list_by_channel("ops")] == [c, a]
    assert [n.id for n in polpo.notifications.list_by_rule("x")] == [b, a]
    assert [n.id for n in polpo.notifications.list_by_status("sent")] == [c, b]
    assert [n.id for n in polpo.notifications.list_by_status("sent", limit=1)] == [c]
    assert [polpo.notifications.count(s) for s in (None, "sent", "failed")] == [3, 2, 1]
    for refused in (polpo.notifications.count, polpo.notifications.list_by_status):
        with pytest.raises(InvalidRequest, match="status"):
            refused("lost")


def test_pruning_keeps_the_newest_notifications(polpo: Polpo) -> None:
    """Polpo 57."""
    ids = [notify(polpo) for _ in range(5)]
    assert polpo.notifications.prune(2) == 3
    assert [n.id for n in polpo.notifications.list()] == [ids[4], ids[3]]
    assert (polpo.notifications.prune(9), polpo.notifications.prune(0)) == (0, 2)
    assert notify(polpo) not in ids


def test_entries_are_logged_in_order(polpo: Polpo) -> None:
    """Polpo 58, 59: to the session that was begun last; no session before the first."""
    assert polpo.logs.get_session_id() is None
    first = polpo.logs.start_session()
    assert polpo.logs.get_session_id() == first
    for n in range(12):
        polpo.logs.append(event="tick", data={"n": n}, ts=WHEN - timedelta(n))
    second = polpo.logs.start_session()
    polpo.logs.append({"event": "other"})
    assert [entry.data for entry in polpo.logs.get_session_entries(first)] == [{"n": n} for n in range(12)]
    (entry,) = polpo.logs.get_session_entries()
    assert (entry.event, entry.data, entry.session_id) == ("other", None, second)
    assert entry.ts is not None
    assert polpo.logs.get_session_entries("x") == []
    with pytest.raises(InvalidRequest, match="event"):
        polpo.logs.append(data=1)


def test_log_sessions_come_newest_first_with_their_counts(polpo: Polpo) -> None:
    """Polpo 60."""
    counts = []
    for n in range(3):
        session_id = polpo.logs.start_session()
        for _ in range(n):
            polpo.logs.append(event="e")
        counts.insert(0, (session_id, n))
    assert [(session.session_id, session.entries) for session in polpo.logs.list_sessions()] == counts


def test_an_entry_without_a_session_begins_one(polpo: Polpo) -> None:
    """Polpo 61: on every backend, where Polpo's files dropped it."""
    polpo.logs.append(event="first")
    polpo.logs.append(event="second")
    assert [entry.event for entry in polpo.logs.get_session_entries()] == ["first", "second"]
    (session,) = polpo.logs.list_sessions()
    assert (session.session_id, session.entries) == (polpo.logs.get_session_id(), 2)
    other = LogStore(polpo.logs.store)
    other.append(event="elsewhere")
    assert other.get_session_id() != session.session_id


def test_pruning_keeps_the_newest_log_sessions(polpo: Polpo) -> None:
    """Polpo 62: with their entries; one that is still written to begins anew."""
    ids = []
    for _ in range(4):
        ids.append(polpo.logs.start_session())
        polpo.logs.append(event="e")
    assert polpo.logs.prune(1) == 3
    assert [session.session_id for session in polpo.logs.list_sessions()] == ids[3:]
    assert polpo.write(lambda tx: [entry.session_id for entry in tx[LogEntries].find()]) == ids[3:]
    assert polpo.logs.prune(0) == 1
    polpo.logs.append(event="e")
    assert [(s.session_id, s.entries) for s in polpo.logs.list_sessions()] == [(ids[3], 1)]


ASKED: dict[str, Any] = {"id": "a1", "gate_id": "g", "gate_name": "deploy", "payload": {"diff": ["x"]}, "task_id": "7"}


def test_an_approval_is_asked_for_and_decided(polpo: Polpo) -> None:
    """Polpo 63."""
    asked = polpo.approvals.upsert(ASKED, mission_id="3", requested_at=WHEN)
    assert polpo.approvals.get("a1") == asked
    assert (asked.status, asked.requested_at, asked.payload) == (ApprovalStatus.PENDING, WHEN, {"diff": ["x"]})
    decided = {"status": "approved", "resolved_at": WHEN, "resolved_by": "ada", "note": "go"}
    answer = polpo.approvals.upsert(ASKED | decided)
    assert answer == ApprovalRequest(**ASKED, **decided, requested_at=WHEN, seq=asked.seq)
    assert polpo.approvals.get("a1") == answer
    assert polpo.approvals.upsert(structs.replace(answer, note=None)).note is None
    assert polpo.approvals.get("x") is None


def test_approvals_are_listed(polpo: Polpo) -> None:
    """Polpo 64: the oldest request first, also after it was decided; those of a task whatever became of them."""
    for name, task, status in (("b", "7", "pending"), ("a", "8", "rejected"), ("c", "7", "timeout")):
        polpo.approvals.upsert(ASKED | {"id": name, "task_id": task, "status": status, "requested_at": WHEN})
    polpo.approvals.upsert(ASKED | {"id": "b", "status": "rejected"})
    assert [request.id for request in polpo.approvals.list()] == ["b", "a", "c"]
    assert [request.id for request in polpo.approvals.list("rejected")] == ["b", "a"]
    assert polpo.approvals.list("pending") == []
    assert [request.id for request in polpo.approvals.list_by_task("7")] == ["b", "c"]
    with pytest.raises(InvalidRequest, match="status"):
        polpo.approvals.list("maybe")


def test_an_approval_is_deleted(polpo: Polpo) -> None:
    """Polpo 65."""
    polpo.approvals.upsert(ASKED)
    assert [polpo.approvals.delete("a1"), polpo.approvals.delete("a1")] == [True, False]
    assert polpo.approvals.list() == []


SCOPES = pytest.mark.parametrize("agent", [None, "fixer"])


@SCOPES
def test_nothing_is_remembered_at_first(polpo: Polpo, agent: str | None) -> None:
    """Polpo 66."""
    assert (polpo.memory.exists(agent), polpo.memory.get(agent)) == (False, "")


@SCOPES
def test_what_is_saved_is_remembered(polpo: Polpo, agent: str | None) -> None:
    """Polpo 67."""
    for content in ("one", "", "one\ntwo\n\n", "ümlaut\t\U0001f980"):
        polpo.memory.save(content, agent)
        assert (polpo.memory.exists(agent), polpo.memory.get(agent)) == (True, content)
    with pytest.raises(InvalidRequest, match="content"):
        polpo.memory.save("a\0b", agent)


@SCOPES
def test_a_line_is_added_with_its_day(polpo: Polpo, agent: str | None) -> None:
    """Polpo 68: one way on every backend; what was not ended by a new line is ended first."""
    polpo.memory.append("one", agent)
    polpo.memory.append("two", agent)
    day = r"- \d{4}-\d\d-\d\d: "
    assert re.fullmatch(rf"{day}one\n{day}two\n", polpo.memory.get(agent))
    polpo.memory.save("text", agent)
    polpo.memory.append("three", agent)
    assert re.fullmatch(rf"text\n{day}three\n", polpo.memory.get(agent))


@SCOPES
def test_a_text_is_replaced_where_it_is_there_once(polpo: Polpo, agent: str | None) -> None:
    """Polpo 69: else nothing changes, and the answer says why."""
    polpo.memory.save("aa b c c", agent)
    assert polpo.memory.update("b", "B", agent) is True
    assert polpo.memory.update("aa", "", agent) is True
    for text, why in (("x", "not found"), ("", "not found"), ("c", "2 times")):
        said = polpo.memory.update(text, "y", agent)
        assert isinstance(said, str)
        assert why in said
    assert polpo.memory.get(agent) == " B c c"


def test_memories_are_kept_apart_and_for_another_that_opens_them(lasting: Maker, tmp_path: Path) -> None:
    """Polpo 70, 71, 72."""
    stores = Polpo(lasting(tmp_path, TABLES))
    assert stores.memory.list_scopes() == []
    stores.memory.save("ours")
    stores.memory.save("mine", "b")
    stores.memory.append("yours", "a")
    stores.close()
    again = Polpo(lasting(tmp_path, TABLES))
    found = again.memory.get(), again.memory.get("b"), again.memory.exists("c"), again.memory.list_scopes()
    again.close()
    assert found == ("ours", "mine", False, ["a", "b"])
