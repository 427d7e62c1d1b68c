"""Agents: how they are written, what is put into their commands, and who comes and goes in a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from kit.samples import NOW, a_run, a_task, task_store

from polpod.config import Config
from polpod.errors import Conflict, InvalidRequest, NotFound
from polpod.model.agents import Agent, Queue
from polpod.model.documents import read
from polpod.model.executions import Execution
from polpod.model.submissions import Edit
from polpod.model.tasks import Lent, Spec, Task
from polpod.paths import RunDirectory
from polpod.rules import superiors, templates
from polpod.rules.pick import Capacity
from polpod.services import agents, prompts
from polpod.services.launcher import Start, accept
from polpod.services.operations import edit
from polpod.store import queries
from polpod.store.agents import Agents
from polpod.store.group import GroupCommit
from polpod.store.organisation import AgentStates, LifecycleEvents
from polpod.store.records import Tx
from polpod.store.tables import Events, Specs, Tasks

ANN = Agent(name="ann", command=("ann", "{prompt}"), env={"KEY": "ann's"}, cwd="/ann")
BOB = Agent(name="bob", command=("bob",), env={"BOB": "1"}, cwd="/bob")
CONFIG = Config(agents=(ANN,))
WHO = "uid 1000"
FILES = RunDirectory("/run-5")
Stores = GroupCommit[Tx]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Stores]:
    with task_store(tmp_path) as opened:
        yield opened


def known(store: Stores) -> list[str]:
    return list(store.write(lambda tx: agents.known(tx, CONFIG)))


def add(store: Stores, agent: Agent) -> None:
    store.write(lambda tx: agents.add(tx, CONFIG, agent, 1000, WHO, NOW))


# How they are written.


@pytest.mark.parametrize(
    ("command", "prompted"),
    [(("a", "-p{prompt}"), "argument"), (("a", "{prompt_file}"), "file"), (("a",), "stdin"), (("a", "{x}"), "stdin")],
)
def test_a_prompt_comes_as_the_command_has_a_place_for_it(command: tuple[str, ...], prompted: str) -> None:
    assert Agent(name="a", command=command).prompted == prompted


def test_who_says_how_is_heard() -> None:
    assert Agent(name="a", command=("a", "{prompt_file}"), prompt="stdin").prompted == "stdin"
    assert Agent(name="a", command=("a", "{task_id}"), prompt="stdin").prompted == "stdin"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "a@1.1"}, "^name: "),
        ({"name": " "}, "name"),
        ({"name": "a\0"}, "name: NUL"),
        ({"name": "x" * 201}, "name"),
        ({"command": ("a",), "prompt": "argument"}, "^prompt: .*no part of the command has {prompt}"),
        ({"command": ("a",), "prompt": "file"}, "no part of the command has {prompt_file}"),
        ({"command": ("a", "{prompt}"), "prompt": "stdin"}, "everybody on this host could read"),
        ({"command": ("a", "{prompt}{prompt_file}"), "prompt": "file"}, "everybody on this host could read"),
        ({"prompt": "telepathy"}, "prompt"),
        ({"env": {"A=B": "1"}}, "^env: 'A=B'"),
        ({"env": {"": "1"}}, "^env: ''"),
        ({"env": {"A": "\0"}}, "^env: NUL"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"team": ""}, "team"),
    ],
    ids=str,
)
def test_what_is_no_agent_is_none(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Agent(**{"name": "a"} | fields)


# What is put into their commands.


def test_every_place_is_filled_in_and_nothing_else_is() -> None:
    """§8.9's agents are any program: awk and JSON keep their braces."""
    command = ("awk", "{print $1}", '{"a": {}}', "{task_id}/{run_id}/{attempt}", "{{title}}", "{prompt}{agent}")
    assert templates.places(command) == {"task_id", "run_id", "attempt", "title", "prompt", "agent"}
    task = a_task(title="mend", description="say {task_id} and {}", assigned_to="ann")
    assert prompts.filled(FILES, 5, 2, task, Spec(command=command, cwd="/", agent=Lent(prompt="argument"))) == [
        "awk", "{print $1}", '{"a": {}}', "7/5/2", "{mend}", "say {task_id} and {}ann",
    ]  # fmt: skip


@given(st.lists(st.text()), st.dictionaries(st.sampled_from(sorted(templates.PLACES)), st.text()))
def test_what_is_put_in_is_looked_through_for_nothing(command: list[str], given: dict[str, str]) -> None:
    values = dict.fromkeys(templates.PLACES, "") | given
    filled = templates.fill(command, values)
    assert len(filled) == len(command)
    for before, after in zip(command, filled, strict=True):
        parts = [before]
        for name in templates.PLACES:  # each place by itself, from what lies between the others
            parts = [p for part in parts for p in _split(part, name)]
        assert after == "".join(values[p[1:-1]] if p in {f"{{{n}}}" for n in templates.PLACES} else p for p in parts)


def _split(part: str, name: str) -> list[str]:
    place = f"{{{name}}}"
    if part in {f"{{{n}}}" for n in templates.PLACES}:
        return [part]
    pieces = part.split(place)
    return [p for piece in pieces for p in (place, piece)][1:]


@pytest.mark.parametrize(
    ("prompt", "command", "stdin", "files"),
    [
        ("argument", ("a", "{prompt}"), None, {}),
        ("stdin", ("a",), FILES.prompt, {FILES.prompt: b"do"}),
        ("file", ("a", "{prompt_file}"), None, {FILES.prompt: b"do"}),
        ("stdin", ("a", "{prompt_file}"), FILES.prompt, {FILES.prompt: b"do"}),
        ("argument", ("a", "{prompt}", "{prompt_file}"), None, {FILES.prompt: b"do"}),
    ],
)
def test_a_prompt_lies_in_a_file_where_one_is_needed(
    prompt: Any, command: tuple[str, ...], stdin: str | None, files: dict[str, bytes]
) -> None:
    spec = Spec(command=command, cwd="/", agent=Lent(prompt=prompt))
    assert prompts.stdin(FILES, spec) == stdin
    assert prompts.texts(FILES, a_task(description="do"), spec, None) == files


def test_what_an_argument_became_is_kept_up_to_a_length() -> None:
    spec = Spec(command=("a", "{prompt}"), cwd="/", agent=Lent(prompt="argument"))
    kept = prompts.shown(FILES, 5, 1, a_task(description="x" * 1001), spec)
    assert kept is not None
    assert msgspec.json.decode(kept) == ["a", "x" * 1000 + "… (1001 characters)"]
    assert prompts.shown(FILES, 5, 1, a_task(), Spec(command=("a", "{prompt}"), cwd="/")) is None


def test_a_context_tells_of_the_task_and_of_what_it_waited_for(store: Stores) -> None:
    spec = Spec(command=("a", "{context_file}"), cwd="/", agent=Lent(prompt="stdin"))

    def body(tx: Tx) -> bytes | None:
        tx[Tasks].save(a_task(id="3", seq=3, title="before"))
        return prompts.context(tx, a_task(description="do", depends_on=("3", "gone")), a_run(attempt=2), spec)

    told = store.write(body)
    assert told is not None
    context = msgspec.json.decode(told)
    assert (context["run_id"], context["attempt"], context["task"]["description"]) == (5, 2, "do")
    assert [(other["id"], other["title"]) for other in context["depends_on"]] == [("3", "before")]
    assert prompts.texts(FILES, a_task(description="do"), spec, told) == {FILES.context: told, FILES.prompt: b"do"}


# Who there is.


def test_names_are_unique_over_polpo_json_and_the_store(store: Stores) -> None:
    """§13.108, §13.114, §13.115: none at first but polpo.json's; an agent is found by its name, and has it alone."""
    assert known(store) == ["ann"]
    add(store, BOB)
    assert known(store) == ["ann", "bob"]
    for again in (ANN, BOB):
        with pytest.raises(Conflict, match=f"there is an agent {again.name} already"):
            add(store, again)
    found = store.write(lambda tx: [agents.find(tx, CONFIG, name) for name in ("ann", "bob", "cid")])
    assert found == [("ann", ANN), ("bob", BOB), None]


def test_an_agent_of_polpo_json_goes_before_one_that_was_added(store: Stores) -> None:
    """§13.119: who writes a name into the file later means that."""
    add(store, BOB)
    later = Config(agents=(msgspec.structs.replace(BOB, role="other"), ANN))
    assert [a.role for a in store.write(lambda tx: agents.known(tx, later)).values()] == ["other", ""]
    with pytest.raises(Conflict, match=r"is polpo\.json's: change it there"):
        store.write(lambda tx: agents.require_stored(tx, later, "bob"))


def test_an_agent_that_goes_is_gone_once(store: Stores) -> None:
    """§13.116, §13.117: changed and removed where it is, refused where it is not."""
    add(store, BOB)

    def change(tx: Tx) -> None:
        stored = agents.require_stored(tx, CONFIG, "bob")
        agents.edit(tx, stored, msgspec.structs.replace(BOB, team="night"), ["team"], WHO, NOW)

    def remove(tx: Tx) -> None:
        agents.remove(tx, agents.require_stored(tx, CONFIG, "bob"), WHO, NOW)

    store.write(change)
    assert store.write(lambda tx: [a.agent.name for a in tx[Agents].find(Agents.team.eq("night"))]) == ["bob"]
    store.write(remove)
    for body in (change, remove):
        with pytest.raises(NotFound, match="there is no agent bob"):
            store.write(body)
    told = store.write(lambda tx: [(e.kind, e.subject) for e in tx[Events].find()])
    assert told == [(f"agent:{kind}", "agent/bob") for kind in ("added", "updated", "removed")]
    books = store.write(lambda tx: sorted(str(e.event_type) for e in tx[LifecycleEvents].find()))
    assert books == ["fired", "hired"]
    assert store.write(lambda tx: tx[AgentStates].get("bob")) is None


def test_an_agent_at_work_stays(store: Stores) -> None:
    add(store, BOB)
    store.write(lambda tx: tx[Tasks].save(a_task(assigned_to="bob", status="in_progress", run_id=5)))
    with pytest.raises(Conflict, match="agent bob is at work on task 7"):
        store.write(lambda tx: agents.remove(tx, agents.require_stored(tx, CONFIG, "bob"), WHO, NOW))


def test_limits_know_who_is_gone(store: Stores) -> None:
    add(store, msgspec.structs.replace(BOB, max_concurrency=2))
    assert store.write(lambda tx: agents.limits(tx, CONFIG, ["ann", "bob", "cid"])) == {"bob": 2, "cid": 0}


@pytest.mark.parametrize(
    ("meanwhile", "starts"), [({}, True), ({"description": "else"}, False), ({"agent": "bob"}, False)]
)
def test_what_was_changed_since_it_was_picked_is_picked_anew(
    store: Stores, meanwhile: dict[str, Any], starts: bool
) -> None:
    """What a run executes is made of what was picked, and nothing else may be recorded as done."""
    add(store, BOB)
    spec = Spec(command=ANN.command, cwd="/", agent=Lent(prompt="argument"))
    spec_id = store.write(lambda tx: queries.keep_spec(tx, spec))
    picked = a_task(assigned_to="ann", spec_id=spec_id)
    store.write(lambda tx: tx[Tasks].save(picked))
    if meanwhile:
        store.write(lambda tx: edit(tx, Edit(id="7", **meanwhile), CONFIG, WHO))
    capacity = Capacity(4, {"default": Queue(name="default")}, {})
    instance: Any = SimpleNamespace(stopping=trio.Event(), capacity=lambda tx, names: capacity)
    start = Start(a_run(), picked, spec, "token")
    assert list(store.write(lambda tx: accept(instance, tx, [start]))) == [5] * starts
    task = store.write(lambda tx: tx[Tasks].get("7"))
    assert task is not None
    assert (task.status, task.run_id) == (("in_progress", 5) if starts else ("pending", None))


# To whom they report.


@pytest.mark.parametrize(
    ("name", "reports_to", "says"),
    [
        ("a", None, None),
        ("a", "b", None),
        ("a", "a", "a circle: a → a"),
        ("c", "a", "a circle: c → a → b → c"),
        ("a", "nobody", "there is no agent nobody"),
        ("a", "orphan", None),
    ],
)
def test_a_line_of_superiors_has_an_end(name: str, reports_to: str | None, says: str | None) -> None:
    there = {
        "a": Agent(name="a", reports_to="b"),
        "b": Agent(name="b", reports_to="c"),
        "c": Agent(name="c"),
        "orphan": Agent(name="orphan", reports_to="gone"),
    }
    fault = superiors.fault(name, reports_to, there)
    assert fault is None if says is None else fault is not None and fault.startswith(says)


# Those of missions.


def an_execution(number: int = 1) -> Execution:
    return Execution(
        id=f"4.{number}", seq=number, mission_id="4", number=number, group="m", document_id="d", started_by=WHO,
        volatile="on_complete", started_at=NOW, updated_at=NOW,
    )  # fmt: skip


def test_a_team_comes_with_an_execution_and_goes_with_it_alone(store: Stores) -> None:
    """§13.118, §14.6 (volatile cleanup): a name that is there already is no other group's."""
    add(store, Agent(name="cid"))
    team = (Agent(name="ann", reports_to="cid"), Agent(name="cid", reports_to="ann@elsewhere"))
    for number in (1, 2):
        store.write(lambda tx, number=number: agents.engage(tx, an_execution(number), team, 1000, NOW))
        store.write(lambda tx, number=number: agents.engage(tx, an_execution(number), team, 1000, NOW))
    assert known(store) == ["ann", "ann@4.1", "ann@4.2", "cid", "cid@4.1", "cid@4.2"]
    assert store.write(lambda tx: list(agents.lasting(tx, CONFIG))) == ["ann", "cid"]
    found = store.write(lambda tx: agents.find(tx, CONFIG, "ann", "4.2"))
    assert found is not None
    assert (found[0], found[1].reports_to) == ("ann@4.2", "cid@4.2")
    for _ in range(2):
        store.write(lambda tx: agents.dismiss(tx, an_execution(), NOW))
    assert known(store) == ["ann", "ann@4.2", "cid", "cid@4.2"]
    kinds = store.write(lambda tx: [e.kind for e in tx[Events].find()])
    assert (kinds.count("agent:added"), kinds.count("agent:removed")) == (5, 2)


def test_nobody_else_has_the_agents_of_a_mission(store: Stores) -> None:
    store.write(lambda tx: agents.engage(tx, an_execution(), (BOB,), 1000, NOW))
    for execution_id in (None, "4.2"):
        with pytest.raises(NotFound, match="for it"):
            store.write(lambda tx, own=execution_id: agents.require(tx, CONFIG, "bob@4.1", own))
    for name in ("bob", "bob@4.1"):
        assert store.write(lambda tx, name=name: agents.require(tx, CONFIG, name, "4.1"))[0] == "bob@4.1"


@pytest.mark.parametrize(
    ("member", "says"),
    [('{"name": "a", "skills": []}', "skills"), ('{"name": "a@b"}', "team"), ('{"role": "x"}', "name")],
)
def test_a_document_says_nothing_of_its_team_that_is_ignored(member: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(f'{{"tasks": [{{"title": "t", "command": ["true"]}}], "team": [{member}]}}')


# Another agent for a task.


def given_to(store: Stores, task: Task, spec: Spec, agent: str | None) -> tuple[Task, Spec]:
    """The task and its spec once it has that agent."""
    store.write(lambda tx: tx[Tasks].save(msgspec.structs.replace(task, spec_id=queries.keep_spec(tx, spec))))
    store.write(lambda tx: edit(tx, Edit(id=task.id, agent=agent), CONFIG, WHO))

    def found(tx: Tx) -> tuple[Task, Spec]:
        edited = tx[Tasks].get(task.id)
        assert edited is not None
        stored = tx[Specs].get(edited.spec_id or "")
        assert stored is not None
        return edited, stored.spec

    return store.write(found)


def test_another_agent_brings_its_own_command_environment_and_directory(store: Stores) -> None:
    add(store, BOB)
    spec = Spec(
        command=ANN.command, cwd="/ann", env={"MINE": "1"}, agent=Lent(prompt="argument", env=ANN.env, cwd=True)
    )
    task, became = given_to(store, a_task(assigned_to="ann"), spec, "bob")
    assert task.assigned_to == "bob"
    assert became == Spec(
        command=("bob",), cwd="/bob", env={"MINE": "1"}, agent=Lent(prompt="stdin", env=BOB.env, cwd=True)
    )
    assert "KEY" not in became.environment
    assert store.write(queries.loose_specs) != set()


def test_what_the_task_itself_says_stays(store: Stores) -> None:
    add(store, BOB)
    task, became = given_to(store, a_task(), Spec(command=("make",), cwd="/src", env={"MINE": "1"}), "bob")
    assert (task.assigned_to, became.command, became.cwd) == ("bob", ("make",), "/src")
    assert became.environment == {"MINE": "1", "BOB": "1"}
    task, became = given_to(store, task, became, None)
    assert (task.assigned_to, became) == (None, Spec(command=("make",), cwd="/src", env={"MINE": "1"}))


@pytest.mark.parametrize(
    ("agent", "error", "says"),
    [
        (None, Conflict, "no command but its agent's"),
        ("cid", NotFound, "no agent cid"),
        ("dan", NotFound, "no command"),
    ],
)
def test_a_task_without_anything_to_execute_is_none(store: Stores, agent: str | None, error: Any, says: str) -> None:
    add(store, Agent(name="dan"))
    spec = Spec(command=ANN.command, cwd="/", agent=Lent(prompt="argument"))
    with pytest.raises(error, match=says):
        given_to(store, a_task(assigned_to="ann"), spec, agent)


def test_a_description_that_is_too_long_for_the_agent_is_refused_when_it_is_edited(store: Stores) -> None:
    spec = Spec(command=ANN.command, cwd="/", agent=Lent(prompt="argument"))
    given_to(store, a_task(assigned_to="ann"), spec, "ann")
    with pytest.raises(InvalidRequest, match="by stdin or from a file"):
        store.write(lambda tx: edit(tx, Edit(id="7", description="x" * 2**17), CONFIG, WHO))


def test_a_spec_that_a_task_was_given_is_not_forgotten_with_another_s(store: Stores) -> None:
    """Retention drops specs that were let go of, unless a task has taken one up since."""
    spec = Spec(command=("true",), cwd="/")

    def body(tx: Tx) -> tuple[int, bool]:
        spec_id = queries.keep_spec(tx, spec)
        queries.let_go_of_spec(tx, spec_id)
        loose = queries.loose_specs(tx)
        queries.keep_spec(tx, spec)
        return queries.drop_specs(tx, loose, {spec_id}, after=9), tx[Specs].get(spec_id) is not None

    assert store.write(body) == (0, True)
