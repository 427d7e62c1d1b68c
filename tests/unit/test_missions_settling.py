"""Executions on a real store, with a scheduler that is played: random graphs, barriers, failures, retries and edits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polpod.config import Config
from polpod.contracts.taskstore.missions import save_mission
from polpod.errors import Conflict, InvalidTransition, NotFound, RequestError
from polpod.model.executions import ENDED, Barrier, BarrierState, Execution, ExecutionStatus
from polpod.model.polpo.missions import Mission, MissionStatus
from polpod.model.submissions import Edit
from polpod.model.tasks import FINISHED, Task, TaskStatus
from polpod.rules.graphs import waits
from polpod.rules.tasks import unsafe_set_status, walk
from polpod.services import operations
from polpod.services.instance import now
from polpod.services.missions import control
from polpod.services.missions.executing import execute, require_mission
from polpod.services.missions.planning import checked, plan
from polpod.services.missions.settling import settle
from polpod.store import changes, missions, queries
from polpod.store.databases import TASKS
from polpod.store.group import GroupCommit, open_store
from polpod.store.location import Memory
from polpod.store.missions import Barriers, BarrierTasks, Documents, Executions, UnsettledTasks
from polpod.store.polpo import Missions
from polpod.store.records import Tx
from polpod.store.tables import Dependencies, Events, Tasks

S, X = TaskStatus, ExecutionStatus
T = TypeVar("T")
CONFIG = Config()
BOUND = 2000
"""Steps that no mission of these needs."""


class Play:
    """A store, and who carries out what is ready on it, one task at a time."""

    def __init__(self, group: GroupCommit[Tx]) -> None:
        self.group = group
        self.done: Counter[str] = Counter()
        """How often each task, by its title, was decided for good."""
        self.meddled = False
        """Whether single tasks were tried again."""

    def do(self, body: Callable[[Tx], T]) -> T:
        return self.group.write(body)

    def begin(self, document: dict[str, Any], name: str = "m", **fields: Any) -> Execution:
        text = json.dumps(document)

        def body(tx: Tx) -> Execution:
            mission = save_mission(tx, name=name, data=text, **fields)
            return _execute(tx, mission)

        return self.do(body)

    def again(self, name: str = "m") -> Execution:
        return self.do(lambda tx: _execute(tx, require_mission(tx, name)))

    def ready(self) -> list[Task]:
        return self.do(lambda tx: queries.ready(tx, "default", 1000, missions.idle(tx)))

    def finish(self, task: Task, status: S) -> None:
        path = (S.REVIEW, S.DONE) if status is S.DONE else (status,)
        self.do(lambda tx: changes.apply(tx, walk(_now(tx, task), now(), S.ASSIGNED, S.IN_PROGRESS, *path)))
        self.done[task.title] += 1

    def settle(self) -> None:
        for _ in range(BOUND):
            if not self.do(lambda tx: tx[UnsettledTasks].count()):
                return
            self.do(lambda tx: settle(tx, now()))
        raise AssertionError("it is never settled")

    def run(self, outcome: Callable[[Task], S], *, resume: bool = True) -> None:
        """Until nothing goes on by itself."""
        for _ in range(BOUND):
            self.settle()
            self.check()
            if ready := self.ready():
                self.finish(ready[0], outcome(ready[0]))
            elif not (resume and self._resumed()):
                return
        raise AssertionError("it goes on for ever")

    def _resumed(self) -> bool:
        """Whether there was a checkpoint to resume, or a delay to wait for: the clock is of no interest here."""
        held = self.do(lambda tx: [b for b in tx[Barriers].find() if b.state is BarrierState.HOLDING])
        going = {x.id for x in self.do(lambda tx: tx[Executions].find()) if x.status not in ENDED}
        held = [barrier for barrier in held if barrier.execution_id in going]
        for barrier in held:
            name = barrier.execution_id.rpartition(".")[0]
            self.do(
                lambda tx, name=name, held=barrier.name: control.resume(  # type: ignore[misc]
                    tx, require_mission(tx, name), now(), "a test", barrier=held
                )
            )
        return bool(held)

    def check(self) -> None:
        """What holds when all is settled."""
        self.check_edges()

        def body(tx: Tx) -> None:
            tasks = {task.id: task for task in tx[Tasks].find()}
            waiting: Counter[str] = Counter()
            for before in tx[BarrierTasks].find():
                assert before.over is (before.task_id not in tasks or tasks[before.task_id].finished)
                waiting[before.barrier_id] += not before.over
            assert all(barrier.remaining == waiting[barrier.id] for barrier in tx[Barriers].find())
            for execution in tx[Executions].find():
                of_it = [task for task in tasks.values() if task.execution_id == execution.id]
                over = all(task.finished for task in of_it)
                ended = execution.finished_at is not None
                # One that has ended stays so, though somebody tries a task of it again.
                assert over is ended or (ended and self.meddled), execution

        self.do(body)

    def check_edges(self) -> None:
        """What holds after each step."""

        def body(tx: Tx) -> None:
            tasks = {task.id: task for task in tx[Tasks].find()}
            barriers = {barrier.id: barrier for barrier in tx[Barriers].find()}
            unmet: Counter[str] = Counter()
            for edge in tx[Dependencies].find():
                if edge.barrier:
                    met = barriers[edge.on_id].state is BarrierState.OPEN
                else:
                    met = tasks[edge.on_id].status is S.DONE
                assert edge.met is met, edge
                unmet[edge.task_id] += not met
            assert all(bool(task.unmet) is bool(unmet[task.id]) for task in tasks.values())

        self.do(body)

    def execution(self, execution: Execution) -> Execution:
        found = self.do(lambda tx: tx[Executions].get(execution.id))
        assert found is not None
        return found

    def mission(self, name: str = "m") -> Mission:
        return self.do(lambda tx: require_mission(tx, name))

    def tasks(self, execution: Execution) -> dict[str, Task]:
        return self.do(lambda tx: {t.title: t for t in tx[Tasks].find(Tasks.execution_id.eq(execution.id))})

    def barriers(self) -> dict[str, Barrier]:
        return self.do(lambda tx: {barrier.name: barrier for barrier in tx[Barriers].find()})

    def kinds(self) -> list[str]:
        return self.do(lambda tx: [event.kind for event in tx[Events].find()])


def _execute(tx: Tx, mission: Mission) -> Execution:
    document = checked(mission.data)
    return execute(tx, mission, document, plan(document, {}, CONFIG, "/"), CONFIG, 0, now(), "a test")


def _now(tx: Tx, task: Task) -> Task:
    found = tx[Tasks].get(task.id)
    assert found is not None
    return found


@pytest.fixture
def play() -> Iterator[Play]:
    with closing(open_store(Memory(), TASKS)) as group:
        yield Play(group)


def graph(*tasks: str, **parts: Any) -> dict[str, Any]:
    """Tasks as `c: a b`: c depends on a and b."""
    said = [text.partition(":") for text in tasks]
    return {
        "tasks": [{"title": t.strip(), "command": ["true"], "dependsOn": on.split()} for t, _, on in said],
        **parts,
    }


def barrier(name: str, after: str, blocks: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "afterTasks": after.split(), "blocksTasks": blocks.split()} | more


def done(task: Task) -> S:
    return S.DONE


def failing(*titles: str) -> Callable[[Task], S]:
    return lambda task: S.FAILED if task.title in titles else S.DONE


def test_a_diamond_is_carried_out_in_order(play: Play) -> None:
    """§13.161, §13.163, §13.167."""
    execution = play.begin(graph("d: b c", "b: a", "c: a", "a"))
    assert (execution.id, execution.group, play.mission().status) == ("1.1", "m", MissionStatus.ACTIVE)
    assert [task.title for task in play.ready()] == ["a"]
    play.run(done)
    ended = play.execution(execution)
    assert (ended.status, play.mission().status) == (X.COMPLETED, MissionStatus.COMPLETED)
    assert ended.report is not None
    assert ended.report["by_status"] == {"done": 4}
    assert play.kinds().count("mission:completed") == 1
    assert play.done == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_what_waits_for_what_failed_fails_when_nothing_else_goes_on(play: Play) -> None:
    """§13.134, §13.169: a deadlock is judged of one mission alone (W31).  §13.170."""
    other = play.begin(graph("x: w", "w"), name="other")
    execution = play.begin(graph("a", "b: a", "c: b", "z"))
    play.finish(play.tasks(execution)["a"], S.FAILED)
    play.settle()
    assert play.tasks(execution)["b"].status is S.PENDING  # z goes on
    play.finish(play.tasks(execution)["z"], S.DONE)
    play.settle()
    assert {t.title: t.status for t in play.tasks(execution).values()} == {
        "a": S.FAILED, "b": S.FAILED, "c": S.FAILED, "z": S.DONE,
    }  # fmt: skip
    assert play.execution(execution).status is X.FAILED
    assert play.kinds().count("orchestrator:deadlock") == 1
    assert {t.status for t in play.tasks(other).values()} == {S.PENDING}
    assert play.execution(other).status is X.ACTIVE


def test_a_mission_may_wait_in_a_deadlock_for_a_person(play: Play) -> None:
    execution = play.begin(graph("a", "b: a", onDeadlock="wait"))
    play.run(failing("a"))
    assert (play.execution(execution).status, play.tasks(execution)["b"].status) == (X.ACTIVE, S.PENDING)
    play.do(lambda tx: operations.retry(tx, _now(tx, play_task(tx, execution, "a")), now(), "a test"))
    play.run(done)
    assert play.execution(execution).status is X.COMPLETED


def play_task(tx: Tx, execution: Execution, title: str) -> Task:
    (task,) = [t for t in tx[Tasks].find(Tasks.execution_id.eq(execution.id)) if t.title == title]
    return task


def test_a_checkpoint_pauses_the_mission_until_a_person_resumes_it(play: Play) -> None:
    """§13.173 to §13.179, W32: it is rows.  §13.165."""
    execution = play.begin(graph("a", "b: a", "c", checkpoints=[barrier("look", "a", "b")]))
    play.finish(play.tasks(execution)["a"], S.DONE)
    play.settle()
    assert play.execution(execution).status is X.PAUSED
    assert play.mission().status is MissionStatus.PAUSED
    assert play.ready() == []  # c, too: the whole mission is paused
    play.settle()
    assert play.kinds().count("checkpoint:reached") == 1
    resumed = play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test"))
    assert resumed.opened == ["look"]
    assert [task.title for task in play.ready()] == ["b", "c"]
    play.run(done)
    assert play.execution(execution).status is X.COMPLETED
    assert play.kinds().count("checkpoint:reached") == play.kinds().count("checkpoint:resumed") == 1


def test_checkpoints_one_after_the_other_are_each_resumed(play: Play) -> None:
    """§13.180: and the mission is paused at each; §13.174: what a checkpoint does not name goes on before it is reached."""
    one, two = barrier("one", "a", "b"), barrier("two", "b", "c")
    execution = play.begin(graph("a", "b", "c", "free", checkpoints=[one, two]))
    assert [task.title for task in play.ready()] == ["a", "free"]
    for title, name in (("a", "one"), ("b", "two")):
        play.finish(play.tasks(execution)[title], S.DONE)
        play.settle()
        assert play.execution(execution).reason == f"checkpoint {name} was reached"
        resumed = play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test"))
        assert (resumed.opened, play.execution(execution).status) == ([name], X.ACTIVE)
    play.run(done, resume=False)
    assert (play.execution(execution).status, play.done) == (X.COMPLETED, dict.fromkeys(["a", "b", "c", "free"], 1))


def test_what_is_not_reached_cannot_be_let_through(play: Play) -> None:
    """§13.178."""
    play.begin(graph("a", "b: a", checkpoints=[barrier("look", "a", "b")]))
    with pytest.raises(Conflict, match="was not reached yet: 1 tasks"):
        play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test", barrier="look"))
    with pytest.raises(NotFound, match=r"no gate, checkpoint or delay 'x' .it has: look"):
        play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test", barrier="x"))


def test_a_gate_that_does_not_open_is_no_deadlock_and_opens_when_what_failed_is_done(play: Play) -> None:
    """§13.184, §13.186, W31 (P14b).  §13.187."""
    gate = barrier("all", "a b", "c", requireAllPassed=True)
    execution = play.begin(graph("a", "b", "c", qualityGates=[gate]))
    play.run(failing("b"), resume=False)
    assert play.barriers()["all"].reason == "not all passed: b (failed)"
    assert (play.execution(execution).status, play.tasks(execution)["c"].status) == (X.ACTIVE, S.PENDING)
    play.do(lambda tx: operations.retry(tx, play_task(tx, execution, "b"), now(), "a test"))
    play.run(done, resume=False)
    assert play.barriers()["all"].state is BarrierState.OPEN
    assert play.execution(execution).status is X.COMPLETED
    assert play.kinds().count("quality:gate:failed") == play.kinds().count("quality:gate:passed") == 1


def test_a_delay_opens_when_it_is_over(play: Play) -> None:
    execution = play.begin(graph("a", "b", delays=[barrier("later", "a", "b", duration="PT1H")]))
    play.finish(play.tasks(execution)["a"], S.DONE)
    play.settle()
    assert play.barriers()["later"].state is BarrierState.HOLDING
    play.do(lambda tx: settle(tx, now() + timedelta(minutes=59)))
    assert play.barriers()["later"].state is BarrierState.HOLDING
    play.do(lambda tx: settle(tx, now() + timedelta(minutes=61)))
    assert [task.title for task in play.ready()] == ["b"]
    assert [k for k in play.kinds() if k.startswith("delay:")] == ["delay:started", "delay:expired"]


def test_every_execution_is_its_own(play: Play) -> None:
    """W35 (P40): run #2 does not touch the tasks of run #1.  §13.162, §13.165."""
    first = play.begin(graph("a", "b: a"))
    with pytest.raises(Conflict, match=r"execution 1.1 is active"):
        play.again()
    play.run(failing("a"))
    second = play.again()
    assert (second.id, second.group) == ("1.2", "m #2")
    play.run(failing("a"))
    before = play.tasks(first)
    play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test", retry_failed=True))
    play.run(done)
    assert play.tasks(first) == before
    assert (play.execution(first).status, play.execution(second).status) == (X.FAILED, X.COMPLETED)
    assert play.mission().status is MissionStatus.COMPLETED


def test_an_aborted_one_ends_with_everything_of_it_cancelled(play: Play) -> None:
    """§13.130."""
    execution = play.begin(graph("a", "b: a", "c"))
    play.finish(play.tasks(execution)["a"], S.DONE)
    runs = play.do(lambda tx: control.abort(tx, require_mission(tx, "m"), now(), "a test"))
    assert (runs, play.ready()) == ([], [])
    play.settle()
    assert {t.title: t.status for t in play.tasks(execution).values()} == {
        "a": S.DONE, "b": S.CANCELLED, "c": S.CANCELLED,
    }  # fmt: skip
    assert (play.execution(execution).status, play.mission().status) == (X.CANCELLED, MissionStatus.CANCELLED)
    with pytest.raises(InvalidTransition):
        play.do(lambda tx: control.pause(tx, require_mission(tx, "m"), now(), "a test"))


def test_a_mission_that_goes_on_is_not_deleted_and_one_that_does_not_takes_all_along(play: Play) -> None:
    play.begin(graph("a", "b: a", checkpoints=[barrier("look", "a", "b")]))
    with pytest.raises(Conflict, match="polpoctl mission abort m"):
        play.do(lambda tx: control.delete(tx, require_mission(tx, "m"), now(), "a test"))
    play.run(done)
    assert play.do(lambda tx: control.delete(tx, require_mission(tx, "m"), now(), "a test")) == 2
    for table in (Missions, Executions, Documents, Barriers, BarrierTasks, Tasks, Dependencies):
        assert play.do(lambda tx, table=table: tx[table].count()) == 0  # type: ignore[misc]
    play.settle()


def test_a_task_that_is_removed_holds_up_no_barrier(play: Play) -> None:
    execution = play.begin(graph("a", "b", checkpoints=[barrier("look", "a", "b")]))
    play.do(lambda tx: changes.remove(tx, [play_task(tx, execution, "a")], now(), "a test"))
    (told,) = play.do(lambda tx: [event for event in tx[Events].find() if event.kind == "task:removed"])
    assert told.body["execution_id"] == execution.id  # which wakes who settles missions (services/journal.py)
    play.settle()
    assert play.barriers()["look"].state is BarrierState.HOLDING


def test_an_edit_of_dependencies_leaves_barriers_alone(play: Play) -> None:
    execution = play.begin(graph("a", "b: a", "c", checkpoints=[barrier("look", "a", "b")]))
    other = play.tasks(execution)["c"].id
    wanted = Edit(id=play.tasks(execution)["b"].id, depends_on=(other,))
    play.do(lambda tx: operations.edit(tx, wanted, CONFIG, "a test"))
    assert play.tasks(execution)["b"].unmet == 2
    play.run(done)
    assert play.execution(execution).status is X.COMPLETED


def test_ten_thousand_beside_each_other_are_decided_once_each(play: Play) -> None:
    """Behind one task, before one gate and before one task: all over at once, and each once."""
    wide = [f"t{n}" for n in range(10_000)]
    gate = barrier("all", " ".join(wide), "last", requireAllPassed=True)
    execution = play.begin(
        graph("first", *(f"{t}: first" for t in wide), f"last: {' '.join(wide)}", qualityGates=[gate])
    )
    play.finish(play.ready()[0], S.DONE)
    play.settle()
    ready = play.do(lambda tx: queries.ready(tx, "default", 20_000))
    assert [task.title for task in ready] == wide

    def all_of_them(tx: Tx) -> None:
        for task in ready:
            changes.apply(tx, walk(task, now(), S.ASSIGNED, S.IN_PROGRESS, S.REVIEW, S.DONE))

    play.do(all_of_them)
    assert play.do(lambda tx: tx[UnsettledTasks].count()) == 10_000
    play.settle()
    play.finish(play.ready()[0], S.DONE)
    play.settle()
    ended = play.execution(execution)
    assert (ended.status, ended.report and ended.report["by_status"]) == (X.COMPLETED, {"done": 10_002})
    over = Counter(e.subject for e in play.do(lambda tx: tx[Events].find()) if e.body.get("to") == "done")
    assert set(over.values()) == {1}
    assert [play.kinds().count(kind) for kind in ("quality:gate:passed", "mission:completed")] == [1, 1]
    play.check()


def test_a_failed_execution_whose_tasks_were_tried_one_by_one_is_judged_anew(play: Play) -> None:
    """Nothing of it moves when it is resumed, and yet it has to come to an end: it could not be deleted else."""
    execution = play.begin(graph("a", "b"))
    play.do(lambda tx: operations.cancel(tx, play_task(tx, execution, "b"), now(), "a test"))
    play.run(done)
    assert play.execution(execution).status is X.FAILED
    resumed = play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test", retry_failed=True))
    play.settle()
    assert (resumed.retried, play.execution(execution).status) == ([], X.FAILED)
    play.do(lambda tx: operations.retry(tx, play_task(tx, execution, "b"), now(), "a test"))
    play.finish(play.ready()[0], S.DONE)
    play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test", retry_failed=True))
    play.settle()
    assert (play.execution(execution).status, play.mission().status) == (X.COMPLETED, MissionStatus.COMPLETED)
    assert play.do(lambda tx: control.delete(tx, require_mission(tx, "m"), now(), "a test")) == 2


def test_a_mission_is_not_deleted_while_a_task_of_an_old_execution_runs(play: Play) -> None:
    """Its run would go on with no task, and its outcome be nobody's."""
    execution = play.begin(graph("a"))
    play.run(failing("a"))
    play.do(lambda tx: operations.retry(tx, play_task(tx, execution, "a"), now(), "a test"))
    play.do(lambda tx: changes.apply(tx, walk(play_task(tx, execution, "a"), now(), S.ASSIGNED, S.IN_PROGRESS)))
    with pytest.raises(Conflict, match="has a live run"):
        play.do(lambda tx: control.delete(tx, require_mission(tx, "m"), now(), "a test"))


def test_no_task_of_a_mission_waits_for_one_outside_of_it(play: Play) -> None:
    """Invariant 12; and it was taken for a deadlock."""
    other = play.tasks(play.begin(graph("x"), name="other"))["x"].id
    execution = play.begin(graph("a", "b: a"))
    wanted = Edit(id=play.tasks(execution)["b"].id, depends_on=(other,))
    with pytest.raises(Conflict, match=f"task 3 cannot depend on {other}: that is none of execution 2.1"):
        play.do(lambda tx: operations.edit(tx, wanted, CONFIG, "a test"))


def test_an_edit_makes_no_cycle_through_a_barrier(play: Play) -> None:
    """It was taken for a deadlock, too: nothing of it could ever go on."""
    execution = play.begin(graph("a", "b", "c: b", checkpoints=[barrier("look", "a", "b")]))
    ids = {title: task.id for title, task in play.tasks(execution).items()}
    with pytest.raises(Conflict, match=f"task {ids['a']} cannot depend on {ids['c']}, which waits for it"):
        play.do(lambda tx: operations.edit(tx, Edit(id=ids["a"], depends_on=(ids["c"],)), CONFIG, "a test"))
    play.run(done)
    assert play.execution(execution).status is X.COMPLETED


def test_a_gate_looks_again_when_what_it_missed_is_gone(play: Play) -> None:
    gate = barrier("all", "a b", "c", requireAllPassed=True)
    execution = play.begin(graph("a", "b", "c", qualityGates=[gate]))
    play.run(failing("b"), resume=False)
    assert play.barriers()["all"].state is BarrierState.HOLDING
    play.do(lambda tx: operations.remove(tx, play_task(tx, execution, "b"), now(), "a test"))
    play.run(done, resume=False)
    assert play.execution(execution).status is X.COMPLETED


def test_a_deadlock_that_is_over_is_no_reason_any_more(play: Play) -> None:
    execution = play.begin(graph("a", "b: a", onDeadlock="wait"))
    play.run(failing("a"))
    assert play.execution(execution).reason == "what it waits for failed for good"
    for _ in range(2):
        play.do(lambda tx: operations.retry(tx, play_task(tx, execution, "a"), now(), "a test"))
        play.settle()
        assert play.execution(execution).reason is None
        play.run(failing("a"))
    assert play.kinds().count("orchestrator:deadlock") == 3


def test_the_end_of_a_mission_does_not_wait_behind_a_barrier_that_is_open(play: Play) -> None:
    """What the checkpoint held back was cancelled: opening it lets nothing go on, and what is left is a deadlock."""
    execution = play.begin(graph("a", "b", "c: b", checkpoints=[barrier("look", "a", "b")]))
    play.finish(play.tasks(execution)["a"], S.DONE)
    play.do(lambda tx: operations.cancel(tx, play_task(tx, execution, "b"), now(), "a test"))
    play.settle()
    assert play.execution(execution).status is X.PAUSED
    play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test"))
    play.settle()
    assert (play.execution(execution).status, play.tasks(execution)["c"].status) == (X.FAILED, S.FAILED)


def test_nobody_is_told_of_the_barriers_of_an_aborted_mission(play: Play) -> None:
    later = barrier("later", "a", "b", duration="PT1H")
    play.begin(graph("a", "b", "c", "d: c", delays=[later], checkpoints=[barrier("look", "c", "d")]))
    play.finish(play.ready()[0], S.DONE)
    play.settle()
    play.do(lambda tx: control.abort(tx, require_mission(tx, "m"), now(), "a test"))
    play.settle()
    play.do(lambda tx: settle(tx, now() + timedelta(hours=2)))
    told = [kind for kind in play.kinds() if kind.startswith(("delay:", "checkpoint:"))]
    assert told == ["delay:started"]


names = [f"t{n}" for n in range(6)]
two_names = st.sets(st.sampled_from(names), min_size=2, max_size=2).map(sorted)
random_documents = st.builds(
    lambda ons, marks, wait: graph(
        *(f"{name}: {' '.join(sorted(on))}" for name, on in reversed([*zip(names, ons, strict=True)])),
        checkpoints=[barrier(f"c{n}", a, b) for n, (kind, (a, b)) in enumerate(marks) if kind == "c"],
        qualityGates=[barrier(f"g{n}", a, b, requireAllPassed=True) for n, (kind, (a, b)) in enumerate(marks) if kind == "g"],
        delays=[barrier(f"d{n}", a, b, duration="PT0S") for n, (kind, (a, b)) in enumerate(marks) if kind == "d"],
        onDeadlock=wait,
    ),
    st.tuples(*(st.sets(st.sampled_from(names[:n]), max_size=2) if n else st.just(set()) for n in range(len(names)))),
    st.lists(st.tuples(st.sampled_from("cgd"), two_names), max_size=3),
    st.sampled_from(["fail", "wait"]),
)  # fmt: skip
"""Each task after some of those named before it, so that there are no cycles; and barriers between them."""


@settings(max_examples=30, deadline=None)
@given(random_documents, st.data())
def test_any_graph_comes_to_its_end_with_each_task_decided_once(document: dict[str, Any], data: st.DataObject) -> None:
    """F76 of missions: whatever is done to it meanwhile, and however often a task is tried.  §13.165, §13.171."""
    made = checked(json.dumps(document))
    with closing(open_store(Memory(), TASKS)) as group:
        play = Play(group)
        execution = play.begin(document)
        bad = data.draw(st.sets(st.sampled_from(names)), label="fail at first")
        play.run(failing(*bad))
        doomed = {title for title in names if title in bad or reaches(waits(made), title, bad)}
        ended = play.execution(execution)
        assert all(number == 1 for number in play.done.values())
        if ended.status is X.ACTIVE:  # what is left waits for a person
            assert document["onDeadlock"] == "wait"
            assert doomed
        else:
            assert ended.status is (X.FAILED if doomed else X.COMPLETED)
        for task in play.tasks(execution).values():
            if task.status is S.DONE:
                assert task.title not in bad
        if doomed:
            play.do(lambda tx: control.resume(tx, require_mission(tx, "m"), now(), "a test", retry_failed=True))
            play.run(done)
            assert play.execution(execution).status is X.COMPLETED
        assert all(task.status in FINISHED for task in play.tasks(execution).values())
        assert all(number <= 2 for number in play.done.values())


class Meddler:
    """Does to a running mission whatever can be done to it, at any moment; what it may not, it is told."""

    OPERATIONS = (
        "finish", "fail", "start", "settle", "retry", "cancel", "reopen", "rewire", "remove", "hold", "release",
        "pause", "resume", "let through", "abort",
    )  # fmt: skip

    def __init__(self, play: Play, execution: Execution) -> None:
        self.play = play
        self.execution = execution
        self.ended = False
        self.ends = 0
        play.meddled = True

    def look(self) -> None:
        """Count how often it came to an end."""
        before, self.ended = self.ended, self.play.execution(self.execution).status in ENDED
        self.ends += self.ended and not before

    def act(self, what: str, title: str, others: set[str]) -> None:
        with suppress(RequestError):
            match what:
                case "settle":
                    self.play.do(lambda tx: settle(tx, now()))
                case "pause":
                    self._on_mission(control.pause)
                case "resume":
                    self._on_mission(partial(control.resume, retry_failed=True))
                case "let through":
                    held = [b.name for b in self.play.barriers().values() if b.state is BarrierState.HOLDING]
                    if held:
                        self._on_mission(partial(control.resume, barrier=held[0]))
                case "abort":
                    self._on_mission(control.abort)
                case _:
                    self._on_task(what, title, others)

    def _on_mission(self, operation: Callable[..., object]) -> None:
        self.play.do(lambda tx: operation(tx, require_mission(tx, "m"), now(), "a test"))

    def _on_task(self, what: str, title: str, others: set[str]) -> None:
        tasks = self.play.tasks(self.execution)
        if (task := tasks.get(title)) is None:
            return
        match what:
            case "start" if task.id in {one.id for one in self.play.ready()}:
                self.play.do(lambda tx: changes.apply(tx, walk(_now(tx, task), now(), S.ASSIGNED, S.IN_PROGRESS)))
            case "finish" | "fail" if task.status is S.IN_PROGRESS:
                path = (S.REVIEW, S.DONE) if what == "finish" else (S.FAILED,)
                path = (S.CANCELLED,) if task.cancelled_by is not None else path
                self.play.do(lambda tx: changes.apply(tx, walk(_now(tx, task), now(), *path)))
                self.play.done[task.title] += 1
            case "reopen" if task.status is S.DONE:
                self.play.do(partial(self._reopen, task=task))
            case "rewire":
                on = tuple(tasks[other].id for other in sorted(others) if other in tasks)
                self.play.do(lambda tx: operations.edit(tx, Edit(id=task.id, depends_on=on), CONFIG, "a test"))
            case "retry" | "cancel" | "remove" | "hold" | "release":
                operation = getattr(operations, what)
                self.play.do(lambda tx: operation(tx, _now(tx, task), now(), "a test"))

    @staticmethod
    def _reopen(tx: Tx, task: Task) -> None:
        """As services/operations.py reassess does of a task with checks."""
        changes.undo_done(tx, task.id, now())
        changes.apply(tx, unsafe_set_status(_now(tx, task), S.REVIEW, "a test", now()))
        changes.apply(tx, walk(_now(tx, task), now(), S.DONE))


@settings(max_examples=40, deadline=None)
@given(
    random_documents,
    st.lists(
        st.tuples(
            st.sampled_from([*Meddler.OPERATIONS, *["start", "finish"] * 4]),
            st.sampled_from(names),
            st.sets(st.sampled_from(names), max_size=3),
        ),
        min_size=10,
        max_size=40,
    ),
)
def test_whatever_is_done_to_a_running_mission_it_comes_to_its_end(
    document: dict[str, Any], acts: list[tuple[str, str, set[str]]]
) -> None:
    """W35, invariant 12: tried again, reopened, cancelled, edited, held, removed, paused, aborted, in any order."""
    with closing(open_store(Memory(), TASKS)) as group:
        play = Play(group)
        execution = play.begin(document)
        meddler = Meddler(play, execution)
        for what, title, others in [*acts, *(("finish", name, set()) for name in names), ("resume", "", set())]:
            before = play.tasks(execution)
            meddler.act(what, title, others)
            for task in play.tasks(execution).values():  # nothing starts before what it waits for
                if task.status is S.IN_PROGRESS and before[task.title].status is S.PENDING:
                    assert not before[task.title].unmet
            play.check_edges()
            meddler.look()
        for name in names:
            meddler.act("release", name, set())
        play.run(done)
        if play.execution(execution).status is X.ACTIVE:  # a deadlock that waits for a person
            assert document["onDeadlock"] == "wait"
            meddler.act("abort", "", set())
            play.run(done)
        meddler.look()
        assert meddler.ended
        assert all(task.finished or task.unmet for task in play.tasks(execution).values())
        assert play.kinds().count("mission:completed") == meddler.ends
        play.do(lambda tx: control.delete(tx, require_mission(tx, "m"), now(), "a test"))
        play.settle()
        for table in (Missions, Executions, Documents, Barriers, BarrierTasks, Tasks, Dependencies):
            assert play.do(lambda tx, table=table: tx[table].count()) == 0  # type: ignore[misc]


def reaches(waits: dict[tuple[str, str], list[tuple[str, str]]], title: str, goals: set[str]) -> bool:
    """Whether the task waits for one of the goals, through whatever."""
    seen, todo = set[tuple[str, str]](), list(waits["task", title])
    while todo:
        node = todo.pop()
        if node[0] == "task" and node[1] in goals:
            return True
        if node not in seen:
            seen.add(node)
            todo += waits[node]
    return False
