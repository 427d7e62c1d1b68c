"""What waits for a person, through a real daemon, as people and jobs use it: approvals, questions, budgets (§9.2, W36)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.client import Refused
from kit.host import Host
from kit.jobs import POLPOCTL, tells_token, waits_for
from kit.waiting import until

from polpod.model.events import COMMON, KINDS, fits

GATES = [
    {
        "id": "prod", "name": "to production", "handler": "human", "hook": "task:spawn",
        "condition": {"field": "task.labels.prod", "op": "exists"},
    },
    {
        "id": "look", "hook": "task:complete", "maxRevisions": 1,
        "condition": {"and": [{"field": "task.labels.look", "op": "==", "value": "yes"}]},
    },
    {
        "id": "hasty", "hook": "task:complete", "timeoutMs": 100, "timeoutAction": "approve",
        "condition": {"field": "task.labels.hasty", "op": "exists"},
    },
    {
        "id": "patient", "hook": "task:complete", "timeoutMs": 100,
        "condition": {"field": "task.labels.patient", "op": "exists"},
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def started() -> Iterator[Host]:
    with Host(maxConcurrency=8, approvalGates=GATES) as host:
        host.start()
        yield host
        strange = [event for event in events(host) if not told_of(event)]
        assert strange == []
        assert "Traceback" not in host.log(), host.log()


def events(host: Host) -> Iterator[dict[str, Any]]:
    after = 0
    while page := host.call("event.list", after=after, limit=1000)["events"]:
        yield from page
        after = page[-1]["seq"]


def told_of(event: dict[str, Any]) -> bool:
    """Whether the list of what may happen has it, with all that it says."""
    said = event["body"].keys() - COMMON
    return any(fits(kind.name, event["kind"]) and (kind.fields is None or said <= kind.fields) for kind in KINDS)


def polpoctl(host: Host, *words: str, code: int = 0) -> str:
    env = {n: v for n, v in os.environ.items() if not n.startswith("POLPO_")} | {"POLPO_SOCKET": host.socket}
    done = subprocess.run(
        [sys.executable, "-m", "polpoctl", *words], capture_output=True, text=True, env=env, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def in_state(host: Host, task_id: str, *statuses: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        task = host.task(task_id)
        return task if task["status"] in statuses else None

    return until(there, f"task {task_id} is {' or '.join(statuses)}")


def parked(host: Host, task_id: str) -> dict[str, Any]:
    """The request that is pending about the task, once it waits."""
    request: dict[str, Any] = in_state(host, task_id, "awaiting_approval")["approval"]
    assert (request["status"], request["task_id"]) == ("pending", task_id)
    return request


def kinds(host: Host, task_id: str) -> list[str]:
    events = host.call("event.list", after=0, subject=f"task/{task_id}")["events"]
    return [
        e["kind"] for e in events if e["kind"].startswith(("approval:", "budget:", "task:question", "task:answered"))
    ]


def test_a_start_is_approved_or_rejected(started: Host) -> None:
    """W36: an approved start starts; a rejected one is cancelled; both are decided once."""
    ids = [started.submit("true", needs_approval=True) for _ in range(2)]
    request = parked(started, ids[0])
    assert request["kind"] == "start"
    assert request["id"] in [r["id"] for r in json.loads(polpoctl(started, "approval", "--json"))]
    assert ids[0] in polpoctl(started, "approval", "list")
    assert "polpoctl approval approve" in polpoctl(started, "why", ids[0])
    polpoctl(started, "approval", "approve", ids[0])
    polpoctl(started, "approval", "reject", parked(started, ids[1])["id"])
    assert in_state(started, ids[0], "done")["approval_id"] is None
    assert started.task(ids[1])["status"] == "cancelled"
    assert "already" in polpoctl(started, "approval", "approve", ids[0], code=1)
    assert "no approval" in polpoctl(started, "approval", "show", "nothing", code=3)
    decided = [started.call("approval.get", id=task_id)["approval"]["status"] for task_id in ids]
    assert decided == ["approved", "rejected"]
    assert kinds(started, ids[0]) == ["approval:requested", "approval:resolved"]


def test_every_other_way_out_resolves_the_request_too(started: Host) -> None:
    """W36: retry, cancel, remove."""
    ids = {verb: started.submit("true", needs_approval=True) for verb in ("retry", "cancel", "remove")}
    requests = {verb: parked(started, task_id)["id"] for verb, task_id in ids.items()}
    for verb, task_id in ids.items():
        started.call(f"task.{verb}", select={"ids": [task_id]})
    statuses = {r["id"]: r["status"] for r in started.call("approval.list", status=None)["approvals"]}
    found = {verb: statuses.get(request_id) for verb, request_id in requests.items()}
    assert found == {"retry": "approved", "cancel": "rejected", "remove": None}
    assert kinds(started, ids["remove"]) == ["approval:requested", "approval:resolved"]
    in_state(started, ids["retry"], "done")


def test_gates_hold_what_they_say_and_a_reload_doubles_none(started: Host) -> None:
    """W36, §9.2 [P16]: one request a task, however often the configuration was read."""
    started.call("daemon.reload")
    held = started.submit("true", labels={"prod": "1"})
    assert (parked(started, held)["gate_id"], parked(started, held)["gate_name"]) == ("prod", "to production")
    judged = started.submit("true", labels={"look": "yes"}, description="do it")
    assert parked(started, judged)["kind"] == "done"
    started.call("daemon.reload")
    about = [r["task_id"] for r in started.call("approval.list")["approvals"]]
    assert (about.count(held), about.count(judged)) == (1, 1)
    polpoctl(started, "approval", "reject", judged, "--feedback", "once more")
    again = until(
        lambda: t if (t := started.task(judged))["status"] == "awaiting_approval" and t["attempts"] == 2 else None,
        "it was done over",
    )
    assert "once more" in again["description"]
    assert (again["revision_count"], again["retries"], again["approval"]["revision"]) == (1, 0, 1)
    polpoctl(started, "approval", "reject", judged, "--feedback", "and again")
    assert started.task(judged)["status"] == "failed"
    assert f"failed: uid {os.geteuid()} rejected it" in polpoctl(started, "why", judged)
    assert "rejected it" in str(started.call("task.wait", ids=[judged])["tasks"])
    free = started.submit("true")
    assert started.finished(free)["status"] == "done"


def test_what_is_said_must_fit_into_what_the_agent_is_given(started: Host) -> None:
    """Refused while somebody can say it shorter, rather than with the run that cannot start."""
    started.call("agent.add", name="short", command=["true", "{prompt}"])
    task_id = started.submit(agent="short", description="x" * 125_000, needs_approval=True)
    parked(started, task_id)
    with pytest.raises(Refused, match=r"an argument of 1[0-9]{5} bytes"):
        started.call("approval.approve", id=task_id, feedback="y" * 19_000)
    started.call("approval.approve", id=task_id, feedback="y")
    assert started.finished(task_id)["status"] == "done"


def test_deadlines_are_told_and_do_only_what_was_declared(started: Host) -> None:
    """F89: timeout is not denial."""
    hasty, patient = (started.submit("true", labels={name: "1"}) for name in ("hasty", "patient"))
    in_state(started, hasty, "done")
    until(lambda: "approval:timeout" in kinds(started, patient), "the deadline was told")
    request = parked(started, patient)
    assert request["timed_out_at"] is not None
    (decided,) = started.call("approval.list", task_id=hasty, status=None)["approvals"]
    assert (decided["status"], decided["resolved_by"]) == ("timeout", "timeout")
    polpoctl(started, "approval", "approve", patient)
    assert started.task(patient)["status"] == "done"


def test_work_with_side_effects_that_was_lost_is_asked_about(started: Host) -> None:
    """W7, W36 [P32, P33]: parked with a request, and approved it goes on."""
    once = started.root / "once"
    task_id = started.submit(shell=f"[ -e {once} ] || {{ touch {once}; exec sleep 600; }}", side_effects=True)
    run = started.running(task_id)
    until(once.exists, "its job has begun")
    os.kill(run["pid"], 9)
    request = parked(started, task_id)
    assert request["kind"] == "lost"
    polpoctl(started, "approval", "approve", request["id"])
    assert in_state(started, task_id, "done")["recoveries"] == 0


def test_a_job_asks_ends_and_goes_on_with_the_answer(started: Host) -> None:
    """§9.1: a question parks the run and resumes exactly one; what the next needs is in POLPO_CONTEXT."""
    context = started.root / "context"
    job = (
        f'if [ -n "$POLPO_CONTEXT" ]; then cp "$POLPO_CONTEXT" {context}; exit 0; fi; '
        f"echo '{{\"at\": 3}}' | {POLPOCTL} checkpoint save && "
        f"{POLPOCTL} cost add --usd 0.25 --provider p --model m --in 10 && {POLPOCTL} ask which way"
    )
    task_id = started.submit(shell=job, description="walk")
    request = parked(started, task_id)
    assert (request["kind"], request["message"]) == ("question", "which way")
    assert started.task(task_id)["phase"] == "clarification"
    assert "polpoctl answer" in polpoctl(started, "why", task_id)
    assert "polpoctl answer" in polpoctl(started, "approval", "approve", task_id, code=1)
    polpoctl(started, "answer", task_id, "to", "the", "left")
    assert "already" in polpoctl(started, "answer", request["id"], "right", code=1)
    done = in_state(started, task_id, "done")
    assert (done["attempts"], done["retries"], done["question_rounds"]) == (2, 0, 1)
    assert done["description"].count("to the left") == 1
    kept = json.loads(context.read_text())
    assert (kept["checkpoint"], kept["spent"]["money"]) == ({"at": 3}, 0.25)
    assert (kept["approval"]["message"], kept["approval"]["feedback"]) == ("which way", "to the left")
    assert kinds(started, task_id) == [
        "task:question", "approval:requested", "task:answered", "approval:resolved",
    ]  # fmt: skip


def test_a_job_waits_for_the_answer_and_nothing_is_parked(started: Host) -> None:
    said, later = started.root / "said", started.root / "later"
    late = f"{POLPOCTL} ask --wait --timeout 0 'are you there?' 2> {said}; [ $? = 124 ] || exit 9"
    task_id = started.submit(shell=f"{late}; touch {later}; {POLPOCTL} ask --wait 'are you there?' > {said} && exit 0")
    until(lambda: later.exists() and started.task(task_id)["approval"], "it asks")
    assert "asks: are you there?" in polpoctl(started, "why", task_id)
    polpoctl(started, "answer", task_id, "yes")
    done = in_state(started, task_id, "done")
    assert (said.read_text(), done["attempts"], done["question_rounds"]) == ("yes\n", 1, 1)


def test_a_check_asks_nobody(started: Host) -> None:
    """Nothing would wait for the answer: its question was taken, and rejected at once."""
    check = {"type": "test", "command": f"{POLPOCTL} ask 'is it good?'"}
    task_id = started.submit("true", expectations=[check])
    assert started.finished(task_id)["status"] == "failed"
    (found,) = started.task(task_id)["result"]["assessment"]["checks"]
    assert "a check asks nobody" in found["output"]
    assert kinds(started, task_id) == []


def test_a_task_asks_no_more_often_than_it_may(started: Host) -> None:
    refused = started.root / "refused"
    asks = " && ".join(f"{POLPOCTL} ask --wait q{n}" for n in range(2))
    task_id = started.submit(shell=f"{asks} && {POLPOCTL} ask q2 2> {refused}; echo $? >> {refused}")
    for n in range(2):
        until(lambda n=n: (a := started.task(task_id)["approval"]) and a["message"] == f"q{n}", f"q{n} is asked")  # type: ignore[misc]
        polpoctl(started, "answer", task_id, "yes")
    assert in_state(started, task_id, "done")
    assert "maxQuestionRounds" in refused.read_text()
    assert refused.read_text().endswith("1\n")


def test_from_inside_a_run_nobody_decides(started: Host) -> None:
    token, go = started.root / "token", started.root / "go"
    other = started.submit("true", needs_approval=True)
    asking = started.submit(shell=f"{tells_token(token)}; {waits_for(go)}")
    until(token.exists, "it has a token")
    run_id, secret = token.read_text().split()
    with started.client() as client:
        client.call("run.identify", run_id=int(run_id), token=secret)
        asked = client.call("approval.ask", text="may I?")["approval"]
        assert client.call("approval.ask", text="may I?")["approval"]["id"] == asked["id"]
        assert client.error("approval.ask", text="something else?") == "conflict"
        for name, method, more in (
            (other, "approve", {}), (asking, "answer", {"text": "yes"}), (other, "reject", {}),
        ):  # fmt: skip
            assert client.error(f"approval.{method}", id=name, **more) == "permission_denied"
    go.touch()
    assert parked(started, asking)["id"] == asked["id"]
    assert started.task(other)["status"] == "awaiting_approval"


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "blank": ("approval.answer", {"id": "1", "text": " \n"}),
    "long": ("approval.answer", {"id": "1", "text": "x" * 20_001}),
    "nul": ("approval.approve", {"id": "1", "feedback": "a\0b"}),
    "wrong type": ("approval.reject", {"id": 1}),
    "unknown field": ("approval.approve", {"id": "1", "force": True}),
    "nothing": ("approval.get", {"id": ""}),
    "negative": ("task.submit", {"command": ["true"], "budget": {"money": -1}}),
    "zero": ("task.submit", {"command": ["true"], "budget": {"tokens": 0}}),
    "huge": ("task.submit", {"command": ["true"], "budget": {"money": 1e300}}),
    "no such budget": ("task.submit", {"command": ["true"], "budget": {"euros": 1}}),
}


def test_what_makes_no_sense_is_refused(started: Host) -> None:
    task_id = started.submit("true", needs_approval=True)
    with started.client() as client:
        for what, (method, params) in BAD.items():
            asked = params | ({"id": task_id} if params.get("id") == "1" else {})
            with pytest.raises(Refused) as refused:
                client.call(method, **{"cwd": str(started.root)} | asked if method == "task.submit" else asked)
            assert refused.value.word == "invalid", what
    assert parked(started, task_id)


@pytest.mark.parametrize(
    ("gate", "where"),
    [
        ({"id": "g", "hook": "task:never"}, "hook"),
        ({"id": "g", "hook": "task:spawn", "handler": "auto"}, "handler"),
        ({"id": " ", "hook": "task:spawn"}, "id"),
        ({"id": "g", "hook": "task:spawn", "condition": {"expression": "true"}}, "condition"),
        ({"id": "g", "hook": "task:spawn", "timeoutMs": -1}, "timeoutMs"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused_with_its_path(tmp_path: Path, gate: dict[str, Any], where: str) -> None:
    from polpod.config import parse
    from polpod.errors import InvalidConfig

    with pytest.raises(InvalidConfig, match=rf"\$\.settings\.approvalGates\[0\]\.?.*{where}|{where}"):
        parse(json.dumps({"settings": {"approvalGates": [gate]}}).encode(), "polpo.json")


# Budgets.


def pays(usd: float, times: int) -> str:
    """A job whose calls of a model cost that much each, and which then goes on."""
    call = f"{POLPOCTL} cost add --usd {usd} --provider p --model m --in 100"
    return f"for i in $(seq {times}); do {call}; done; exec sleep 600"


def test_a_task_over_its_budget_stops_asks_and_goes_on(started: Host) -> None:
    """F90: the event, the end that is no failure, the question with what was spent of what, and two ways to go on."""
    task_id = polpoctl(started, "submit", "--cwd", "/", "--budget", "money=0.15,cpu=1h", "--", "sh", "-c", pays(0.1, 2))
    task_id = task_id.strip()
    request = parked(started, task_id)
    assert (request["kind"], request["message"]) == ("budget", "0.20 USD spent of 0.15 USD")
    task = started.task(task_id)
    assert (task["retries"], task["result"]["reason"], task["over_budget"]) == (0, "cancelled", "money")
    assert kinds(started, task_id) == ["budget:exceeded", "approval:requested"]
    assert "0.20 USD spent of 0.15 USD" in polpoctl(started, "why", task_id)
    assert "over its budget" in str(started.call("task.retry", select={"ids": [task_id]}))
    assert "allow more" in polpoctl(started, "approval", "approve", task_id, "--budget", "money=0.19", code=1)
    polpoctl(started, "approval", "approve", task_id, "--budget", "money=0.25")
    until(lambda: started.task(task_id)["attempts"] == 2 and started.task(task_id)["approval"], "it is over it again")
    task = parked(started, task_id) and started.task(task_id)
    assert task["budget"] == {"money": 0.25, "cpu_time": 3600}
    polpoctl(started, "approval", "reject", task_id)
    assert started.task(task_id)["status"] == "failed"


@pytest.mark.parametrize(
    ("budget", "shell", "what"),
    [
        ({"wall_time": 0.3}, "exec sleep 600", "wall_time"),
        ({"cpu_time": 0.2}, "while :; do :; done", "cpu_time"),
        ({"disk": 20_000}, "head -c 100000 /dev/zero; exec sleep 600", "disk"),
    ],
)
def test_time_and_disk_have_budgets_too(started: Host, budget: dict[str, Any], shell: str, what: str) -> None:
    """F90: never killed silently, never tried again by itself."""
    task_id = started.submit(shell=shell, budget=budget, max_retries=3)
    assert parked(started, task_id)["kind"] == "budget"
    task = started.task(task_id)
    assert (task["over_budget"], task["retries"]) == (what, 0)
    assert kinds(started, task_id).count("budget:exceeded") == 1


def about_project(host: Host) -> list[dict[str, Any]]:
    return [r for r in host.call("approval.list")["approvals"] if r["project"] is not None]


def test_of_a_project_over_its_budget_nothing_more_starts(started: Host) -> None:
    """F90: computed, explained by why, released by an approval."""
    started.call("project.add", id="web", budget=1.0)
    first = started.submit("true", project="web")
    in_state(started, first, "done")
    usage = {"provider": "p", "model": "m", "input_tokens": 1, "task_id": first}
    started.call("cost.add", usd=0.9, **usage)
    assert about_project(started) == []
    started.call("cost.add", usd=0.9, **usage)
    started.call("cost.add", usd=0.9, **usage)
    (request,) = about_project(started)
    assert (request["project"], request["kind"]) == ("web", "budget")
    second, other = started.submit("true", project="web"), started.submit("true")
    in_state(started, other, "done")
    assert started.task(second)["state"] == "paused"
    assert "Project web is over its budget" in polpoctl(started, "why", second)
    assert "nothing of project web starts" in polpoctl(started, "approval", "reject", request["id"], code=1)
    polpoctl(started, "approval", "approve", request["id"], "--budget", "money=3")
    in_state(started, second, "done")


def test_of_a_mission_over_its_budget_nothing_more_starts(started: Host) -> None:
    """F90: what runs goes on, and one approval lets the rest start."""
    go = started.root / "go-mission"
    document = {
        "budget": {"money": 1.0},
        "tasks": [
            {"title": "first", "shell": waits_for(go), "cwd": str(started.root)},
            {"title": "second", "shell": "true", "cwd": str(started.root), "dependsOn": ["first"]},
        ],
    }
    mission = started.call("mission.create", document=json.dumps(document), name="web")["id"]
    started.call("mission.execute", id=mission)
    tasks = {t["title"]: t["id"] for t in started.call("mission.get", id=mission)["tasks"]}
    started.running(tasks["first"])
    for _ in range(2):
        started.call(
            "cost.add", usd=0.9, provider="p", model="m", input_tokens=1, task_id=tasks["first"]
        )  # fmt: skip
    (request,) = [r for r in started.call("approval.list")["approvals"] if r["mission_id"] == mission]
    assert (request["mission_id"], request["message"]) == (mission, "1.80 USD spent of 1.00 USD")
    go.touch()
    in_state(started, tasks["first"], "done")
    assert started.call("mission.get", id=mission)["execution"]["status"] == "paused"
    assert "over its budget" in polpoctl(started, "why", tasks["second"])
    assert request["id"] in polpoctl(started, "mission", "resume", mission, code=1)
    polpoctl(started, "approval", "approve", request["id"])
    until(lambda: started.call("mission.get", id=mission)["mission"]["status"] == "completed", "it is over")


def test_an_approval_that_a_library_stored_moves_no_task(started: Host) -> None:
    """Polpo 63: others' requests are theirs."""
    task_id = started.submit("true", hold=True)
    assert "nobody has to approve" in polpoctl(started, "approval", "approve", task_id, code=3)
    with started.client() as client:
        assert client.error("approval.get", id="a99") == "not_found"
