"""`show`: what a task is, how it stands, and its runs, oldest first."""

from __future__ import annotations

import time

from polpoctl import exits
from polpoctl.client import connect
from polpoctl.render import Screen
from polpoctl.runtable import print_runs
from polpoctl.sizes import short as short_size
from polpoctl.times import ago, local, short

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the task")
    parser.add_argument("--env", action="store_true", help="with the values of its environment, not the names alone")


def run(args: Namespace) -> int:
    answer = connect(args).call("task.get", {"id": args.id} | ({"env": True} if args.env else {}))
    screen = Screen(args)
    if screen.json:
        screen.value(answer)
        return exits.OK
    task, spec = answer["task"], answer["task"]["spec"] or {}
    now = time.time()

    def when(name: str) -> str:
        at = task[name]
        return at if at is None or not screen.terminal else f"{local(at)} ({ago(at, now)})"

    facts: list[tuple[str, Any]] = [
        ("task", task["id"]),
        ("title", task["title"]),
        ("state", task["state"]),
        ("command", _command(spec)),
        ("prompt", _prompt(spec, answer["runs"])),
        ("cwd", spec.get("cwd")),
        ("stdin", spec.get("stdin")),
        ("project", task["project"]),
        ("queue", task["queue"]),
        ("agent", task["assigned_to"]),
        ("priority", task["priority"] or None),
        ("labels", ", ".join(f"{k}={v}" for k, v in task["labels"].items())),
        ("depends on", ", ".join(task["depends_on"])),
        ("description", task["description"]),
        ("submitted", when("created_at")),
        ("not before", when("not_before")),
        ("deadline", when("deadline")),
        ("started", when("started_at")),
        ("finished", when("finished_at")),
        ("progress", _progress(task.get("progress"), now)),
        ("retries", _retries(task)),
        ("timeout", short(task["max_duration"])),
        ("stale after", short(task["stale_threshold"])),
        ("limits", _limits(task)),
        ("budget", _budget(task)),
        ("approval", _approval(task.get("approval"))),
        ("placement", _placement(answer["runs"])),
        ("result", _result(task["result"])),
        *_checks(task),
        ("environment", _environment(spec.get("env"))),
    ]
    screen.fields([(name, str(value)) for name, value in facts if value not in (None, "")])
    if answer["runs"]:
        if screen.terminal:
            screen.line("")
        print_runs(screen, answer["runs"])
    return exits.OK


def _command(spec: dict[str, Any]) -> str | None:
    if spec.get("command"):
        from shlex import join

        return join(spec["command"])
    return spec.get("shell")


def _prompt(spec: dict[str, Any], runs: list[dict[str, Any]]) -> str | None:
    """How an agent is told what to do, and what its command became in the newest run; a daemon of before has neither."""
    if not spec.get("prompt"):
        return None
    became = runs[-1].get("command") if runs else None
    if not became:
        return f"by {spec['prompt']}"
    from shlex import join

    return f"by {spec['prompt']}; run {runs[-1]['id']}: {join(became)}"


def _retries(task: dict[str, Any]) -> str | None:
    if not task["retries"] and task["max_retries"] is None:
        return None
    return f"{task['retries']} of {task['max_retries'] or 0}"


def _progress(progress: dict[str, Any] | None, now: float) -> str | None:
    """What its run said last of itself."""
    if progress is None:
        return None
    percent = None if progress["percent"] is None else f"{progress['percent']:g}%"
    return f"{' '.join(filter(None, (percent, progress['text']))) or 'goes on'} ({ago(progress['at'], now)})"


def _limits(task: dict[str, Any]) -> str:
    """What it may use; a daemon of before has no such fields."""
    limits = []
    if (most := task.get("memory_max")) is not None:
        limits.append(f"{short_size(most)} of memory")
    if (most := task.get("cpus")) is not None:
        limits.append(f"{most:g} CPUs")
    if (most := task.get("tasks_max")) is not None:
        limits.append(f"{most} processes")
    if (nice := task.get("nice")) is not None:
        limits.append(f"nice {nice}")
    return ", ".join(limits)


def _budget(task: dict[str, Any]) -> str:
    """What was spent of what it may spend."""
    budget, spent = task.get("budget") or {}, task.get("spent") or {}
    shown = {
        "money": "{:.2f} USD",
        "tokens": "{:,} tokens",
        "wall_time": "{:.0f} s",
        "cpu_time": "{:.0f} s of CPU time",
    }
    parts = []
    for field, most in budget.items():
        if most is not None:
            text = short_size if field == "disk" else shown[field].format
            parts.append(f"{text(spent.get(field, 0))} of {text(most)}")
    return ", ".join(parts)


def _approval(request: dict[str, Any] | None) -> str | None:
    if request is None:
        return None
    return " ".join(filter(None, (f"{request['id']} ({request['kind']})", request["message"])))


def _placement(runs: list[dict[str, Any]]) -> str | None:
    """Where the processes of the newest run are, or were."""
    if not runs:
        return None
    return " ".join(filter(None, (runs[-1]["containment"], runs[-1]["cgroup"])))


def _result(result: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    parts = [f"{result['status']} ({result['reason']})"]
    if result["exit_code"] is not None:
        parts.append(f"exit code {result['exit_code']}")
    if result["signal"]:
        parts.append(f"signal {result['signal']}")
    if result["duration"] is not None:
        parts.append(f"after {short(result['duration'])}")
    if result.get("error"):
        parts.append(result["error"])
    return ", ".join(parts)


def _checks(task: dict[str, Any]) -> list[tuple[str, Any]]:
    """What was found of its work last, and before; a daemon of before has no such fields."""
    result = task["result"] or {}
    found = result.get("assessment")
    if found is None:
        return [("checks", len(task.get("expectations", ())) + len(task.get("metrics", ())) or None)]
    verdict = {True: "passed", False: "failed", None: "open"}
    facts = [("checks", f"{verdict[found['passed']]} ({found.get('trigger', 'initial')}, run {found['runId']})")]
    if found.get("globalScore") is not None:
        facts.append(("score", f"{found['globalScore']:.2f}"))
    for one in (*found.get("checks", ()), *found.get("metrics", ())):
        what = f"{one.get('type', 'metric')} {one.get('label') or one.get('name')}"
        facts.append(("check", f"{verdict[one['passed']]}: {what}: {one['message']}"))
    if earlier := result.get("assessment_history"):
        facts.append(("before", ", ".join(verdict[one.get("passed")] for one in earlier)))
    if task.get("fix_attempts"):
        facts.append(("fixes", task["fix_attempts"]))
    return facts


def _environment(env: dict[str, str | None] | list[str] | None) -> str | None:
    if isinstance(env, dict):
        return " ".join(name if value is None else f"{name}={value}" for name, value in sorted(env.items()))
    return " ".join(env or ())
