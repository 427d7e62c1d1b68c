"""What waits for a person, and what work may spend, through deaths of the daemon (F89, F90)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kit.fault import fault
from kit.host import Host
from kit.jobs import POLPOCTL
from kit.waiting import until

GATE = {
    "id": "patient", "hook": "task:complete", "timeoutMs": 300,
    "condition": {"field": "task.labels.patient", "op": "exists"},
}  # fmt: skip


def pending(host: Host, task_id: str) -> dict[str, Any]:
    """The request about the task, once that waits; whatever dies meanwhile is started again."""

    def waits() -> dict[str, Any] | None:
        task = host.surely("task.get", id=task_id)["task"]
        return task["approval"] if task["status"] == "awaiting_approval" else None

    found = until(waits, f"task {task_id} waits for a person")
    assert found["status"] == "pending"
    return found


def anew(host: Host, **env: str) -> None:
    host.kill()
    host.start(**env)


def kinds(host: Host, task_id: str) -> list[str]:
    events = host.call("event.list", after=0, subject=f"task/{task_id}")["events"]
    return [e["kind"] for e in events if e["kind"].startswith(("approval:", "budget:"))]


@fault(
    89,
    "an approval is lost in a restart, or a deadline that passes counts as a person's no",
    promise="What a person is asked is a row, stored with what waits for it: it survives every death of the daemon, and one "
    "answer counts, once. A deadline that passes is told; only what was declared for that case is done.",
    injected="SIGKILL of the daemon after the question, while the run's end is applied, while it waits, right after the "
    "answer, and over a deadline; the answer given twice",
    seen_failing="the request made by a service after the transaction in which the task parks; the deadline told from a timer; "
    "the check that a request is still pending",
)
def test_f89_a_request_survives_and_is_answered_once(host: Host) -> None:
    host.configure(approvalGates=[GATE])
    host.start(POLPOD_CRASH_AT="collect.applied", POLPOD_CRASH_ONCE=str(host.root / "died"))
    trace = host.root / "trace"
    asks = f'echo run >> {trace}; [ -n "$POLPO_CONTEXT" ] || {POLPOCTL} ask "which way?"'
    asking = host.submit(shell=asks, description="walk")
    request = pending(host, asking)
    until((host.root / "died").exists, "the daemon has died")
    late = host.surely("task.submit", shell="true", cwd=str(host.root), labels={"patient": "1"})["id"]
    waiting = pending(host, late)
    host.kill()
    until(lambda: _passed(waiting["deadline"]), "the deadline passes while nobody is there")
    host.start()
    assert pending(host, asking)["id"] == request["id"]
    until(lambda: "approval:timeout" in kinds(host, late), "that it passed was told")
    anew(host)
    assert pending(host, late)["id"] == waiting["id"]
    assert kinds(host, late).count("approval:timeout") == 1
    host.call("approval.answer", id=asking, text="left")
    anew(host)
    with host.client() as client:
        assert client.error("approval.answer", id=request["id"], text="right") == "conflict"
    task = host.finished(asking)
    assert (task["status"], task["description"].count("left")) == ("done", 1)
    assert trace.read_text() == "run\n" * 2
    assert kinds(host, asking) == ["approval:requested", "approval:resolved"]
    host.call("approval.approve", id=late)
    assert host.task(late)["status"] == "done"


def _passed(deadline: str) -> bool:
    return datetime.fromisoformat(deadline) < datetime.now(UTC)


@fault(
    90,
    "a cost cap is not kept, or kills work without a word",
    promise="A budget is looked at with each record of use, in the transaction that stores it. What spends more is ended in "
    "order, is no failure and is not tried again; a person is told what was spent of what, and lets it go on or not.",
    injected="a stream of usage records, with the daemon killed right after the record that was too much, before anything "
    "was ended",
    seen_failing="recovery's look at what was over its budget; the row of the outcome table that parks",
)
def test_f90_a_budget_holds_and_asks(host: Host) -> None:
    host.start(POLPOD_CRASH_AT="kill.noted")
    call = f"{POLPOCTL} cost add --usd 0.05 --provider p --model m --in 10"
    spends = f"for i in 1 2 3; do {call}; done; exec sleep 600"
    task_id = host.submit(shell=spends, budget={"money": 0.12}, max_retries=3, kill_grace=0.2)
    until(host.survive, "the daemon died between the record and the end of the run", 60)
    request = pending(host, task_id)
    assert request["kind"] == "budget"
    task = host.task(task_id)
    assert (task["attempts"], task["retries"], task["over_budget"]) == (1, 0, "money")
    assert task["spent"]["tokens"] == 30
    assert [r["status"] for r in host.runs(task_id)] == ["killed"]
    assert kinds(host, task_id) == ["budget:exceeded", "approval:requested"]
    costs = host.call("cost.report", by="task")["costs"]
    assert round(costs[0]["usd"], 9) == round(task["spent"]["money"], 9)
    anew(host)
    host.call("approval.reject", id=task_id)
    assert host.task(task_id)["status"] == "failed"
