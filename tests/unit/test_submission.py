"""Taking work in: what is refused and why, what is stored, and that what is refused leaves nothing behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kit.samples import a_task, task_store

from polpod.config import Config, QueueSettings, Settings
from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.agents import Agent, Queue
from polpod.model.changes import Change
from polpod.model.submissions import Submission
from polpod.model.tasks import Dependency, Lent, Spec, Task, TaskStatus
from polpod.services.rpc.refusal import invalid
from polpod.services.submission import Submitted, enterable, specify, store, title_of
from polpod.store import changes, queries
from polpod.store.group import GroupCommit
from polpod.store.records import Tx
from polpod.store.table import AnyTable
from polpod.store.tables import Dependencies, Events, Queues, Specs, Tasks

S = TaskStatus
FIXER = Agent(name="fixer", command=("fix", "--prompt={prompt}", "{prompt}"), cwd="/agents", env={"A": "agent's"})
CONFIG = Config(
    project="kernel",
    settings=Settings(queues={"builds": QueueSettings(slots=1)}),
    agents=(FIXER, Agent(name="idle"), Agent(name="reader", command=("cat",))),
)
UID = 1000
Stores = GroupCommit[Tx]


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Stores]:
    with task_store(tmp_path) as opened:
        yield opened


def submission(**fields: Any) -> Submission:
    """As it comes off the wire: `true`, unless the fields say what to do."""
    if not fields.keys() & {"command", "shell", "agent"}:
        fields["command"] = ["true"]
    return msgspec.convert(fields, Submission)


def spec_of(**fields: Any) -> Spec:
    return specify(submission(**fields), CONFIG, "/root")


def test_an_agent_without_a_directory_works_in_work_dir() -> None:
    """Polpo's `workDir`; a command works where it was submitted, or where the daemon's directory is."""
    idle = Agent(name="idle", command=("idle",))
    config = Config(settings=Settings(work_dir="sub/../there"), agents=(FIXER, idle))
    asked = {"idle": "/root/there", "fixer": "/agents"}
    assert {name: specify(submission(agent=name), config, "/root").cwd for name in asked} == asked
    assert specify(submission(), config, "/root").cwd == "/root"
    absolute = Config(settings=Settings(work_dir="/there"), agents=(idle,))
    assert specify(submission(agent="idle", cwd="/own"), absolute, "/root").cwd == "/own"
    assert specify(submission(agent="idle"), absolute, "/root").cwd == "/there"


def body(given: Submission, config: Config = CONFIG, uid: int = UID) -> Any:
    return lambda tx: store(tx, given, specify(given, config, "/root"), config, uid)


def submit(tasks: Stores, config: Config = CONFIG, uid: int = UID, **fields: Any) -> Submitted:
    done: Submitted = tasks.write(body(submission(**fields), config, uid))
    return done


def stored(tasks: Stores, config: Config = CONFIG, **fields: Any) -> Task:
    task_id = submit(tasks, config, **fields).id
    task = tasks.write(lambda tx: tx[Tasks].get(task_id))
    assert task is not None
    return task


def finish(tasks: Stores, task_id: str, status: TaskStatus) -> None:
    """Give the task an end, with what follows from it."""

    def end(tx: Tx) -> None:
        task = tx[Tasks].get(task_id)
        assert task is not None
        changes.apply(tx, Change(msgspec.structs.replace(task, status=status), ()))

    tasks.write(end)


# What to execute.


def test_a_command() -> None:
    assert spec_of(command=["make", "-j"], cwd="/src", env={"A": "1"}, umask=0o077, stdin="/dev/zero") == Spec(
        command=("make", "-j"), cwd="/src", env={"A": "1"}, umask=0o077, stdin="/dev/zero"
    )


def test_a_shell_text() -> None:
    spec = spec_of(shell="make | tail", env={})
    assert (spec.command, spec.shell, spec.umask, spec.cwd) == (None, "make | tail", 0o022, "/root")


def test_an_environment_that_was_not_given_is_a_clean_one() -> None:
    env = spec_of().env
    assert env["PATH"] == os.environ["PATH"]
    assert set(env) <= {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"}
    assert spec_of(env={}).env == {}


def test_an_agent_s_command_stays_as_it_is_until_a_run_starts() -> None:
    spec = spec_of(agent="fixer", description="mend it", env={"A": "mine", "B": "1"})
    assert spec.template == spec.command == FIXER.command
    assert spec.agent == Lent(prompt="argument", env={"A": "agent's"}, cwd=True)
    assert (spec.cwd, spec.env, spec.environment) == ("/agents", {"A": "mine", "B": "1"}, {"A": "agent's", "B": "1"})
    assert spec_of(agent="fixer", description="else", env={"A": "mine", "B": "1"}) == spec


def test_a_command_of_its_own_is_no_template() -> None:
    spec = spec_of(agent="fixer", command=["echo", "{prompt}"], env={})
    assert (spec.template, spec.environment) == (None, {"A": "agent's"})


def test_what_an_agent_is_to_do_is_what_its_task_is_called() -> None:
    spec = spec_of(agent="fixer", description="mend\n  it")
    assert title_of(spec, "mend\n  it") == "mend it"
    assert title_of(spec, " ") == "fix '--prompt={prompt}' '{prompt}'"
    assert title_of(spec_of(command=["make", "all"]), "build") == "make all"


def test_a_prompt_that_no_program_takes_as_an_argument_is_refused_with_a_way_out() -> None:
    by_stdin = Agent(name="reader", command=("cat",))
    config = Config(agents=(FIXER, by_stdin))
    long = submission(agent="fixer", description="é" * 2**16, env={})
    with pytest.raises(InvalidRequest, match=r"131081 bytes.* by stdin or from a file") as refused:
        specify(long, config, "/root")
    assert refused.value.path == "$.description"
    assert specify(msgspec.structs.replace(long, agent="reader"), config, "/root").template == ("cat",)


def test_a_key_that_came_before_with_another_prompt_is_other_work(tasks: Stores) -> None:
    """The spec of both is the same."""
    asked = {"agent": "fixer", "description": "this", "env": {}, "idempotency_key": "k"}
    first = submit(tasks, **asked)
    assert submit(tasks, **asked) == Submitted(first.id, created=False)
    with pytest.raises(Conflict, match="does other work"):
        submit(tasks, **asked | {"description": "that"})


def test_what_was_said_goes_before_the_agent_s_command_and_directory() -> None:
    spec = spec_of(agent="fixer", command=["other"], cwd="/here")
    assert (spec.command, spec.cwd) == (("other",), "/here")


REFUSED_BY_RULE: list[tuple[dict[str, Any], str, str]] = [
    ({"command": ["a"], "shell": "b"}, "$.shell", "give one of them"),
    ({"command": ["", "x"]}, "$.command[0]", "empty"),
    ({"command": ["a", "b\0"]}, "$.command[1]", "NUL"),
    ({"shell": "a\0"}, "$.shell", "NUL"),
    ({"agent": "nobody"}, "$.agent", "no agent nobody"),
    ({"agent": "idle"}, "$.agent", "agent idle has no command"),
    ({"agent": "fixer", "description": "\0"}, "$.description", "NUL"),
    ({"agent": "fixer", "title": "\0"}, "$.title", "NUL"),
    ({"agent": "reader", "stdin": "/etc/passwd"}, "$.stdin", "has its prompt there"),
    ({"cwd": "src"}, "$.cwd", "not an absolute path"),
    ({"cwd": "/a\0"}, "$.cwd", "NUL"),
    ({"stdin": "in.txt"}, "$.stdin", "not an absolute path"),
    ({"stdin": "/a\0"}, "$.stdin", "NUL"),
    ({"env": {"": "x"}}, "$.env", "'' is not a name"),
    ({"env": {"A=B": "x"}}, "$.env", "'A=B' is not a name"),
    ({"env": {"A": "\0"}}, "$.env", "NUL"),
    ({"env": {"A\0": ""}}, "$.env", "NUL"),
]


@pytest.mark.parametrize(("fields", "path", "says"), REFUSED_BY_RULE, ids=lambda v: str(v))
def test_what_cannot_be_executed_is_refused_at_its_field(fields: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        spec_of(**fields)
    assert refused.value.path == path


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nothing to do") as refused:
        specify(Submission(), CONFIG, "/root")
    assert refused.value.path == "$.command"


REFUSED_BY_TYPE: list[tuple[dict[str, Any], str]] = [
    ({"command": []}, "$.command"),
    ({"command": [1]}, "$.command[0]"),
    ({"shell": ""}, "$.shell"),
    ({"umask": 0o1000}, "$.umask"),
    ({"title": "x" * 1001}, "$.title"),
    ({"queue": ""}, "$.queue"),
    ({"queue": "q" * 201}, "$.queue"),
    ({"priority": 2**31}, "$.priority"),
    ({"depends_on": [3]}, "$.depends_on[0]"),
    ({"labels": {"a": 1}}, "$.labels[...]"),
    ({"max_retries": -1}, "$.max_retries"),
    ({"max_duration": -0.5}, "$.max_duration"),
    ({"retry_delay": 1e10}, "$.retry_delay"),
    ({"memory_max": 2**20 - 1}, "$.memory_max"),
    ({"memory_max": 2**50 + 1}, "$.memory_max"),
    ({"memory_max": 1e9 + 0.5}, "$.memory_max"),
    ({"cpus": 0.009}, "$.cpus"),
    ({"cpus": 1e6}, "$.cpus"),
    ({"tasks_max": 0}, "$.tasks_max"),
    ({"tasks_max": 2**22 + 1}, "$.tasks_max"),
    ({"nice": -21}, "$.nice"),
    ({"nice": 20}, "$.nice"),
    ({"not_before": "2026-01-01T00:00:00"}, "$.not_before"),
    ({"deadline": "2026-01-01T00:00:00"}, "$.deadline"),
    ({"not_before": "soon"}, "$.not_before"),
    ({"hold": 1}, "$.hold"),
    ({"idempotency_key": ""}, "$.idempotency_key"),
    ({"expectations": ["x"]}, "$.expectations[0]"),
]


@pytest.mark.parametrize(("fields", "path"), REFUSED_BY_TYPE, ids=lambda v: str(v)[:40])
def test_what_has_the_wrong_type_is_refused_at_its_field(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        submission(**fields)
    assert invalid(refused.value).path == path


def test_an_unknown_field_is_refused_by_its_name() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `comand`"):
        submission(comand=["x"])


@pytest.mark.parametrize("field", ["not_before", "deadline"])
@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00"])
def test_an_instant_beyond_the_calendar_is_refused_at_its_field(tasks: Stores, field: str, instant: str) -> None:
    with pytest.raises(InvalidRequest, match="out of range") as refused:
        submit(tasks, **dict[str, Any]({field: instant}))
    assert refused.value.path == f"$.{field}"


# Working directories.


def test_a_directory_is_entered(tmp_path: Path) -> None:
    enterable(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "says"), [("missing", "No such file"), ("file", "not a directory"), ("file/x", "Not a dir")]
)
def test_what_is_no_directory_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").touch(mode=stat.S_IRWXU)
    with pytest.raises(InvalidRequest, match=says) as refused:
        enterable(str(tmp_path / name))
    assert refused.value.path == "$.cwd"


# Storing.


def test_a_command_has_no_limits_that_nobody_asked_for(tasks: Stores) -> None:
    task = stored(tasks, command=["make", "all it needs"])
    assert (task.max_retries, task.max_duration, task.stale_threshold, task.kill_grace) == (None, None, None, None)
    assert (task.memory_max, task.cpus, task.tasks_max, task.nice) == (None, None, None, None)
    assert (task.title, task.queue, task.project, task.created_by) == ("make 'all it needs'", "default", "kernel", UID)
    assert (task.status, task.version, task.unmet, task.priority, task.hold) == (S.PENDING, 1, 0, 0, False)


def test_an_agent_s_work_has_polpo_s(tasks: Stores) -> None:
    task = stored(tasks, agent="fixer", description="x")
    assert (task.assigned_to, task.max_retries, task.max_duration, task.stale_threshold) == ("fixer", None, 1800, 300)


@pytest.mark.parametrize("work", [{}, {"agent": "fixer"}])
def test_the_configuration_s_limits_go_before_those(tasks: Stores, work: dict[str, Any]) -> None:
    """§13.123, §13.146."""
    config = msgspec.structs.replace(CONFIG, settings=Settings(max_retries=2, task_timeout=90_000, stale_threshold=0))
    task = stored(tasks, config, **work)
    assert (task.max_retries, task.max_duration, task.stale_threshold) == (2, 90, 0)
    task = stored(tasks, config, max_retries=0, max_duration=1.5, stale_threshold=7, **work)
    assert (task.max_retries, task.max_duration, task.stale_threshold) == (0, 1.5, 7)


def test_whatever_is_said_is_stored(tasks: Stores) -> None:
    said: dict[str, Any] = {
        "title": "", "description": "d", "project": "p", "queue": "q", "priority": -3, "labels": {"a": "b"},
        "memory_max": 2**50, "cpus": 0.01, "tasks_max": 2**22, "nice": -20, "kill_grace": 0.5, "hold": True, "side_effects": True, "idempotency_key": "k",
    }  # fmt: skip
    task = stored(tasks, **said, expectations=[{"type": "test", "command": "x"}])
    assert {name: getattr(task, name) for name in said} == said
    assert task.expectations == ({"type": "test", "command": "x"},)


@pytest.mark.parametrize(("delay", "limit"), [(5.0, 3600.0), (7200.0, 7200.0), (0.0, 3600.0)])
def test_the_delay_of_a_retry_is_at_least_what_was_asked_for(tasks: Stores, delay: float, limit: float) -> None:
    backoff = stored(tasks, retry_delay=delay).backoff
    assert (backoff.delay, backoff.limit) == (delay, limit)


def test_instants_are_stored_in_utc(tasks: Stores) -> None:
    task = stored(tasks, not_before="2030-01-01T01:00:00+02:00", deadline="2030-01-02T00:00:00Z")
    assert task.not_before == datetime(2029, 12, 31, 23, tzinfo=UTC)
    assert task.not_before is not None
    assert task.deadline is not None
    assert task.not_before.utcoffset() == task.deadline.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("work", "title"),
    [
        ({"command": ["echo", "a b", "it's"]}, "echo 'a b' 'it'\"'\"'s'"),
        ({"shell": "make\n  all |\ttail"}, "make all | tail"),
        ({"shell": "x" * 300}, "x" * 200),
        ({"shell": "make", "title": "mine"}, "mine"),
    ],
)
def test_titles(tasks: Stores, work: dict[str, Any], title: str) -> None:
    assert stored(tasks, **work).title == title


def test_ids_and_seqs_count_up_and_equal_specs_are_stored_once(tasks: Stores) -> None:
    found = [stored(tasks, env={"A": "1", "B": "2"}), stored(tasks, env={"B": "2", "A": "1"})]
    assert [(t.id, t.seq) for t in found] == [("1", 1), ("2", 2)]
    assert found[0].spec_id == found[1].spec_id
    assert len(tasks.write(lambda tx: tx[Specs].find())) == 1


def test_an_event_tells_of_it(tasks: Stores) -> None:
    stored(tasks, title="t", queue="q")
    (event,) = tasks.write(lambda tx: tx[Events].find())
    assert (event.seq, event.kind, event.subject) == (1, "task:created", "task/1")
    assert event.body == {"title": "t", "queue": "q", "status": "pending"}


def test_what_needs_approval_waits_for_it(tasks: Stores) -> None:
    task = stored(tasks, needs_approval=True)
    assert task.status is S.AWAITING_APPROVAL
    created, moved, asked = tasks.write(lambda tx: tx[Events].find())
    assert created.body["status"] == "pending"
    assert moved.body == {"from": "pending", "to": "awaiting_approval", "queue": "default", "reason": "needs_approval"}
    assert (asked.kind, asked.body["kind"], asked.body["request_id"]) == (
        "approval:requested",
        "start",
        task.approval_id,
    )


# Queues.


def test_a_queue_that_nobody_configured_is_made_known(tasks: Stores) -> None:
    stored(tasks, queue="fresh")
    stored(tasks, queue="fresh")
    assert tasks.write(lambda tx: tx[Queues].find()) == [Queue(name="fresh")]


def test_a_queue_of_the_configuration_stays_as_that_says(tasks: Stores) -> None:
    stored(tasks, queue="builds")
    assert tasks.write(lambda tx: tx[Queues].find()) == []


def test_a_queue_that_somebody_set_stays_as_it_was_set(tasks: Stores) -> None:
    mine = Queue(name="mine", slots=3, paused=True)
    tasks.write(lambda tx: tx[Queues].add(mine))
    stored(tasks, queue="mine")
    assert tasks.write(lambda tx: tx[Queues].find()) == [mine]


# Dependencies.


def test_a_task_waits_for_what_is_not_done(tasks: Stores) -> None:
    first, second = stored(tasks).id, stored(tasks).id
    finish(tasks, second, S.DONE)
    task = stored(tasks, depends_on=[second, first, second])
    assert (task.depends_on, task.unmet) == ((second, first), 1)
    found = tasks.write(lambda tx: tx[Dependencies].find(Dependencies.task_id.eq(task.id)))
    assert set(found) == {
        Dependency(task_id=task.id, on_id=first, met=False),
        Dependency(task_id=task.id, on_id=second, met=True),
    }
    assert task not in tasks.write(lambda tx: queries.ready(tx, "default", 9))


def test_a_task_is_ready_when_all_it_waits_for_is_done(tasks: Stores) -> None:
    first, second = stored(tasks).id, stored(tasks).id
    task_id = stored(tasks, depends_on=[first, second]).id
    left = []
    for on_id in (first, second):
        finish(tasks, on_id, S.DONE)
        left.append(bool((tasks.write(lambda tx: tx[Tasks].get(task_id)) or a_task()).unmet))
    assert left == [True, False]
    assert [t.id for t in tasks.write(lambda tx: queries.ready(tx, "default", 9))] == [task_id]


def test_being_done_once_more_meets_nothing_twice(tasks: Stores) -> None:
    first = stored(tasks).id
    task_id = stored(tasks, depends_on=[first, stored(tasks).id]).id
    finish(tasks, first, S.DONE)
    finish(tasks, first, S.DONE)
    assert (tasks.write(lambda tx: tx[Tasks].get(task_id)) or a_task()).unmet


@pytest.mark.parametrize("status", [S.FAILED, S.CANCELLED])
def test_a_dependency_that_failed_is_waited_for(tasks: Stores, status: TaskStatus) -> None:
    first = stored(tasks).id
    finish(tasks, first, status)
    assert stored(tasks, depends_on=[first]).unmet == 1


# Refusals in the store leave nothing.

NOTHING = {"tasks": 0, "specs": 0, "queues": 0, "dependencies": 0, "events": 0}


def rows(tx: Tx) -> dict[str, int]:
    tables: list[AnyTable] = [Tasks, Specs, Queues, Dependencies, Events]
    return {table.name: tx[table].count() for table in tables}


@pytest.mark.parametrize(
    "fields", [{"depends_on": ["1"]}, {"depends_on": ["0", "x"]}, {"deadline": "0001-01-01T00:00:00+12:00"}]
)
def test_what_is_refused_leaves_nothing_though_its_batch_goes_on(tasks: Stores, fields: dict[str, Any]) -> None:
    given = submission(queue="fresh", **fields)

    def batch(tx: Tx) -> tuple[object, dict[str, int], Submitted]:
        return tx.attempt(body(given)), rows(tx), body(submission())(tx)

    refused, left, next_one = tasks.write(batch)
    assert isinstance(refused, NotFound | InvalidRequest)
    assert (left, next_one) == (NOTHING, Submitted("1", created=True))


def test_a_missing_dependency_is_named(tasks: Stores) -> None:
    with pytest.raises(NotFound, match="there is no task 77"):
        submit(tasks, depends_on=["77"])


# Idempotency.


def test_the_same_key_and_work_is_the_same_task(tasks: Stores) -> None:
    first = submit(tasks, idempotency_key="k", title="one")
    again = submit(tasks, idempotency_key="k", title="two")
    assert (first, again) == (Submitted("1", created=True), Submitted("1", created=False))
    counts = tasks.write(rows)
    assert (counts["tasks"], counts["events"]) == (1, 1)


def test_the_same_key_in_one_batch_is_the_same_task(tasks: Stores) -> None:
    given = body(submission(idempotency_key="k"))
    assert [s.created for s in tasks.write(lambda tx: [given(tx), given(tx)])] == [True, False]


def test_the_same_key_for_other_work_is_a_conflict(tasks: Stores) -> None:
    submit(tasks, idempotency_key="k")
    with pytest.raises(Conflict, match="idempotency key 'k' is task 1, which does other work"):
        submit(tasks, idempotency_key="k", command=["false"])


def test_a_key_is_one_user_s(tasks: Stores) -> None:
    assert submit(tasks, idempotency_key="k").created
    assert submit(tasks, uid=UID + 1, idempotency_key="k", command=["false"]) == Submitted("2", created=True)


@pytest.mark.parametrize("status", list(S))
def test_a_key_stays_taken_whatever_became_of_the_task(tasks: Stores, status: TaskStatus) -> None:
    task_id = submit(tasks, idempotency_key="k").id
    finish(tasks, task_id, status)
    assert submit(tasks, idempotency_key="k") == Submitted(task_id, created=False)
