"""Agents at work: what reaches their programs and what nobody sees of it, who comes and goes, and with a mission when."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.jobs import waits_for
from kit.other_user import NOBODY, call_as, let_in
from kit.waiting import until

from polpoctl.__main__ import run

SECRET = "canary-5b21"
SHOWS = ("sh", "-c", 'printf "%s|" "$@" > "$0.part"; cat >> "$0.part"; mv "$0.part" "$0"')
"""Writes its arguments and its stdin into the file that is its first argument."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Host]:
    """One for all tests that need not end it, with an agent of polpo.json."""
    with Host() as host:
        agents = [{"name": "json", "command": ["cat"]}]
        document = {"settings": {"reserve": 0, "maxConcurrency": 4}, "agents": agents}
        Path(host.paths.config).write_text(json.dumps(document))
        host.start()
        yield host
        assert "Traceback" not in host.log(), host.log()


@pytest.fixture
def started(daemon: Host) -> Iterator[Host]:
    """It, with no agents but polpo.json's before and after."""
    yield daemon
    for name in names(daemon):
        if name != "json":
            daemon.call("agent.remove", id=name)


@pytest.fixture
def here(started: Host, request: pytest.FixtureRequest) -> Path:
    """Where the jobs of a test work and write."""
    directory = started.root / re.sub(r"\W", "-", str(request.node.name))
    directory.mkdir()
    return directory


def add(host: Host, name: str, *command: str, **fields: Any) -> None:
    host.call("agent.add", name=name, command=list(command), **fields)


def polpoctl(host: Host, here: Path, *words: str) -> tuple[int, str]:
    """How it ended, and what it printed."""
    argv = [sys.executable, "-m", "polpoctl", words[0], "--socket", host.socket, *words[1:]]
    ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=60, cwd=here)
    return ended.returncode, ended.stdout


def why(host: Host, task_id: str) -> str:
    return " ".join(host.call("task.why", id=task_id)["sentences"])


def names(host: Host, **params: Any) -> list[str]:
    return [agent["name"] for agent in host.call("agent.list", **params)["agents"]]


def told(host: Host, *kinds: str, of: str) -> list[tuple[str, str]]:
    """The events about agents of a mission."""
    found = host.call("event.list", after=0, kinds=list(kinds), limit=1000)["events"]
    return [(e["kind"], e["subject"]) for e in found if f"@{of}." in e["subject"]]


# What reaches them.


def test_places_are_filled_in_and_the_run_says_with_what(started: Host, here: Path) -> None:
    to = here / "said"
    places = ("{task_id}", "{run_id}", "{attempt}", "{title}", "{cwd}", "{agent}", "{execution_id}", "{x}", "{prompt}")
    add(started, "ann", *SHOWS, str(to), *places, role="shows")
    task_id = started.submit(cwd=str(here), agent="ann", description="mend {task_id}; rm 'x'", title="mend")
    run_id = started.finished(task_id)["run_id"]
    filled = [task_id, str(run_id), "1", "mend", str(here), "ann", "", "{x}", "mend {task_id}; rm 'x'"]
    assert to.read_text() == "".join(f"{part}|" for part in filled)
    answer = started.call("task.get", id=task_id)
    assert answer["task"]["spec"]["command"] == [*SHOWS, str(to), *places]
    assert answer["task"]["spec"]["prompt"] == "argument"
    assert answer["runs"][0]["command"] == [*SHOWS, str(to), *filled]
    plain = started.submit("true")
    started.finished(plain)
    assert started.runs(plain)[0]["command"] is None


@pytest.mark.parametrize("way", ["stdin", "file"])
def test_what_comes_by_stdin_or_from_a_file_is_seen_by_nobody_else(started: Host, here: Path, way: str) -> None:
    """Neither in an argument, nor in a file that others may read, nor after the run."""
    go, to = here / "go", here / "said"
    read = 'cat "$0" > said' if way == "file" else "cat > said"
    add(started, "ann", "sh", "-c", f"{read}; touch ready; {waits_for(go)}", *(["{prompt_file}"] * (way == "file")))
    task_id = started.submit(cwd=str(here), agent="ann", description=SECRET * 20_000)
    live = started.running(task_id)
    until((here / "ready").exists, "it has read its prompt")
    assert to.read_text() == SECRET * 20_000
    job = int(live["job_pid"])
    assert SECRET not in Path(f"/proc/{job}/cmdline").read_text()
    assert SECRET not in json.dumps(live)
    lies = Path(started.paths.run(live["id"]).prompt)
    assert stat.S_IMODE(lies.stat().st_mode) == 0o600
    go.touch()
    assert started.finished(task_id)["status"] == "done"
    left = Path(started.paths.run_directories)
    until(lambda: not lies.parent.exists(), "its directory is another's")
    assert [path for path in left.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_a_run_has_the_prompt_of_its_time(started: Host, here: Path) -> None:
    """A retry does what the description says then."""
    to = here / "said"
    add(started, "ann", "sh", "-c", f'printf "%s\n" "$0" >> {to}; exit 3', "{prompt} ({attempt})")
    task_id = started.submit(cwd=str(here), agent="ann", description="first", max_retries=0)
    started.finished(task_id)
    started.call("task.update", id=task_id, description="second")
    started.call("task.retry", select={"ids": [task_id]})
    until(lambda: started.task(task_id)["attempts"] == 2, "it was tried again")
    started.finished(task_id)
    assert to.read_text().splitlines() == ["first (1)", "second (2)"]


def test_a_context_is_there_for_who_names_it(started: Host, here: Path) -> None:
    add(started, "ann", "sh", "-c", 'cp "$0" context', "{context_file}")
    before = started.submit("true", title="before")
    task_id = started.submit(cwd=str(here), agent="ann", description="do", depends_on=[before])
    assert started.finished(task_id)["status"] == "done"
    context = json.loads((here / "context").read_text())
    assert (context["task"]["id"], context["task"]["description"]) == (task_id, "do")
    assert [(other["title"], other["status"]) for other in context["depends_on"]] == [("before", "done")]


def test_a_prompt_that_is_too_long_only_as_it_is_filled_in_is_said_to_be(started: Host) -> None:
    add(started, "ann", "true", "{prompt}{cwd}")
    task = started.finished(started.submit(agent="ann", description="x" * (2**17 - 1), max_retries=0))
    assert (task["status"], task["result"]["reason"]) == ("failed", "spawn_failed")
    assert "an argument of more than 128 KiB" in task["result"]["error"]
    assert "by stdin or in a file" in task["result"]["error"]


# Who comes and goes.


def test_an_agent_that_was_added_outlives_the_daemon(started: Host, here: Path) -> None:
    """§14 W1: with what it is at; what the books say that it does decides nothing."""
    add(started, "ann", "sh", "-c", "{prompt}", max_concurrency=1, env={"A": "1"}, team="night")
    before = started.call("agent.get", id="ann", env=True)["agent"]
    go = here / "go"
    first = started.submit(cwd=str(here), agent="ann", description=f'[ "$A" = 1 ] && {waits_for(go)}')
    second = started.submit(cwd=str(here), agent="ann", description="true")
    run_id = started.running(first)["id"]
    started.kill()
    with closing(sqlite3.connect(started.paths.tasks_db)) as db:
        db.execute("DELETE FROM agent_states WHERE agent_id = 'ann'")
        db.commit()
    started.start()
    after = started.call("agent.get", id="ann", env=True)["agent"]
    assert after | {"state": None} == before | {"state": None}
    assert (before["env"], before["team"], before["origin"]) == ({"A": "1"}, "night", "added")
    assert started.running(first)["id"] == run_id
    assert why(started, second).startswith("Agent ann is busy")
    with pytest.raises(Refused, match=f"at work on task {first}"):
        started.call("agent.remove", id="ann")
    go.touch()
    assert [started.finished(t)["status"] for t in (first, second)] == ["done", "done"]
    assert started.call("agent.get", id="ann")["agent"]["state"]["status"] == "idle"


def test_work_of_an_agent_that_is_gone_waits_and_holds_up_nobody(started: Host, here: Path) -> None:
    """Nor does the work of one that is busy, however much there is of it."""
    add(started, "ann", "sh", "-c", "{prompt}")
    started.call("queue.set", name="default", paused=True)
    tasks = [{"agent": "ann", "description": "true", "cwd": "/"}] * 300
    first = started.call("task.submit_many", tasks=tasks)["results"][0]["id"]
    other = started.submit("true")
    started.call("agent.remove", id="ann")
    started.call("queue.set", name="default", paused=False)
    assert started.finished(other)["status"] == "done"
    assert why(started, first) == f"Task {first} waits for agent ann, and there is none of that name any more."
    add(started, "bob", "touch", "{prompt}", max_concurrency=1)
    (here / "true").unlink(missing_ok=True)
    assert polpoctl(started, here, "edit", first, "--agent", "bob")[0] == 0
    assert started.finished(first)["assigned_to"] == "bob"
    assert started.call("task.get", id=first)["runs"][0]["command"] == ["touch", "true"]


def test_members_manage_their_own_agents_and_see_no_values(started: Host) -> None:
    if os.geteuid() != 0:
        return  # nobody else to be
    let_in(started.paths.path, started.socket)
    add(started, "ann", "true", env={"KEY": SECRET})
    calls: list[tuple[str, dict[str, Any]]] = [
        ("agent.add", {"name": "theirs", "command": ["true"], "env": {"KEY": SECRET}}),
        ("agent.edit", {"id": "theirs", "role": "r"}),
        ("agent.edit", {"id": "ann", "role": "r"}),
        ("agent.remove", {"id": "ann"}),
        ("agent.get", {"id": "ann", "env": True}),
        ("agent.list", {}),
        ("agent.get", {"id": "ann"}),
        ("agent.remove", {"id": "theirs"}),
    ]
    answers = call_as(NOBODY, started.socket, calls)
    kinds = [answer.get("error", {}).get("data", {}).get("type") for answer in answers]
    assert kinds == [None, None, *["permission_denied"] * 3, None, None, None]
    assert SECRET not in json.dumps(answers)
    assert SECRET not in json.dumps(started.call("event.list", after=0, kinds=["agent:*"])["events"])


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("agent.add", {}, "name"),
    ("agent.add", {"name": ""}, "$.name"),
    ("agent.add", {"name": " ", "command": ["x"]}, "name"),
    ("agent.add", {"name": "a\0b"}, "name"),
    ("agent.add", {"name": "a@1.1"}, "name"),
    ("agent.add", {"name": "x" * 201}, "$.name"),
    ("agent.add", {"name": "a", "command": ["", "x"]}, "$.command[0]"),
    ("agent.add", {"name": "a", "command": "x"}, "$.command"),
    ("agent.add", {"name": "a", "command": [1]}, "$.command[0]"),
    ("agent.add", {"name": "a", "command": ["x"], "prompt": "argument"}, "prompt"),
    ("agent.add", {"name": "a", "prompt": "mind"}, "$.prompt"),
    ("agent.add", {"name": "a", "cwd": "src"}, "$.cwd"),
    ("agent.add", {"name": "a", "env": {"A=": "x"}}, "env"),
    ("agent.add", {"name": "a", "env": {"A": 1}}, "$.env"),
    ("agent.add", {"name": "a", "max_concurrency": 0}, "$.max_concurrency"),
    ("agent.add", {"name": "a", "max_concurrency": 2**60}, "max_concurrency"),
    ("agent.add", {"name": "a", "max_concurrency": -1}, "$.max_concurrency"),
    ("agent.add", {"name": "a", "reports_to": "a"}, "$.reports_to"),
    ("agent.add", {"name": "a", "reports_to": "nobody"}, "$.reports_to"),
    ("agent.add", {"name": "a", "skills": []}, "$.skills"),
    ("agent.add", {"name": "a", "command": ["x"] * 10_000, "role": "r" * 4097}, "$.role"),
    ("agent.add", {"name": "a", "command": ["x" * 2**18]}, "an agent of"),
    ("agent.edit", {"id": "nobody", "role": "r"}, "no agent nobody"),
    ("agent.edit", {"id": "json", "role": "r"}, "is polpo.json's"),
    ("agent.remove", {"id": "json"}, "is polpo.json's"),
    ("agent.remove", {"id": "nobody"}, "no agent nobody"),
    ("agent.get", {"id": "nobody"}, "no agent nobody"),
    ("agent.list", {"limit": 0}, "$.limit"),
    ("task.submit", {"agent": "ann@1.1", "cwd": "/"}, "$.agent"),
    ("task.submit", {"agent": "json", "cwd": "/", "stdin": "/dev/null"}, "$.stdin"),
    ("task.submit", {"agent": 7, "cwd": "/"}, "$.agent"),
]


def test_bad_input_is_refused_at_its_field(started: Host) -> None:
    for method, params, says in BAD:
        with pytest.raises(Refused) as refused:
            started.call(method, **params)
        assert says in str(refused.value), (method, params)
    assert names(started) == ["json"]


def test_agents_are_listed_by_page_and_by_team(started: Host) -> None:
    for number in range(5):
        add(started, f"a{number}", "true", team="odd" if number % 2 else "even")
    page = started.call("agent.list", limit=4)
    rest = started.call("agent.list", limit=4, after=page["next"])
    assert [a["name"] for a in page["agents"] + rest["agents"]] == [*(f"a{n}" for n in range(5)), "json"]
    assert rest["next"] is None
    assert names(started, team="odd") == ["a1", "a3"]


def test_polpoctl_manages_agents(started: Host, here: Path) -> None:
    def said(*words: str) -> str:
        code, out = polpoctl(started, here, "agent", *words)
        assert code == 0, words
        return out

    prompted = ("--command", "sh", "-c", "{prompt}")
    assert said("add", "ann", "--role", "mends", "--env", "A=1", "--env", "B=2", *prompted) == "ann\n"
    said("add", "bob", "--reports-to", "ann", "--slots", "2", "--cwd", ".", "--command", "cat")
    assert said("list").splitlines() == [
        "ann\tdefault\tmends\t\tidle\tadded\tsh -c '{prompt}'",
        "bob\tdefault\t\t2\tidle\tadded\tcat",
        "json\tdefault\t\t\tidle\tpolpo.json\tcat",
    ]
    said("edit", "bob", "--slots", "none", "--reports-to", "", "--team", "night")
    said("edit", "ann", "--env", "A-", "--env", "C=3")
    bob, ann = json.loads(said("show", "bob", "--json")), json.loads(said("show", "ann", "--json", "--values"))
    assert (bob["max_concurrency"], bob["reports_to"], bob["team"]) == (None, None, "night")
    assert (bob["cwd"], bob["prompt"]) == (str(here), "stdin")
    assert ann["env"] == {"B": "2", "C": "3"}
    assert "environment\tB C" in said("show", "ann").splitlines()
    task_id = polpoctl(started, here, "submit", "--agent", "ann", "--description", "true")[1].strip()
    assert started.finished(task_id)["status"] == "done"
    shown = polpoctl(started, here, "show", task_id)[1].splitlines()
    assert f"prompt\tby argument; run {started.task(task_id)['run_id']}: sh -c true" in shown
    assert f"cwd\t{started.root}" in shown  # where agents work that say nothing else, wherever it was submitted
    said("remove", "ann", "bob")
    assert said("list", "--team", "night") == ""
    assert polpoctl(started, here, "agent", "remove", "ann", "json") == (1, "")
    assert polpoctl(started, here, "agent", "show", "ann") == (3, "")


@pytest.mark.parametrize(
    "words",
    [
        ("remove",),
        ("add",),
        ("add", "a", "--slots", "many"),
        ("add", "a", "--env", "novalue"),
        ("add", "a", "--prompt", "mind"),
        ("edit", "ann"),
        ("list", "ann"),
        ("hire", "ann"),
    ],
)
def test_what_polpoctl_agent_cannot_mean_is_a_mistake_of_usage(words: tuple[str, ...]) -> None:
    assert run(["agent", *words]) == 2


# Those of missions.


def mission(host: Host, *tasks: dict[str, Any], **document: Any) -> str:
    """The id of a mission with a team of one, which does what its tasks' descriptions say."""
    team = document.pop("team", [{"name": "ann", "command": ["sh", "-c", "{prompt}"]}])
    text = json.dumps({"tasks": list(tasks), "team": team} | document)
    return str(host.call("mission.create", document=text)["id"])


def execute(host: Host, mission_id: str) -> None:
    """Once, whatever becomes of the daemon meanwhile."""
    with suppress(Refused):  # it is being carried out: the answer was lost
        host.surely("mission.execute", id=mission_id)


def ended(host: Host, mission_id: str) -> str:
    def status() -> str | None:
        found = str(host.surely("mission.get", id=mission_id)["execution"]["status"])
        return found if found in ("completed", "failed", "cancelled") else None

    return until(status, "the execution is over")


def test_a_task_that_names_nobody_is_the_first_agent_s(started: Host) -> None:
    """§13.164: of its team, and without one of all that there are."""
    add(started, "zoe", "true")
    for team, first in (([{"name": "ann", "command": ["true"]}], "ann@{}.1"), ([], "json")):
        mission_id = mission(started, {"title": "t"}, team=team)
        execute(started, mission_id)
        assert ended(started, mission_id) == "completed"
        assert started.call("mission.get", id=mission_id)["tasks"][0]["assigned_to"] == first.format(mission_id)


@pytest.mark.parametrize("point", ["collect.applied:2", "mission.settled", "mission.settled:2"])
def test_a_team_leaves_once_with_its_execution_whenever_the_daemon_dies(host: Host, point: str) -> None:
    """§13.118, §14.6: volatile cleanup at completed."""
    host.start(POLPOD_CRASH_AT=point)
    one, two = (mission(host, {"title": "a", "description": "true"}, {"title": "b", "dependsOn": ["a"],
                "description": "true"}) for _ in range(2))  # fmt: skip
    for mission_id in (one, two):
        execute(host, mission_id)
        assert ended(host, mission_id) == "completed"
    until(lambda: len(host.surely("event.list", after=0, kinds=["daemon:started"])["events"]) == 2, "it has died once")
    assert names(host) == []
    for mission_id in (one, two):
        agents = Counter(told(host, "agent:added", "agent:removed", of=mission_id))
        assert agents == {(f"agent:{kind}", f"agent/ann@{mission_id}.1"): 1 for kind in ("added", "removed")}


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_team_leaves_whatever_becomes_of_its_execution(started: Host, end: str) -> None:
    """§14.6: at failed and at cancelled, too."""
    mission_id = mission(started, {"title": "t", "description": "exit 1" if end == "failed" else "sleep 600",
                                   "maxRetries": 0})  # fmt: skip
    execute(started, mission_id)
    if end == "cancelled":
        until(lambda: started.call("mission.get", id=mission_id)["tasks"][0]["status"] == "in_progress", "it runs")
        started.call("mission.abort", id=mission_id)
    assert ended(started, mission_id) == end
    assert names(started) == ["json"]
    assert told(started, "agent:removed", of=mission_id) == [("agent:removed", f"agent/ann@{mission_id}.1")]


def test_a_team_comes_back_to_an_execution_that_goes_on(started: Host, here: Path) -> None:
    """§8.7: resume with --retry-failed."""
    mission_id = mission(started, {"title": "t", "description": "[ -e mended ]", "maxRetries": 0,
                                   "cwd": str(here)})  # fmt: skip
    execute(started, mission_id)
    assert ended(started, mission_id) == "failed"
    (here / "mended").touch()
    started.call("mission.resume", id=mission_id, retry_failed=True)
    assert ended(started, mission_id) == "completed"
    assert names(started) == ["json"]
    kinds = [kind for kind, _ in told(started, "agent:added", "agent:removed", of=mission_id)]
    assert kinds == ["agent:added", "agent:removed"] * 2


def test_a_team_stays_where_somebody_wants_to_see_it_off(host: Host) -> None:
    """`volatileCleanup: manual`: until it is removed, or its mission is."""
    host.configure(volatileCleanup="manual")
    host.start()
    team = [{"name": name, "command": ["true"], "reportsTo": "bob"} for name in ("ann",)]
    mission_id = mission(host, {"title": "t", "assignTo": "ann"}, team=[*team, {"name": "bob"}])
    execute(host, mission_id)
    assert ended(host, mission_id) == "completed"
    assert names(host) == [f"ann@{mission_id}.1", f"bob@{mission_id}.1"]
    agent = host.call("agent.get", id=f"ann@{mission_id}.1")["agent"]
    assert (agent["volatile"], agent["execution_id"], agent["reports_to"]) == (
        True,
        f"{mission_id}.1",
        f"bob@{mission_id}.1",
    )
    host.call("agent.remove", id=f"ann@{mission_id}.1")
    host.call("mission.delete", id=mission_id)
    assert names(host) == []


def test_without_volatile_teams_nobody_comes(host: Host) -> None:
    """`enableVolatileTeams: false`: a task that names one of the team names nobody, and is refused."""
    host.configure(enableVolatileTeams=False)
    host.start()
    with pytest.raises(Refused, match=r"\$\.tasks\[0\]\.assignTo: there is no agent ann"):
        mission(host, {"title": "t", "assignTo": "ann"})
    mission_id = mission(host, {"title": "t", "command": ["true"]})
    execute(host, mission_id)
    assert ended(host, mission_id) == "completed"
    assert told(host, "agent:added", "agent:removed", of=mission_id) == []


@pytest.mark.parametrize(
    ("team", "says"),
    [
        ([{"name": "ann"}, {"name": "ann"}], "$.team"),
        ([{"name": "ann", "reportsTo": "nobody"}], "$.team[0].reportsTo"),
        ([{"name": "ann", "reportsTo": "bob"}, {"name": "bob", "reportsTo": "ann"}], "a circle: ann → bob → ann"),
        ([{"name": "ann", "reports_to": "bob"}], "reports_to"),
        ([{"name": "a@b"}], "$.team[0]"),
    ],
)
def test_a_team_that_makes_no_sense_is_refused(started: Host, team: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(Refused) as refused:
        mission(started, {"title": "t", "command": ["true"]}, team=team)
    assert says in str(refused.value)
