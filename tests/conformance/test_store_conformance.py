"""What every backend of the store must do: each test is a function of a store, or of its maker (store_makers.py)."""

from __future__ import annotations

import math
import operator
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from kit.entities import entities, text
from store_makers import LASTING, MAKERS, SUITE, Badge, Badges, Maker, People, Person, Pet, Pets, Store

from polpod.errors import AlreadyExists, BrokenReference, Conflict, StoreError
from polpod.model import a2a
from polpod.model.events import Event
from polpod.model.executions import Barrier, BarrierKind, Execution
from polpod.model.organisation.people import HumanRole, User
from polpod.model.organisation.workflows import WorkflowDefinition, WorkflowNode, WorkflowNodeType
from polpod.model.polpo.logs import LogSession
from polpod.model.polpo.missions import Mission
from polpod.model.polpo.sessions import Session
from polpod.model.tasks import Task, TaskStatus
from polpod.store.a2a import A2ATasks
from polpod.store.missions import Barriers, Executions
from polpod.store.organisation import Users, WorkflowDefinitions
from polpod.store.polpo import ChatSessions, LogSessions, Missions
from polpod.store.records import Tx
from polpod.store.schema import TABLES
from polpod.store.table import AnyOf, AnyTable, Order, Where
from polpod.store.tables import Events, Tasks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALL = (*TABLES, *SUITE)


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = MAKERS[request.param](tmp_path, ALL)
    yield made
    made.close()


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Maker:
    return MAKERS[request.param]


# Round trips: any value of any entity comes back as it was, "unset" included (invariant 9).


@pytest.mark.parametrize("table", ALL, ids=lambda t: t.name)
def test_any_value_of_an_entity_comes_back(maker: Maker, table: AnyTable, tmp_path: Path) -> None:
    """W16, W17."""
    store = maker(tmp_path, ALL)
    targets = targets_of(table)

    def round_trip(entity: Any) -> Callable[[Tx], None]:
        def body(tx: Tx) -> None:
            for ref in table.refs:
                if (named := ref.column.get(entity)) is not None:
                    put_somebody(tx, ref.table, named)
            key = tuple(c.get(entity) for c in table.key)
            tx[table].save(entity)
            assert tx[table].get(key) == entity
            assert tx[table].find() == [entity]
            for used in (table, *targets):
                tx[used].delete_where()

        return body

    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
    @given(entities(table.entity))
    def check(entity: Any) -> None:
        store.write(round_trip(entity), durable=False)

    check()
    store.close()


def targets_of(table: AnyTable) -> list[AnyTable]:
    """The tables that it refers to, each before those that this one refers to."""
    return [target for ref in table.refs for target in (ref.table, *targets_of(ref.table))]


def put_somebody(tx: Tx, table: AnyTable, named: Any) -> None:
    """Whoever is named there, with whom that names in turn."""
    entity = SOMEBODY[table](named)
    for ref in table.refs:
        if (other := ref.column.get(entity)) is not None:
            put_somebody(tx, ref.table, other)
    tx[table].save(entity)


def an_a2a_task(named: str) -> a2a.StoredTask:
    task = a2a.A2ATask(id=named, status=a2a.TaskStatus(state=a2a.TaskState.WORKING, timestamp=NOW))
    return a2a.StoredTask(id=named, task=task, created_at=NOW, updated_at=NOW)


START_AND_END = tuple(WorkflowNode(id=name, type=WorkflowNodeType(name), label=name) for name in ("start", "end"))
SOMEBODY: dict[AnyTable, Callable[[str], Any]] = {
    People: Person,
    Tasks: lambda named: Task(id=named, seq=0, created_at=NOW, updated_at=NOW),
    Users: lambda named: User(
        id=named, username="u", password_hash="", role=HumanRole.CEO, created_at=NOW, updated_at=NOW
    ),
    WorkflowDefinitions: lambda named: WorkflowDefinition(id=named, name="w", created_by="u", nodes=START_AND_END),
    ChatSessions: lambda named: Session(id=named, created_at=NOW, updated_at=NOW, touched=0),
    LogSessions: lambda named: LogSession(session_id=named, started_at=NOW, seq=0),
    Executions: lambda named: Execution(
        id=named,
        seq=0,
        mission_id="m",
        number=1,
        group="g",
        document_id="d",
        started_by="u",
        started_at=NOW,
        updated_at=NOW,
    ),
    Missions: lambda named: Mission(id=named, seq=0, name="m", data="{}", created_at=NOW, updated_at=NOW),
    Barriers: lambda named: Barrier(id=named, seq=0, execution_id="x", kind=BarrierKind.DELAY, name="b", remaining=0),
    A2ATasks: lambda named: a2a.KeptTask(stored=an_a2a_task(named), seq=0, created_by=0),
}
"""The least row that a reference can name."""


# Filters, orders, counters, errors: compared with a dict.

OPERATORS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
ids = st.sampled_from(["a", "b", "B", "_", "é", "a/b", "..", "Z", "zz", "10", "9"])
ranks = st.integers(-2, 2)
scores = st.none() | st.sampled_from([-1.5, 0.0, 2.25])
births = st.none() | st.integers(-2, 2).map(lambda n: NOW + timedelta(microseconds=n))
people = st.builds(
    Person,
    id=ids,
    email=st.none() | st.sampled_from(["x@y", "x@z"]),
    rank=ranks,
    score=scores,
    born=births,
    adult=st.booleans(),
    notes=st.lists(text, max_size=2).map(tuple),
)
FIELDS = {"id": ids, "rank": ranks, "score": scores, "born": births}
Filter = tuple[Where[Person], Callable[[Person], bool]]


def _compared(name: str, op: str, value: Any) -> Filter:
    """A comparison twice: as a filter, and in Python, where NULL compares false with everything (table.py, rule 3)."""
    column = getattr(People, name)
    if value is None and op in ("eq", "ne"):
        return getattr(column, op)(None), lambda p: (getattr(p, name) is None) is (op == "eq")
    return (
        getattr(column, op)(value),
        lambda p: None not in (value, getattr(p, name)) and OPERATORS[op](getattr(p, name), value),
    )


@st.composite
def comparisons(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(sorted(FIELDS)))
    return _compared(name, draw(st.sampled_from(sorted(OPERATORS))), draw(FIELDS[name]))


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    kind = draw(st.sampled_from(["compare", "in", "set", "any"]))
    if kind == "in":
        some = draw(st.lists(ids, max_size=3))
        return People.id.is_in(some), lambda p: p.id in some
    if kind == "set":
        return People.score.is_set(), lambda p: p.score is not None
    if kind == "any":
        several = draw(st.lists(comparisons(), max_size=2))
        return AnyOf(tuple(w for w, _ in several)), lambda p: any(holds(p) for _, holds in several)
    return draw(comparisons())


class Boom(Exception):
    pass


def _nulls_first(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


def machine(make: Maker) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.directory = Path(tempfile.mkdtemp(prefix="store-"))
            self.store = make(self.directory, ALL)
            self.people: dict[str, Person] = {}
            self.events = 0

        def teardown(self) -> None:
            self.store.close()
            shutil.rmtree(self.directory)

        def _taken(self, person: Person) -> bool:
            others = (p for p in self.people.values() if p.id != person.id)
            return person.email is not None and person.email in {p.email for p in others}

        @rule(person=people)
        def add(self, person: Person) -> None:
            if person.id in self.people or self._taken(person):
                with pytest.raises(AlreadyExists):
                    self.store.write(lambda tx: tx[People].add(person))
            else:
                self.store.write(lambda tx: tx[People].add(person))
                self.people[person.id] = person

        @rule(person=people)
        def save(self, person: Person) -> None:
            if self._taken(person):
                with pytest.raises(AlreadyExists):
                    self.store.write(lambda tx: tx[People].save(person))
            else:
                self.store.write(lambda tx: tx[People].save(person))
                self.people[person.id] = person

        @rule(person=people, guard=comparisons())
        def save_if(self, person: Person, guard: Filter) -> None:
            where, holds = guard
            old = self.people.get(person.id)
            if old is None or not holds(old):
                assert not self.store.write(lambda tx: tx[People].save_if(person, where))
            elif not self._taken(person):
                assert self.store.write(lambda tx: tx[People].save_if(person, where))
                self.people[person.id] = person

        @rule(several=st.lists(people, min_size=1, max_size=3), gone=ids)
        def roll_back(self, several: list[Person], gone: str) -> None:
            def body(tx: Tx) -> None:
                for person in several:
                    tx[People].save(msgspec.structs.replace(person, email=None))
                tx[People].delete(gone)
                tx.append(Events, Event(at=NOW, kind="task:created", subject="task/1"))
                raise Boom

            with pytest.raises(Boom):
                self.store.write(body)

        @rule(number=st.integers(1, 3))
        def append(self, number: int) -> None:
            def body(tx: Tx) -> list[int]:
                event = Event(at=NOW, kind="task:created", subject="task/1")
                return [tx.append(Events, event).seq for _ in range(number)]

            assert self.store.write(body) == list(range(self.events + 1, self.events + number + 1))
            self.events += number

        @rule(key=ids)
        def delete(self, key: str) -> None:
            assert self.store.write(lambda tx: tx[People].delete(key)) is (self.people.pop(key, None) is not None)

        @rule(some=st.lists(filters(), min_size=1, max_size=2))
        def delete_where(self, some: list[Filter]) -> None:
            gone = [p.id for p in self.people.values() if all(holds(p) for _, holds in some)]
            assert self.store.write(lambda tx: tx[People].delete_where(*(w for w, _ in some))) == len(gone)
            for key in gone:
                del self.people[key]

        @rule(
            some=st.lists(filters(), max_size=2),
            column=st.sampled_from(sorted(FIELDS)),
            descending=st.booleans(),
            limit=st.none() | st.integers(0, 4),
            offset=st.integers(0, 2),
        )
        def find(self, some: list[Filter], column: str, descending: bool, limit: int | None, offset: int) -> None:
            where = [w for w, _ in some]
            found = sorted((p for p in self.people.values() if all(h(p) for _, h in some)), key=lambda p: p.id)
            found.sort(key=lambda p: _nulls_first(getattr(p, column)), reverse=descending)
            if descending:  # a stable sort keeps equals in the order of keys, which reversing does not
                found.sort(key=lambda p: p.id)
                found.sort(key=lambda p: _nulls_first(getattr(p, column)), reverse=True)
            col = getattr(People, column)
            order = (col.desc() if descending else col.asc(),)
            end = None if limit is None else offset + limit

            def body(tx: Tx) -> None:
                got = tx[People].find(*where, order_by=order, limit=limit, offset=offset)
                assert got == found[offset:end]
                assert tx[People].count(*where) == len(found)
                assert tx[People].total(People.score, *where) == math.fsum(p.score or 0.0 for p in found)
                by_both = Counter((p.email, p.rank) for p in found)
                assert tx[People].tally(People.email, People.rank, where=where) == by_both

            self.store.write(body)

        @invariant()
        def everything_is_there_in_the_order_of_the_table(self) -> None:
            wanted = sorted(self.people.values(), key=lambda p: (-p.rank, p.id))
            assert self.store.write(lambda tx: tx[People].find()) == wanted

    return Machine


def test_it_does_what_a_dict_does(maker: Maker) -> None:
    """W17."""
    run_state_machine_as_test(machine(maker), settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


# Single rules.


def test_a_reference_must_be_there(store: Store) -> None:
    with pytest.raises(BrokenReference):
        store.write(lambda tx: tx[Pets].add(Pet("nobody", "cat")))
    store.write(lambda tx: tx[People].add(Person("ann")))
    store.write(lambda tx: tx[Pets].add(Pet("ann", "cat")))
    with pytest.raises(BrokenReference):
        store.write(lambda tx: tx[People].delete("ann"))
    assert store.write(lambda tx: tx[Pets].get(("ann", "cat"))) == Pet("ann", "cat")


def test_a_reference_may_take_its_rows_along_or_be_unset(store: Store) -> None:
    def body(tx: Tx) -> list[Badge]:
        tx[People].add(Person("ann"))
        tx[Badges].add(Badge(1, "ann"))
        tx[Badges].add(Badge(2, None))
        tx[People].save(Person("ann", rank=1))
        assert tx[Badges].count() == 2
        tx[People].delete("ann")
        return tx[Badges].find()

    assert store.write(body) == [Badge(2, None)]


@pytest.mark.parametrize("after", [lambda tx: tx[People].find(), lambda tx: tx[Badges].delete(1), lambda tx: None])
def test_an_error_ends_the_transaction(store: Store, after: Callable[[Tx], object]) -> None:
    store.write(lambda tx: tx[People].add(Person("ann")))

    def body(tx: Tx) -> None:
        tx[People].add(Person("bob"))
        with pytest.raises(AlreadyExists):
            tx[People].add(Person("ann"))
        after(tx)

    with pytest.raises(StoreError):
        store.write(body)
    assert store.write(lambda tx: tx[People].find()) == [Person("ann")]


def test_a_part_that_is_refused_leaves_nothing_and_the_others_stay(store: Store) -> None:
    def part(name: str, refused: bool = False) -> Callable[[Tx], int]:
        def body(tx: Tx) -> int:
            tx[People].add(Person(name))
            seq = tx.append(Events, Event(at=NOW, kind="x", subject=name)).seq
            if refused:
                raise Conflict(name)
            return seq

        return body

    def body(tx: Tx) -> list[object]:
        part("a")(tx)
        answers = [tx.attempt(part(*each)) for each in (("b",), ("c", True), ("d",), ("e", True))]
        tx[People].add(Person("f"))
        assert [entry.subject for entry in tx.appended if isinstance(entry, Event)] == ["a", "b", "d"]
        return [answer if isinstance(answer, int) else type(answer) for answer in answers]

    assert store.write(body) == [2, Conflict, 3, Conflict]
    assert [p.id for p in store.write(lambda tx: tx[People].find())] == ["a", "b", "d", "f"]
    assert [e.subject for e in store.write(lambda tx: tx[Events].find())] == ["a", "b", "d"]


def test_an_error_of_the_store_in_a_part_ends_the_transaction(store: Store) -> None:
    def twice(tx: Tx) -> None:
        tx[People].add(Person("ann"))
        with pytest.raises(AlreadyExists):
            tx[People].add(Person("ann"))
        raise Conflict("and something else")

    with pytest.raises(Conflict):
        store.write(lambda tx: tx.attempt(twice))
    assert store.write(lambda tx: tx[People].find()) == []


def test_rows_are_there_as_they_are_stored(store: Store) -> None:
    for name, rank in (("ann", 1), ("bob", 2), ("cid", 3)):
        store.write(lambda tx: tx[People].add(Person(name, rank=rank)))
    newest = store.write(lambda tx: tx[People].stored(People.rank.lt(3), limit=1))
    assert newest == [People.row(Person("bob", rank=2))]
    assert [People.key_of(row) for row in newest] == [("bob",)]


def test_a_transaction_that_is_over_refuses_everything(store: Store) -> None:
    leaked = store.write(lambda tx: tx)
    with pytest.raises(StoreError, match="its body has returned"):
        leaked[People].find()


def test_globs_know_two_special_characters(store: Store) -> None:
    names = ["task:created", "task:[x]", "run:created", "task", "[", "a?"]

    def found(pattern: str) -> set[str]:
        return {p.id for p in store.write(lambda tx: tx[People].find(People.id.glob(pattern)))}

    for name in names:
        store.write(lambda tx: tx[People].add(Person(name)))
    assert found("task:*") == {"task:created", "task:[x]"}
    assert found("*:created") == {"task:created", "run:created"}
    assert found("[") == {"["}
    assert found("task:[x]") == {"task:[x]"}
    assert found("?") == {"["}
    assert found("task") == {"task"}


def test_text_is_ordered_by_code_points_and_null_comes_before_every_value(store: Store) -> None:
    """Rule 3 of table.py, whatever the database's own language."""
    names = ["10", "9", "B", "Z", "_", "a", "zz", "é", "\U0001f600"]
    for number, name in enumerate(names):
        store.write(lambda tx: tx[People].add(Person(name, score=float(number // 2) if number % 2 else None)))

    def found(order: Order[Person], *where: Where[Person]) -> list[str]:
        return [p.id for p in store.write(lambda tx: tx[People].find(*where, order_by=(order,)))]

    assert found(People.id.asc()) == names
    assert found(People.id.desc()) == names[::-1]
    assert found(People.id.asc(), People.id.gt("Z"), People.id.le("a")) == ["_", "a"]
    assert found(People.score.asc()) == [*names[::2], *names[1::2]]
    assert found(People.score.desc()) == [*names[1::2][::-1], *names[::2]]


def test_globs_know_no_special_character_of_the_database(store: Store) -> None:
    for name in ("50%", "50 percent", "a_b", "aXb", "c:\\d", "c:d", "A"):
        store.write(lambda tx: tx[People].add(Person(name)))

    def found(pattern: str) -> set[str]:
        return {p.id for p in store.write(lambda tx: tx[People].find(People.id.glob(pattern)))}

    assert found("50%") == {"50%"}
    assert found("a_b") == {"a_b"}
    assert found("c:\\d") == {"c:\\d"}
    assert found("c:\\*") == {"c:\\d"}
    assert found("a") == set(), "nor does it take one case for the other"


@pytest.mark.parametrize(
    "wrong",
    [
        Person("nul", email="a\0b"),
        Person("a\0b"),
        Person("large", rank=2**63),
        Person("small", rank=-(2**63) - 1),
        Person("infinite", score=math.inf),
        Person("nan", score=math.nan),
    ],
    ids=lambda person: repr(person.id),
)
def test_what_one_database_could_not_hold_is_refused_by_all(store: Store, wrong: Person) -> None:
    """Rule 2 of table.py."""
    for operation in (
        lambda tx: tx[People].add(wrong),
        lambda tx: tx[People].save(wrong),
        lambda tx: tx[People].find(
            People.id.eq(wrong.id),
            People.email.eq(wrong.email),
            People.rank.lt(wrong.rank),
            People.score.ge(wrong.score),
        ),
    ):
        with pytest.raises(ValueError, match=r"NUL|beyond 64 bits|not a finite number"):
            store.write(operation)
    assert store.write(lambda tx: tx[People].find()) == []


def test_the_utmost_values_come_back(store: Store) -> None:
    utmost = [
        Person("largest", rank=2**63 - 1, score=1.7976931348623157e308, notes=("a\0b",)),
        Person("smallest", rank=-(2**63), score=5e-324, notes=("\U0010ffff",)),
    ]
    for person in utmost:
        store.write(lambda tx: tx[People].add(person))
    assert store.write(lambda tx: tx[People].find()) == utmost
    assert [p.rank for p in store.write(lambda tx: tx[People].find(People.rank.eq(2**63 - 1)))] == [2**63 - 1]
    assert store.write(lambda tx: tx[People].stored()) == [People.row(person) for person in utmost]


def test_instants_of_any_zone_compare_as_instants(store: Store) -> None:
    east = timezone(timedelta(hours=9))
    store.write(lambda tx: tx[People].add(Person("ann", born=NOW.astimezone(east))))
    assert store.write(lambda tx: tx[People].count(People.born.eq(NOW))) == 1
    assert store.write(lambda tx: tx[People].count(People.born.lt(NOW + timedelta(microseconds=1)))) == 1
    with pytest.raises(ValueError, match="naive"):
        store.write(lambda tx: tx[People].add(Person("bob", born=datetime(2026, 1, 1))))  # noqa: DTZ001 - refused


@pytest.mark.parametrize("maker", LASTING.values(), ids=LASTING)
def test_what_was_written_is_there_after_opening_again(maker: Maker, tmp_path: Path) -> None:
    store = maker(tmp_path, ALL)
    task = Task(id="1", seq=1, status=TaskStatus.REVIEW, created_at=NOW, updated_at=NOW)
    store.write(lambda tx: tx[Tasks].add(task))
    store.close()
    again = maker(tmp_path, ALL)
    assert again.write(lambda tx: tx[Tasks].find()) == [task]
    again.close()
