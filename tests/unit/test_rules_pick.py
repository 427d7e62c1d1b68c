"""What runs next: no capacity is ever exceeded, nothing that could run is left, the order is priority and age."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from kit.samples import a_task

from polpod.model.agents import Busy, Queue
from polpod.model.tasks import Task
from polpod.rules.pick import Capacity, free_in_queue, pick

QUEUES = ("default", "builds", "tests", "unnamed")
AGENTS = ("fixer", "reviewer", "free")


@st.composite
def ready_tasks(draw: st.DrawFn) -> list[Task]:
    size = draw(st.integers(0, 12))
    seqs = draw(st.permutations(range(1, size + 1)))
    return [
        a_task(
            id=str(seq),
            seq=seq,
            queue=draw(st.sampled_from(QUEUES)),
            assigned_to=draw(st.none() | st.sampled_from(AGENTS)),
            priority=draw(st.integers(-2, 2)),
        )
        for seq in seqs
    ]


@st.composite
def capacities(draw: st.DrawFn) -> Capacity:
    slots, pauses = st.none() | st.integers(0, 4), st.booleans()
    named = {n: Queue(name=n, slots=draw(slots), paused=draw(pauses)) for n in QUEUES[:3]}
    agents = {n: draw(st.integers(1, 3)) for n in AGENTS[:2]}
    return Capacity(draw(st.integers(0, 8)), named, agents)


def counts(names: tuple[str, ...]) -> st.SearchStrategy[Mapping[str, int]]:
    return st.dictionaries(st.sampled_from(names), st.integers(0, 3))


BUSY = st.builds(Busy, counts(QUEUES), counts(AGENTS))


def key(task: Task) -> tuple[int, int]:
    return -task.priority, task.seq


def after(picked: list[Task], busy: Busy) -> Busy:
    """What is taken once these have started."""
    return Busy(
        Counter(busy.queues) + Counter(t.queue for t in picked),
        Counter(busy.agents) + Counter(t.assigned_to for t in picked if t.assigned_to is not None),
    )


def may_start(task: Task, capacity: Capacity, busy: Busy) -> bool:
    """The rule for one task, said anew."""
    queue = capacity.queues.get(task.queue, Queue(name=task.queue))
    limit = capacity.agents.get(task.assigned_to or "", capacity.total)
    return (
        busy.total < capacity.total
        and not queue.paused
        and (queue.slots is None or busy.queues.get(task.queue, 0) < queue.slots)
        and (task.assigned_to is None or busy.agents.get(task.assigned_to, 0) < limit)
    )


@given(ready_tasks(), capacities(), BUSY)
def test_no_capacity_is_exceeded(ready: list[Task], capacity: Capacity, busy: Busy) -> None:
    picked = pick(ready, capacity, busy)
    taken = after(picked, busy)
    if picked:
        assert taken.total <= capacity.total
    for name in {t.queue for t in picked} & set(capacity.queues):
        queue = capacity.queues[name]
        assert not queue.paused
        assert queue.slots is None or taken.queues[name] <= queue.slots
    for name in {t.assigned_to for t in picked if t.assigned_to is not None}:
        assert taken.agents[name] <= capacity.agents.get(name, capacity.total)


@given(ready_tasks(), capacities(), BUSY)
def test_the_order_is_priority_then_age_and_nothing_is_picked_twice(
    ready: list[Task], capacity: Capacity, busy: Busy
) -> None:
    picked = pick(ready, capacity, busy)
    assert picked == sorted(picked, key=key)
    assert len({t.id for t in picked}) == len(picked)
    assert {t.id for t in picked} <= {t.id for t in ready}


@given(ready_tasks(), capacities(), BUSY)
def test_nothing_that_could_start_is_left(ready: list[Task], capacity: Capacity, busy: Busy) -> None:
    picked = pick(ready, capacity, busy)
    taken = after(picked, busy)
    assert [t.id for t in ready if t not in picked and may_start(t, capacity, taken)] == []


@given(ready_tasks(), capacities(), BUSY)
def test_nobody_is_overtaken_by_who_comes_after(ready: list[Task], capacity: Capacity, busy: Busy) -> None:
    """Whoever was left out could not start even with only those before it started."""
    picked = pick(ready, capacity, busy)
    for left in (t for t in ready if t not in picked):
        before = [t for t in picked if key(t) < key(left)]
        assert not may_start(left, capacity, after(before, busy))


@given(ready_tasks(), capacities(), BUSY, st.randoms())
def test_the_order_in_which_they_are_given_does_not_matter(
    ready: list[Task], capacity: Capacity, busy: Busy, random: Random
) -> None:
    shuffled = list(ready)
    random.shuffle(shuffled)
    assert pick(shuffled, capacity, busy) == pick(ready, capacity, busy)


def test_a_full_queue_does_not_hold_up_another() -> None:
    first = a_task(id="1", seq=1, queue="builds", priority=9)
    second = a_task(id="2", seq=2, queue="builds", priority=9)
    other = a_task(id="3", seq=3, queue="tests")
    capacity = Capacity(4, {"builds": Queue(name="builds", slots=1)}, {})
    assert pick([other, second, first], capacity, Busy({}, {})) == [first, other]


def test_a_busy_agent_does_not_hold_up_another() -> None:
    tasks = [a_task(id=str(n), seq=n, assigned_to=name) for n, name in enumerate(("fixer", "fixer", "free"))]
    assert pick(tasks, Capacity(4, {}, {"fixer": 1}), Busy({}, {})) == [tasks[0], tasks[2]]


def test_slots_of_a_queue() -> None:
    named = {
        "zero": Queue(name="zero", slots=0),
        "off": Queue(name="off", slots=3, paused=True),
        "two": Queue(name="two", slots=2),
    }
    capacity, busy = Capacity(4, named, {}), Busy({"two": 1}, {})
    assert {n: free_in_queue(n, capacity, busy) for n in (*named, "any")} == {"zero": 0, "off": 0, "two": 1, "any": 3}


def test_more_than_all_slots_taken_is_no_free_slot() -> None:
    assert free_in_queue("any", Capacity(2, {}, {}), Busy({"any": 5}, {})) == 0
    assert free_in_queue("q", Capacity(9, {"q": Queue(name="q", slots=1)}, {}), Busy({"q": 5}, {})) == 0
