"""A task store in PostgreSQL whose server, or the way to it, fails: every answer is true, and it goes on by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kit.postgres import PASSWORD, Server, Store, name, pg, store
from kit.proxy import Moment, Proxy
from kit.waiting import BOUND, until

from polpod.errors import CommitInDoubt, PerhapsDone, SchemaTooNew, StoreError, Unavailable
from polpod.model.events import Event
from polpod.store.databases import TASKS
from polpod.store.group import Ticket, open_store
from polpod.store.location import Postgres, open_sessions
from polpod.store.migrate import Schema
from polpod.store.postgres_session import HELD, PostgresWriter
from polpod.store.records import Tx
from polpod.store.tables import Events, Setting, Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)

BUSY = 10.0
"""Seconds that a busy machine may take of its own."""

COMMIT = b"COMMIT\0"
"""As it is sent; BEGIN says COMMITTED."""

__all__ = ("name", "pg", "store")


@pytest.fixture
def proxy(pg: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with closing(Proxy(tmp_path_factory.mktemp("way"), pg.directory)) as proxy:
        yield proxy


@pytest.fixture
def distant(pg: Server, name: str, proxy: Proxy) -> Iterator[Store]:
    """The store, at the end of the proxy."""
    with closing(open_store(Postgres(pg.url(name, host=proxy.directory)), TASKS)) as store:
        yield store


def put(key: str) -> Callable[[Tx], str]:
    def body(tx: Tx) -> str:
        tx[Settings].add(Setting(key, "v"))
        tx.append(Events, Event(at=NOW, kind="set", subject=key))
        return key

    return body


def stored(pg: Server, name: str) -> list[str]:
    """What is committed, as another connection sees it; the journal must say the same, without a gap."""
    names = [key for (key,) in pg.execute(name, "SELECT name FROM settings ORDER BY name")]
    journal = pg.execute(name, "SELECT seq, subject FROM events ORDER BY seq")
    assert sorted(subject for _, subject in journal) == names
    assert [seq for seq, _ in journal] == list(range(1, len(journal) + 1))
    return names


def drained(store: Store, *bodies: Callable[[Tx], object]) -> tuple[list[object], list[str]]:
    """One group of these bodies: what each gave or raised, and the subjects of the events that its listeners hear of."""
    tickets = [Ticket(body, durable=True) for body in bodies]
    for ticket in tickets:
        store.submit(ticket)
    group = store.drain()
    answers = [ticket.result if ticket.error is None else type(ticket.error) for ticket in tickets]
    return answers, [event.subject for event in group.events]


def resumed(store: Store, body: Callable[[Tx], str]) -> str:
    """What the body gives once the store is there again."""

    def attempt() -> str | None:
        try:
            return store.write(body)
        except Unavailable:
            return None

    return until(attempt, "the store to be there again")


# The server is killed.


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT])
def test_a_server_that_was_killed_while_nothing_went_on_is_not_missed(
    pg: Server, name: str, store: Store, how: signal.Signals
) -> None:
    assert store.write(put("a")) == "a"
    pg.stop(how)
    pg.start()
    assert store.write(put("b")) == "b"
    assert stored(pg, name) == ["a", "b"]


def test_a_reader_whose_server_was_killed_goes_on(pg: Server, name: str) -> None:
    sessions = open_sessions(Postgres(pg.url(name)), TASKS.schema)

    def read() -> None:
        for reader in sessions.readers:
            reader.begin_reading()
            assert Tx(reader.rows)[Settings].find() == []
            reader.rollback()

    read()
    pg.stop()
    pg.start()
    read()
    for session in (sessions.writer, *sessions.readers):
        session.close()


def test_while_the_server_is_down_every_answer_is_unavailable_and_soon(pg: Server, name: str, store: Store) -> None:
    store.write(put("a"))
    pg.stop()
    begun = time.monotonic()
    try:
        answers, events = drained(store, *(put(f"lost{n}") for n in range(256)))
        assert set(answers) == {Unavailable}
        assert events == []
        with pytest.raises(Unavailable, match=f"/{name}: "):
            store.write(put("c"))
        assert time.monotonic() - begun < HELD, "each waits for nothing"
    finally:
        pg.start()
    assert resumed(store, put("b")) == "b"
    assert stored(pg, name) == ["a", "b"]


def test_a_server_killed_in_a_body_costs_the_group_nothing_once_it_is_there_again(
    pg: Server, name: str, store: Store
) -> None:
    ran: list[str] = []

    def murderous(tx: Tx) -> str:
        ran.append("murderous")
        put("b")(tx)
        if len(ran) == 1:
            pg.stop()
            pg.start()
        assert tx[Settings].count() == 2
        return "b"

    answers, events = drained(store, put("a"), murderous, put("c"))
    assert answers == ["a", "b", "c"], "the whole transaction was lost, and each was carried out again, alone"
    assert len(ran) == 2
    assert events == ["a", "b", "c"]
    assert stored(pg, name) == ["a", "b", "c"]


def test_a_server_killed_in_a_body_that_raises_leaves_nothing(pg: Server, name: str, store: Store) -> None:
    def murderous(tx: Tx) -> None:
        put("b")(tx)
        pg.stop()
        raise KeyError("mine")

    try:
        answers, events = drained(store, put("a"), murderous, put("c"))
        assert answers == [Unavailable, KeyError, Unavailable] or answers == [Unavailable] * 3
        assert events == []
    finally:
        pg.start()
    assert resumed(store, put("d")) == "d"
    assert stored(pg, name) == ["d"]


# The way to it breaks in a commit.


@pytest.mark.parametrize(("moment", "answer"), [("before", Unavailable), ("done", "b")])
def test_a_commit_whose_answer_is_lost_is_answered_truly(
    pg: Server, name: str, distant: Store, proxy: Proxy, moment: Moment, answer: object
) -> None:
    distant.write(put("a"))
    proxy.break_at(COMMIT, moment)
    answers, events = drained(distant, put("b"))
    assert proxy.cut.is_set()
    assert answers == [answer]
    assert events == (["b"] if answer == "b" else []), "listeners hear of it once"
    assert stored(pg, name) == (["a", "b"] if answer == "b" else ["a"])
    assert drained(distant, put("c")) == (["c"], ["c"])


def test_a_commit_that_nobody_waited_for_is_answered_truly(pg: Server, name: str, distant: Store, proxy: Proxy) -> None:
    for number in range(20):
        before = stored(pg, name)
        proxy.break_at(COMMIT, "sent")
        (answer,), events = drained(distant, put(f"{number:02}"))
        there = [key for key in stored(pg, name) if key not in before]
        assert (there, events) == (([answer], [answer]) if isinstance(answer, str) else ([], []))


def test_a_commit_whose_answer_never_comes_is_answered_truly(
    pg: Server, name: str, distant: Store, proxy: Proxy
) -> None:
    """The old connection still lives, for the server, and has the lock."""
    distant.write(put("a"))
    _hurry(distant, held=2 * BOUND, patience=0.5)
    proxy.break_at(COMMIT, "silent")
    assert drained(distant, put("b")) == (["b"], ["b"])
    assert stored(pg, name) == ["a", "b"]


@pytest.mark.parametrize("moment", ["before", "done"])
def test_a_commit_of_which_nobody_knows_yet_is_found_out_before_anything_else(
    pg: Server, name: str, distant: Store, proxy: Proxy, moment: Moment
) -> None:
    distant.write(put("a"))
    _hurry(distant, held=4.0)
    proxy.break_at(COMMIT, moment, stay_closed=True)
    answers, events = drained(distant, put("b"), put("c"))
    assert (answers, events) == ([PerhapsDone, PerhapsDone], [])
    with pytest.raises(Unavailable):
        distant.write(put("d"))
    proxy.closed.clear()
    happened = ["b", "c"] if moment == "done" else []

    def attempt() -> list[str] | None:
        answers, events = drained(distant, put("e"))
        return events if answers == ["e"] else None

    assert until(attempt, "the store to be there again") == [*happened, "e"], "what was in doubt comes first, and once"
    assert drained(distant, put("f")) == (["f"], ["f"])
    assert stored(pg, name) == ["a", *happened, "e", "f"]


@pytest.mark.parametrize("moment", ["before", "sent", "done"])
def test_a_server_killed_in_a_commit_leaves_no_doubt(
    pg: Server, name: str, distant: Store, proxy: Proxy, moment: Moment
) -> None:
    distant.write(put("a"))
    _hurry(distant, held=2 * BOUND)  # however long the server takes to start on a busy machine
    proxy.break_at(COMMIT, moment)

    def kill() -> None:
        assert proxy.cut.wait(BOUND)
        pg.stop()
        pg.start()

    killer = threading.Thread(target=kill)
    killer.start()
    (answer,), events = drained(distant, put("b"))
    killer.join(BOUND)
    there = stored(pg, name)
    assert (answer, there) in ([("b", ["a", "b"]), (Unavailable, ["a"])] if moment != "done" else [("b", ["a", "b"])])
    assert events == there[1:]
    assert resumed(distant, put("c")) == "c"


def test_a_store_that_another_wrote_to_meanwhile_is_recovered_from_the_start(
    pg: Server, name: str, distant: Store, proxy: Proxy
) -> None:
    distant.write(put("a"))
    _hurry(distant, held=4.0)
    proxy.break_at(COMMIT, "done", stay_closed=True)
    assert drained(distant, put("b"))[0] == [PerhapsDone]
    with closing(open_store(Postgres(pg.url(name)), TASKS)) as other:
        other.write(put("c"))
    proxy.closed.clear()

    def broken() -> bool:
        try:
            distant.write(put("d"))
        except Unavailable:
            return False
        except CommitInDoubt:
            return True
        raise AssertionError("written over what another knows")

    assert until(broken, "the end")
    with pytest.raises(CommitInDoubt):
        distant.write(put("e"))
    assert stored(pg, name) == ["a", "b", "c"]


# A server that hangs.


def test_a_server_that_hangs_is_unavailable_within_the_bound(pg: Server, name: str, store: Store) -> None:
    store.write(put("a"))
    begun = time.monotonic()
    with pg.stopped():
        answers, _ = drained(store, *(put(f"lost{n}") for n in range(256)))
        assert time.monotonic() - begun < HELD + BUSY
        assert set(answers) == {Unavailable}
    assert resumed(store, put("b")) == "b"
    assert stored(pg, name) == ["a", "b"]


def test_a_server_that_hangs_in_a_commit_is_found_out_later(
    pg: Server, name: str, distant: Store, proxy: Proxy
) -> None:
    distant.write(put("a"))
    proxy.break_at(COMMIT, "done")
    _hurry(distant, held=4.0, patience=0.5)

    with pg.stopped():  # so the answer is not there before the patience is over
        begun = time.monotonic()
        answers, _ = drained(distant, put("b"))
        assert time.monotonic() - begun < HELD + BUSY
    assert answers == [Unavailable]
    assert resumed(distant, put("c")) == "c"


# One polpod at a time.


def test_a_second_opener_is_refused(pg: Server, name: str, store: Store) -> None:
    with pytest.raises(Unavailable, match=f"/{name}: another polpod uses this database"):
        open_store(Postgres(pg.url(name)), TASKS)
    assert store.write(put("a")) == "a"
    store.close()
    open_store(Postgres(pg.url(name)), TASKS).close()


def test_the_lock_is_taken_again_with_a_new_connection(pg: Server, name: str, store: Store) -> None:
    pg.stop()
    pg.start()
    store.write(put("a"))
    with pytest.raises(Unavailable, match="another polpod"):
        open_store(Postgres(pg.url(name)), TASKS)


HOLD = """
import os, sys
from polpod.store.databases import TASKS
from polpod.store.group import open_store
from polpod.store.location import Postgres
store = open_store(Postgres(sys.argv[1]), TASKS)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_kill_of_its_holder_frees_the_lock(pg: Server, name: str) -> None:
    command = [sys.executable, "-c", HOLD, pg.url(name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match="another polpod"):
            open_store(Postgres(pg.url(name)), TASKS)
        os.kill(holder.pid, signal.SIGKILL)
        with closing(open_store(Postgres(pg.url(name)), TASKS)) as store:
            assert store.write(put("a")) == "a"


# Opening.


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=rf"{tmp_path}/jobs: .*No such file") as caught:
        open_store(Postgres(f"postgresql://ann:hunter2@/jobs?host={tmp_path}"), TASKS)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_password_is_refused_and_not_told(pg: Server, name: str) -> None:
    pg.execute("postgres", f"ALTER DATABASE {name} OWNER TO ann")
    for given in ("hunter2", ""):
        with pytest.raises(StoreError, match=f"/{name}: .*password") as caught:
            open_store(Postgres(pg.url(name, user=f"ann:{given}")), TASKS)
        assert "hunter2" not in _everything_said(caught.value)
    open_store(Postgres(pg.url(name, user=f"ann:{PASSWORD.replace(' ', '%20')}")), TASKS).close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hunter2@[::1/jobs",
        "postgresql://ann:hunter2@h:x5/j",
        "postgresql://ann:x@hunter2@h/j",
        "postgresql://ann:hunter2/x@h/j",
        "hunter2",
    ],
)
def test_what_is_no_address_is_not_told(url: str) -> None:
    with pytest.raises((StoreError, Unavailable)) as caught:
        open_store(Postgres(url), TASKS)
    assert "hunter2" not in _everything_said(caught.value)


def _everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


def test_a_newer_schema_is_refused(pg: Server, name: str, store: Store) -> None:
    store.close()
    older = Schema("task store", (), TASKS.schema.for_postgres[:-1])
    with pytest.raises(SchemaTooNew, match=f"/{name}: written by a later polpod"):
        open_sessions(Postgres(pg.url(name)), older)


def _hurry(store: Store, *, held: float, patience: float | None = None) -> None:
    """Other seconds for finding out what became of a commit, and for each answer, so that a test takes no longer than it must."""
    assert isinstance(store.session, PostgresWriter)
    store.session.held = held
    if patience is not None:
        store.session.rows.db.patience = patience
