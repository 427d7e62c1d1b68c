"""Missions for people: reading a document, showing one, and watching it go on."""

from __future__ import annotations

import json
import sys
import time

from polpoctl import exits
from polpoctl.follow import LONG_POLL
from polpoctl.render import escape, fit, notice
from polpoctl.times import ago, local, seconds_of, short

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from typing import Any

    from polpoctl.client import Connection, Lasting
    from polpoctl.render import Screen

PAGE = 1000
BAR = 30
"""Columns of a progress bar."""
REDRAW = 0.2
"""Seconds between pictures, at least."""

BY_STATUS = {"completed": exits.OK, "failed": exits.FAILED, "cancelled": exits.FAILED, "paused": exits.UNKNOWN}
"""Exit codes, by how an execution stands when waiting for it ends."""

_ORDER = ("running", "cancelling", "review", "awaiting_approval", "ready", "delayed", "waiting", "paused", "blocked")


def document(path: str) -> str:
    """The document as JSON text; a file whose name ends in `.toml` is TOML.  Raises Failure."""
    try:
        if path == "-":
            return sys.stdin.read()
        with open(path, "rb") as file:
            text = file.read()
        return _from_toml(text, path) if path.endswith(".toml") else text.decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise exits.usage(f"{'stdin' if path == '-' else path}: {exc}") from None


def _from_toml(text: bytes, path: str) -> str:
    import tomllib  # only here: it costs a start 3 ms

    try:
        return json.dumps(tomllib.loads(text.decode()), default=_instant)
    except (tomllib.TOMLDecodeError, ValueError, TypeError) as exc:
        raise exits.usage(f"{path}: {exc}") from None


def _instant(value: Any) -> str:
    """Of TOML's own instants, those that say their offset."""
    if getattr(value, "tzinfo", None) is None:
        raise TypeError(f"{value} has no offset from UTC, such as Z or +02:00")
    return str(value.isoformat())


def whole(connection: Connection | Lasting, mission: str, execution: int | None = None) -> dict[str, Any]:
    """mission.get, all pages of it."""
    asked: dict[str, Any] = {"id": mission, "limit": PAGE} | ({"execution": execution} if execution else {})
    answer: dict[str, Any] = connection.call("mission.get", asked)
    page = answer
    while page["next"] is not None:
        page = connection.call("mission.get", asked | {"after": page["next"]})
        answer["tasks"] += page["tasks"]
    del answer["next"]
    return answer


def seconds_between(start: str, end: str) -> float:
    return max(0.0, seconds_of(end) - seconds_of(start))


def show(screen: Screen, found: dict[str, Any], now: float) -> None:
    """The mission, its execution, what holds tasks back, and the tasks."""
    mission, execution = found["mission"], found["execution"]
    when = (lambda at: f"{local(at)} ({ago(at, now)})") if screen.terminal else str
    facts = [
        ("mission", mission["id"]),
        ("name", mission["name"]),
        ("status", mission["status"]),
        ("prompt", mission["prompt"]),
        ("schedule", mission["schedule"]),
        ("executions", mission["execution_count"]),
    ]
    if execution is not None:
        facts += [
            ("execution", f"{execution['id']}: {execution['status']}"),
            ("why", execution["reason"]),
            ("started", when(execution["started_at"])),
            ("finished", execution["finished_at"] and when(execution["finished_at"])),
            ("progress", progress(found["tasks"], None)),
        ]
    screen.fields([(name, str(value)) for name, value in facts if value not in (None, "")])
    if found["barriers"]:
        if screen.terminal:
            screen.line("")
        rows = [(b["kind"], b["name"], b["state"], _because(b), ", ".join(b["blocks"])) for b in found["barriers"]]
        screen.table(("BARRIER", "NAME", "STATE", "WHY", "HOLDS BACK"), rows, flexible=4)
    if found["tasks"]:
        if screen.terminal:
            screen.line("")
        titles = {task["id"]: task["title"] for task in found["tasks"]}
        screen.table(("ID", "STATE", "TOOK", "TITLE", "AFTER"), [_task(t, titles) for t in found["tasks"]], state=1)


def _because(barrier: dict[str, Any]) -> str:
    if barrier["reason"]:
        return str(barrier["reason"])
    if barrier["state"] == "waiting":
        return f"{barrier['remaining']} tasks before it"
    if barrier["state"] == "holding":
        return f"until {local(barrier['until'])}" if barrier["until"] else barrier["message"] or "a person resumes it"
    return ""


def _task(task: dict[str, Any], titles: dict[str, str]) -> tuple[str, ...]:
    took = task["result"]["duration"] if task["result"] is not None else None
    after = ", ".join(titles.get(on, on) for on in task["depends_on"])
    return task["id"], task["state"], short(took) if took is not None else "", task["title"], after


def progress(tasks: list[dict[str, Any]], screen: Screen | None) -> str:
    """`12/60`, and what is not done by its states; with a bar where there is a screen for it."""
    done = sum(task["status"] == "done" for task in tasks)
    states: dict[str, int] = {}
    for task in tasks:
        if task["status"] != "done":
            states[task["state"]] = states.get(task["state"], 0) + 1
    ordered = sorted(states, key=lambda state: _ORDER.index(state) if state in _ORDER else len(_ORDER))
    text = ", ".join([f"{done}/{len(tasks)} done", *(f"{states[state]} {state}" for state in ordered)])
    if screen is None:
        return text
    filled = BAR * done // max(1, len(tasks))
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {text}"


def watch(daemon: Lasting, screen: Screen, mission: str) -> int:
    """Draw it again whenever something happened, until it is over; exits as `wait` does."""
    picture = _Picture(screen)
    seen = daemon.call("event.list", {"limit": 1})["next"]
    while True:
        asked = time.monotonic()
        found = whole(daemon, mission)
        rest = max(
            REDRAW, time.monotonic() - asked
        )  # who looks at ten thousand tasks leaves the daemon half of its time
        execution = found["execution"]
        if execution is None:
            raise exits.Failure(f"mission {mission} was never carried out", exits.NOT_FOUND)
        picture.draw(found)
        if execution["status"] in ("completed", "failed", "cancelled"):
            picture.close()
            notice(f"execution {execution['id']} {execution['status']}" + _reason(execution))
            return BY_STATUS[execution["status"]]
        seen = daemon.call("event.list", {"after": seen, "limit": PAGE, "wait": LONG_POLL})["next"]
        time.sleep(rest)


def _reason(execution: dict[str, Any]) -> str:
    return f": {execution['reason']}" if execution["reason"] else ""


class _Picture:
    """On a terminal redrawn in place; elsewhere a line for each task that changes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lines = 0
        self._states: dict[str, str] = {}

    def draw(self, found: dict[str, Any]) -> None:
        if self._screen.terminal and not self._screen.json:
            self._redraw(found)
        else:
            self._tell(found)
        sys.stdout.flush()

    def close(self) -> None:
        """The last picture stays."""
        self._lines = 0

    def _redraw(self, found: dict[str, Any]) -> None:
        width, height = self._screen.width or 80, _height()
        execution = found["execution"]
        head = f"{found['mission']['name']} {execution['id']} {execution['status']}{_reason(execution)}"
        lines = [head, progress(found["tasks"], self._screen)]
        lines += [f"  {b['kind']} {b['name']}: {_because(b)}" for b in found["barriers"] if b["state"] == "holding"]
        going = [task for task in found["tasks"] if task["status"] not in ("done", "cancelled")]
        room = max(1, height - len(lines) - 2)
        going.sort(key=lambda task: _ORDER.index(task["state"]) if task["state"] in _ORDER else -1)
        lines += [f"  {task['id']:>6}  {task['state']:<12} {task['title']}" for task in going[:room]]
        if len(going) > room:
            lines.append(f"  and {len(going) - room} more")
        if self._lines:
            sys.stdout.write(f"\x1b[{self._lines}A\x1b[J")
        for line in lines:
            self._screen.line(fit(escape(line), width))
        self._lines = len(lines)

    def _tell(self, found: dict[str, Any]) -> None:
        for task in found["tasks"]:
            if self._states.get(task["id"]) != task["state"]:
                self._states[task["id"]] = task["state"]
                if self._screen.json:
                    self._screen.json_line({"id": task["id"], "title": task["title"], "state": task["state"]})
                else:
                    self._screen.line("\t".join((task["id"], task["state"], escape(task["title"]))))


def _height() -> int:
    import os

    return os.get_terminal_size(sys.stdout.fileno()).lines or 24
