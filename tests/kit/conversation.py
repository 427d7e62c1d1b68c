"""A conversation with a real polpod in which each of its methods is called: where the examples of `rpc.discover` come from.

What was asked and answered first for a method is its example, with what differs each time (instants, process numbers,
secrets, the directory) in one form.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from kit.client import Client
from kit.host import Host
from kit.jobs import tells_token, waits_for
from kit.waiting import until

ROOT = "/srv/builds"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
SECRET = re.compile(
    r"(?<=polpo_)[\w-]{30,}|\b[0-9a-f]{16,64}\b|(?<=polpod-a)[0-9a-f]+|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=-)[0-9a-f]{8}\b"
)
MEASURED = {
    **dict.fromkeys(("pid", "job_pid"), 4242), **dict.fromkeys(("start_ticks", "job_start_ticks"), 123456),
    **dict.fromkeys(("uptime", "duration", "cpu_seconds", "median_duration", "p95_duration", "wall_time", "cpu_time"), 0.25),
    **dict.fromkeys(("pid_ns", "pidfd_inode"), 4026531836), **dict.fromkeys(("max_rss", "peak_memory"), 4194304),
    "bytes": 500000, "log_bytes": 4096, "evaluation_duration_ms": 0.5,
}  # fmt: skip
"""What a number is in an example that is another one each time."""

DOCUMENT = {
    "tasks": [
        {"title": "compile", "shell": "echo compiled"},
        {"title": "publish", "shell": "echo published", "dependsOn": ["compile"]},
    ],
    "checkpoints": [{"name": "sign-off", "afterTasks": ["compile"], "blocksTasks": ["publish"]}],
}
WORKFLOW = {
    "id": "release",
    "name": "Release",
    "nodes": [
        {"id": "s", "type": "start", "label": "start"},
        {"id": "build", "type": "task", "label": "Build", "config": {"shell": "echo built"}},
        {"id": "e", "type": "end", "label": "end"},
    ],
    "edges": [
        {"id": "1", "source_node_id": "s", "target_node_id": "build"},
        {"id": "2", "source_node_id": "build", "target_node_id": "e"},
    ],
}


class Conversation:
    """`said` has what was asked and answered, in order: method, params, result."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.said: list[tuple[str, dict[str, Any], Any]] = []
        self._client = host.client()

    def call(self, method: str, /, _by: Client | None = None, **params: Any) -> Any:
        result = (_by or self._client).call(method, **params)
        self.said.append((method, params, result))
        return result

    def close(self) -> None:
        self._client.close()

    def examples(self) -> dict[str, dict[str, Any]]:
        """By method."""
        found: dict[str, dict[str, Any]] = {}
        for method, params, result in self.said:
            if method == "daemon.status":  # what this host can do
                result = result | {"limits": dict.fromkeys(("memory_max", "cpus", "tasks_max")) | {"nice_from": -20}}
            if method == "daemon.metrics":  # what differs each time, whole
                result = result | {"text": '# TYPE polpod_health gauge\npolpod_health{check="store"} 1.0\n# EOF\n'}
            if method == "rpc.discover":
                result = result | {"methods": [], "components": {"schemas": {}, "errors": {}}}  # it would be in itself
            found.setdefault(method, {"params": self._steady(params), "result": self._steady(result)})
        return found

    def _steady(self, value: Any, name: str = "") -> Any:
        """The value in the form that it has each time."""
        match value:
            case dict():
                return {key: self._steady(inner, key) for key, inner in value.items()}
            case list():
                return [self._steady(inner, name) for inner in value]
            case str():
                text = INSTANT.sub("2026-11-21T12:00:00.000000Z", value.replace(str(self.host.root), ROOT))
                return SECRET.sub(lambda found: re.sub(r"[^-]", "0", found[0]), text)
            case int() | float() if name in MEASURED and not isinstance(value, bool):
                return MEASURED[name]
        return value


def converse(host: Host) -> Conversation:
    """Configure and start the host, and talk with it until it has stopped."""
    settings = {
        "reserve": 0,
        "maxConcurrency": 4,
        "notifications": {"channels": {"log": {"type": "command", "command": ["true"]}}},
    }
    agents = [{"name": "ann", "role": "writes", "command": ["echo", "{prompt}"]}]
    Path(host.paths.config).write_text(json.dumps({"settings": settings, "agents": agents}))
    host.start()
    until(lambda: host.call("daemon.health")["ok"], "it has recovered")
    conversation = Conversation(host)
    for part in (_daemon, _people, _tasks, _run, _approvals, _missions, _workflows, _a2a, _records, _end):
        part(conversation.call, host)
    conversation.close()
    assert host.daemon is not None
    host.daemon.wait(60)
    return conversation


def _daemon(call: Any, host: Host) -> None:
    call("daemon.status")
    call("daemon.health")
    call("daemon.metrics")
    call("rpc.discover")
    call("queue.set", name="tests", slots=2)
    call("queue.list")


def _people(call: Any, host: Host) -> None:
    call("project.add", id="polpod", description="The daemon", lead="ann", team=["ann"])
    call("project.get", id="polpod")
    call("project.list", limit=10)
    call("preset.add", name="terse", config_json='{"words": "few"}')
    call("preset.get", id="terse")
    call("preset.list")
    user = call("user.add", username="ann", role="manager")["user"]["id"]
    call("user.get", id=user)
    call("user.list")
    key = call("key.add", user="ann", name="laptop")["key"]["id"]
    call("key.get", id=key)
    call("key.list")
    call("key.revoke", id=key)
    call("key.remove", id=key)
    call("user.remove", id=user)
    call("preset.remove", id="terse")
    call("agent.add", name="bob", command=["echo", "{prompt}"], role="reviews", reports_to="ann")
    call("agent.get", id="bob")
    call("agent.edit", id="bob", role="reviews and tests")
    call("agent.list")
    call("agent.remove", id="bob")


def _tasks(call: Any, host: Host) -> None:
    fields = {"cwd": str(host.root)}
    expected = [{"type": "test", "command": "test -d ."}]
    built = call(
        "task.submit", command=["echo", "built"], title="build", labels={"env": "test"}, expectations=expected, **fields
    )["id"]
    held = call("task.submit", shell="exit 3", hold=True, depends_on=[built], **fields)["id"]
    many = [{"command": ["true"]}, {"command": ["true"], "depends_on": ["4711"]}]
    other = call("task.submit_many", defaults={"queue": "tests", "hold": True} | fields, tasks=many)["results"][0]["id"]
    call("task.wait", ids=[built])
    call("task.get", id=built)
    call("task.list", all=True, select={"labels": {"env": "test"}})
    call("task.estimate", ids=[built])
    call("task.logs", id=built, phase="execution")
    call("run.list", task_id=built)
    call("run.get", id=1)
    call("run.processes", id=1)
    call("run.usage", id=1)
    call("task.reassess", select={"ids": [built]})
    call("task.why", id=held)
    call("task.update", id=held, priority=5, title="fails")
    call("task.release", select={"ids": [held]})
    call("task.wait", ids=[held])
    call("task.retry", select={"ids": [held]})
    call("task.hold", select={"queue": "tests", "status": ["pending"]})
    call("task.cancel", select={"ids": [other]})
    call("task.remove", select={"ids": [other]})
    call("task.wait", ids=[built, held])


def _run(call: Any, host: Host) -> None:
    told, go = host.root / "token", host.root / "go"
    task = call("task.submit", shell=f"{tells_token(told)}; {waits_for(go)}", cwd=str(host.root))["id"]
    until(told.exists, "the job has a token")
    run_id, token = told.read_text().split()
    with host.client() as job:
        call("run.identify", _by=job, run_id=int(run_id), token=token)
        call("run.progress", _by=job, percent=40, text="linking")
        call("run.activity", _by=job, text="still linking")
        call("checkpoint.save", _by=job, context_json='{"page": 2}')
        call("checkpoint.get", _by=job)
        data = b"a program\n"
        upload = call("artifact.begin", _by=job, path="build/program", size=len(data))["id"]
        call("artifact.write", _by=job, id=upload, offset=0, data=base64.b64encode(data).decode())
        call("artifact.end", _by=job, id=upload, sha256=hashlib.sha256(data).hexdigest())
        call("artifact.list", _by=job)
        call("artifact.get", _by=job, id=upload)
        call("artifact.remove", _by=job, id=upload)
        call("cost.add", _by=job, usd=0.02, provider="example", model="small", input_tokens=1200, output_tokens=80)
        call("cost.report", _by=job)
        call("message.send", _by=job, channel="builds", text="linked")
        call("message.history", _by=job, channel="builds")
        question = call("approval.ask", _by=job, text="Publish it now?")["approval"]["id"]
        call("approval.answer", id=question, text="Yes.")
        call("approval.await", _by=job, id=question, timeout=5)
    ended = "2026-11-21T12:00:00.000000Z"
    report = {"status": "completed", "reason": "exited", "exit_code": 0, "ended_at": ended}
    call("run.report", id=int(run_id), nonce="0" * 32, **report)  # not its nonce: it is not believed
    go.touch()
    call("task.wait", ids=[task])


def _approvals(call: Any, host: Host) -> None:
    first, second = (
        call("task.submit", command=["true"], needs_approval=True, cwd=str(host.root))["id"] for _ in range(2)
    )
    call("approval.list")
    call("approval.get", id=first)
    call("approval.approve", id=first, feedback="Go on.")
    call("approval.reject", id=second, feedback="Not today.")


def _missions(call: Any, host: Host) -> None:
    call("mission.create", name="release", document=json.dumps(DOCUMENT), prompt="Publish a release.")
    call("mission.execute", id="release")
    call("mission.wait", id="release")
    call("mission.get", id="release")
    call("mission.list")
    call("mission.graph", id="release")
    call("mission.document", id="release")
    call("mission.executions", id="release")
    call("mission.resume", id="release", barrier="sign-off")
    call("mission.wait", id="release")
    host.call("queue.set", name="default", paused=True)  # else it may have come to its barrier by then
    call("mission.execute", id="release")
    call("mission.pause", id="release")
    call("mission.abort", id="release")
    host.call("queue.set", name="default", paused=False)
    call("schedule.set", id="release", expression="0 3 * * 1-5", timezone="Europe/Rome")
    call("schedule.get", id="release")
    call("schedule.list")
    call("schedule.next", id="release", limit=2)
    call("schedule.disable", id="release")
    call("schedule.enable", id="release")
    call("schedule.remove", id="release")
    call("mission.wait", id="release")
    call("mission.delete", id="release")


def _workflows(call: Any, host: Host) -> None:
    call("workflow.add", definition=WORKFLOW)
    call("workflow.get", id="release")
    call("workflow.list")
    call("workflow.save", id="release", version=1, definition=WORKFLOW | {"description": "What goes out"})
    execution = call("workflow.execute", id="release")["execution"]["id"]
    call("mission.wait", id="Release")
    call("workflow_execution.get", id=execution)
    call("workflow_execution.list", workflow="release")
    call("workflow.add", id="draft", definition=WORKFLOW | {"name": "Draft"})
    call("workflow.remove", id="draft")


def _a2a(call: Any, host: Host) -> None:
    message = {"role": "user", "parts": [{"type": "text", "text": "What does it do?"}]}
    call("a2a.upsert", params={"id": "question-1", "message": message})
    call("a2a.get", id="question-1", history_length=1)
    task = call("a2a.assign", id="question-1", agent="ann")["task_id"]
    call("task.wait", ids=[task])
    call("a2a.list", limit=10)
    call("a2a.update", id="question-1", changes={"metadata": {"read": True}})
    call("a2a.remove", id="question-1")


def _records(call: Any, host: Host) -> None:
    call("collaboration.add", agent_id="ann", delegation_success=True, handoff_completeness=0.9)
    found = call("collaboration.list")["collaborations"][0]["id"]
    call("collaboration.get", id=found)
    call("collaboration.remove", id=found)
    parked = call("context.add", execution_id="17", agent_id="ann", approval_id="a1", context_json='{"page": 2}')
    call("context.get", id=parked["context"]["id"])
    call("context.list")
    call("context.remove", id=parked["context"]["id"])
    call("project.remove", id="polpod")


def _end(call: Any, host: Host) -> None:
    call("notification.test", name="log")
    call("notification.list", channel="log")
    call("audit.list", limit=2)
    call("stats.runs", by="queue")
    call("event.list", after=0, limit=2)
    with host.client() as watching:
        number = call("event.subscribe", _by=watching, kinds=["task:*"])["subscription"]
        call("event.unsubscribe", _by=watching, subscription=number)
    call("store.backup", path=str(host.root / "backup"))
    call("store.prune", dry_run=True)
    call("daemon.reload")
    until(lambda: host.call("daemon.health")["ok"], "it goes on")
    call("daemon.shutdown")
