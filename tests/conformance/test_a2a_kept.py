"""A2A tasks as polpod keeps them on each store: whose they are, calls that are made again, pages, events, bad rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.agents import NOW, Agents, artifact, message, status, texts
from store_makers import MAKERS

from polpod.errors import Conflict, NotFound, PermissionDenied, Undecodable
from polpod.model.a2a import KeptTask, Once, TaskState
from polpod.model.events import Event
from polpod.services import a2a
from polpod.services.rpc.method import Caller, Right
from polpod.store import quarantine
from polpod.store.a2a import A2ATasks
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.table import Row
from polpod.store.tables import Events

OWNER = Caller(uid=0, pid=1, right=Right.OWNER)
ANN = Caller(uid=1001, pid=2, right=Right.MEMBER)
BEN = Caller(uid=1002, pid=3, right=Right.MEMBER)
RUN = Caller(uid=0, pid=4, right=Right.RUN, run_id=7)
OTHER_RUN = Caller(uid=0, pid=5, right=Right.RUN, run_id=8)
NO_RUN = Caller(uid=0, pid=6, right=Right.RUN)
MAKER = {ANN: "of-ann", BEN: "of-ben", RUN: "of-run", OWNER: "of-owner"}
"""Who makes which task."""


@pytest.fixture(params=MAKERS)
def agents(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agents]:
    store = MAKERS[request.param](tmp_path, TABLES)
    yield Agents(store)
    store.close()


def listed(agents: Agents, by: Caller, before: int | None = None, limit: int = 100) -> list[str]:
    return [kept.stored.id for kept in agents.store.write(lambda tx: a2a.page(tx, by, before=before, limit=limit))]


def remove(agents: Agents, task_id: str, by: Caller = OWNER) -> None:
    agents.store.write(lambda tx: a2a.remove(tx, by, task_id, NOW))


def kept(agents: Agents, task_id: str = "t") -> KeptTask:
    found = agents.store.write(lambda tx: tx[A2ATasks].get(task_id))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("by", "sees"),
    [
        (OWNER, ["of-owner", "of-run", "of-ben", "of-ann"]),
        (ANN, ["of-ann"]),
        (BEN, ["of-ben"]),
        (RUN, ["of-run"]),
        (OTHER_RUN, []),
        (NO_RUN, []),
    ],
    ids=["owner", "ann", "ben", "run", "another run", "no run"],
)
def test_each_has_to_do_with_its_own(agents: Agents, by: Caller, sees: list[str]) -> None:
    for maker, task_id in MAKER.items():
        agents.upsert(task_id, by=maker)
    assert listed(agents, by) == sees
    for task_id in MAKER.values():
        before = kept(agents, task_id)
        if task_id in sees:
            assert agents.get(task_id, by=by) == before.stored
            agents.upsert(task_id, "more", by=by)
            assert texts(agents.update(task_id, by=by, new_messages=(message("most"),))) == ["hi", "more", "most"]
            remove(agents, task_id, by)
            assert agents.get(task_id) is None
            continue
        assert agents.get(task_id, by=by) is None
        with pytest.raises(PermissionDenied, match="another user's"):
            agents.upsert(task_id, "more", by=by)
        with pytest.raises(NotFound):
            agents.update(task_id, by=by, metadata={})
        with pytest.raises(NotFound):
            remove(agents, task_id, by)
        assert kept(agents, task_id) == before


def test_who_made_it_is_kept(agents: Agents) -> None:
    agents.upsert("of-run", by=RUN)
    agents.upsert("of-ann", by=ANN)
    agents.upsert("of-ann", "more", by=OWNER)
    assert (kept(agents, "of-run").created_by, kept(agents, "of-run").created_run) == (0, 7)
    assert (kept(agents, "of-ann").created_by, kept(agents, "of-ann").created_run) == (1001, None)


def test_a_call_that_is_made_again_is_carried_out_once(agents: Agents) -> None:
    first, second = Once(client="c", number=1), Once(client="c", number=2)
    begun = agents.upsert("t", "hi", once=first)
    assert agents.upsert("t", "hi", once=first) == begun
    changed = agents.update("t", new_messages=(message("x"),), once=second)
    assert agents.update("t", new_messages=(message("x"),), once=second) == changed
    assert agents.upsert("t", "hi", once=first) == changed
    assert texts(agents.get()) == ["hi", "x"]
    assert texts(agents.update("t", new_messages=(message("x"),), once=Once(client="d", number=1))) == ["hi", "x", "x"]
    assert texts(agents.update("t", new_messages=(message("y"),))) == ["hi", "x", "x", "y"]
    assert [e.kind for e in events(agents)] == ["a2a:created", *["a2a:updated"] * 3]


def test_a_call_that_was_refused_may_be_made_again(agents: Agents) -> None:
    agents.upsert("t")
    agents.update("t", artifacts_updates=(artifact("a", last_chunk=True),))
    for _ in range(2):
        with pytest.raises(Conflict):
            agents.update("t", artifacts_updates=(artifact("b"),), once=Once(client="c", number=5))
    assert texts(agents.update("t", new_messages=(message("x"),), once=Once(client="c", number=5))) == ["hi", "x"]


def test_of_many_clients_those_that_called_last_are_known(agents: Agents) -> None:
    calls = [Once(client="early", number=1), Once(client="first", number=1), Once(client="early", number=2)]
    calls += [Once(client=str(number), number=1) for number in range(a2a.CLIENTS - 1)]
    for once in calls:
        agents.upsert("t", once=once)
    assert len(kept(agents).calls) == a2a.CLIENTS
    before = texts(agents.get())
    for known in calls[2:]:
        agents.upsert("t", once=known)
    assert texts(agents.get()) == before
    agents.upsert("t", "forgotten", once=Once(client="first", number=1))
    assert texts(agents.get()) == [*before, "forgotten"]


def test_pages_are_newest_first_and_leave_nothing_out(agents: Agents) -> None:
    names = [f"t{number}" for number in range(7)]
    for name in names:
        agents.upsert(name, by=ANN)
        agents.upsert(f"ben-{name}", by=BEN)
    agents.upsert("t0", "more", by=ANN)
    remove(agents, "t6")
    found: list[str] = []
    before: int | None = None
    while page := listed(agents, ANN, before, limit=2):
        found += page
        before = kept(agents, page[-1]).seq
    assert found == names[5::-1]


def test_an_id_that_was_removed_begins_anew(agents: Agents) -> None:
    agents.upsert("t", "old", by=ANN)
    remove(agents, "t", ANN)
    with pytest.raises(NotFound):
        remove(agents, "t", ANN)
    assert texts(agents.upsert("t", "new", by=BEN)) == ["new"]


def events(agents: Agents) -> list[Event]:
    return agents.store.write(lambda tx: tx[Events].find())


def test_the_journal_says_what_happened_and_not_what_was_said(agents: Agents) -> None:
    agents.upsert("t", "canary", by=ANN, metadata={"canary": "canary"}, caller_id="canary")
    agents.update("t", by=ANN, status=status(TaskState.WORKING, "canary"))
    with pytest.raises(PermissionDenied):
        agents.update("t", by=ANN, caller_id="other")
    agents.get("t")
    remove(agents, "t", ANN)
    assert [(e.kind, e.subject, e.body) for e in events(agents)] == [
        ("a2a:created", "a2a/t", {"state": "submitted", "by": "uid 1001"}),
        ("a2a:updated", "a2a/t", {"state": "working", "by": "uid 1001"}),
        ("a2a:removed", "a2a/t", {"by": "uid 1001"}),
    ]


class Undone(Exception):
    pass


def test_the_task_and_its_event_are_one_transaction(agents: Agents) -> None:
    def body(tx: Tx) -> None:
        a2a.upsert(tx, OWNER, params, NOW)
        raise Undone

    params = a2a.SendParams(id="t", message=message("hi"))
    with pytest.raises(Undone):
        agents.store.write(body)
    assert (agents.get(), events(agents)) == (None, [])


def test_a_row_that_means_nothing_is_set_aside(agents: Agents) -> None:
    """F10, for this table, too."""
    agents.upsert("bad")
    good = agents.upsert("good")
    bad = kept(agents, "bad")
    columns = A2ATasks.row(bad).columns
    agents.store.write(lambda tx: tx.rows.insert(A2ATasks, Row(columns, b'{"stored": 1}'), replace=True))
    with pytest.raises(Undecodable) as undecodable:
        agents.get("bad")
    agents.store.write(lambda tx: quarantine.set_aside(tx, undecodable.value))
    assert agents.get("bad") is None
    assert listed(agents, OWNER) == ["good"]
    assert agents.get("good") == good
    assert events(agents)[-1].kind == "a2a:quarantined"
