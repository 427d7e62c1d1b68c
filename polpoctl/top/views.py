"""What there is to look at: each view's call, columns, orders and deeds, as a table.

Cells and deeds are functions of an entry of the answer; what a deed asks for is carried out by `feed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from polpoctl.times import ago, local, seconds_of, short
from polpoctl.top.feed import Asked, News, Text, Told

Entry = dict[str, Any]
Call = Callable[[str, dict[str, Any]], Any]


class Column(NamedTuple):
    head: str
    cell: Callable[[Entry, float], str]
    """Of an entry, at a time in seconds since the epoch."""
    most: int = 20
    """Columns of the terminal that it takes; the last one takes what is left."""
    wide: int = 0
    """Narrower terminals go without it."""


class Deed(NamedTuple):
    key: str
    word: str
    """For the line of keys."""
    asked: Callable[[Entry], Asked]
    question: str = ""
    """To be answered before it is done; empty: it is done at once.  `{name}` stands for what the entry is called."""


class Order(NamedTuple):
    name: str
    key: Callable[[Entry, float], Any]


class View(NamedTuple):
    name: str
    method: str
    field: str
    columns: tuple[Column, ...]
    deeds: tuple[Deed, ...]
    orders: tuple[Order, ...] = ()
    """Beside that in which polpod gives the entries."""
    params: dict[str, Any] = {}
    paged: bool = True
    enter: str = ""
    """What Enter does, for the line of keys."""


def called(entry: Entry) -> str:
    """What the entry is called, in a sentence."""
    name = str(entry.get("id", entry.get("name", "")))
    title = entry.get("title") or (entry.get("name") if "id" in entry else "") or entry.get("message") or ""
    return f"{name} ({title})" if title else name


def state(entry: Entry) -> str:
    """The word for how an entry stands; of a task with how far it is."""
    if "paused" in entry:
        return "paused" if entry["paused"] else "open"
    word = str(entry.get("state") or entry["status"])
    percent = (entry.get("progress") or {}).get("percent")
    return f"{word} {percent:.0f}%" if word == "running" and percent is not None else word


def seconds(entry: Entry, now: float) -> float | None:
    """That a task's run took, or has taken up to now."""
    if entry["status"] == "in_progress":
        return None if entry["started_at"] is None else max(0.0, now - seconds_of(entry["started_at"]))
    return None if entry["result"] is None else float(entry["result"]["duration"])


def took(entry: Entry, now: float) -> str:
    """As `seconds`; of what goes on for long in steps of ten, since each step is sent over the line."""
    passed = seconds(entry, now)
    if passed is not None and entry["status"] == "in_progress":
        passed = float(passed // 10 * 10 if passed >= 60 else max(1, int(passed)))
        return short(passed) if passed >= 10 else f"{passed:.0f}s"
    return short(passed)


def age(at: str | None, now: float) -> str:
    """`3 min ago`; within a minute no figure, since each step is sent over the line."""
    if at is None:
        return ""
    return "just now" if 0 <= now - seconds_of(at) < 60 else ago(at, now)


_URGENT = {
    word: place
    for place, words in enumerate(
        (("stuck", "cancelling", "running", "review"), ("awaiting_approval", "blocked", "failed"), ("ready",))
    )
    for word in words
}


def _urgency(entry: Entry, now: float) -> int:
    return _URGENT.get(entry["state"], len(_URGENT))


def _selected(method: str) -> Callable[[Entry], Asked]:
    def asked(entry: Entry) -> Asked:
        def act(call: Call) -> News:
            for result in call(method, {"select": {"ids": [entry["id"]]}})["results"]:
                said = result["error"]["message"] if result.get("error") else result["status"]
                return Told(f"task {result['id']}: {said}")
            return Told("no such task")

        return act

    return asked


def _hold_or_release(entry: Entry) -> Asked:
    return _selected("task.release" if entry["hold"] else "task.hold")(entry)


def _why(entry: Entry) -> Asked:
    def act(call: Call) -> News:
        found = call("task.why", {"id": entry["id"]})
        return Text(f"task {called(entry)}: {found['status']}", [*found["sentences"], *found["next"]])

    return act


def _one(method: str, said: str, **params: Any) -> Callable[[Entry], Asked]:
    """A call about the entry's id, and what is said once it was answered."""

    def asked(entry: Entry) -> Asked:
        def act(call: Call) -> News:
            call(method, {"id": entry["id"]} | params)
            return Told(said.format(name=called(entry)))

        return act

    return asked


def _pause_or_resume(entry: Entry) -> Asked:
    verb = "resume" if entry["status"] == "paused" else "pause"
    return _one(f"mission.{verb}", f"mission {{name}}: {verb}d")(entry)


def _open_or_pause(entry: Entry) -> Asked:
    def act(call: Call) -> News:
        queue = call("queue.set", {"name": entry["name"], "paused": not entry["paused"]})["queue"]
        return Told(f"queue {entry['name']}: {state(queue)}")

    return act


def _show_request(entry: Entry) -> Asked:
    def act(call: Call) -> News:
        found = call("approval.get", {"id": entry["id"]})["approval"]
        names = ("message", "kind", "status", "requested_at", "deadline", "on_timeout", "feedback", "note")
        facts = [f"{name.replace('_', ' ')}: {_fact(name, found[name])}" for name in names if found.get(name)]
        return Text(f"{entry['id']}: {_about(found)}", facts)

    return act


def _fact(name: str, value: Any) -> str:
    return local(value) if name in ("requested_at", "deadline") else str(value)


def _about(entry: Entry) -> str:
    for noun in ("task", "mission"):
        if entry[f"{noun}_id"] is not None:
            return f"{noun} {entry[f'{noun}_id']}"
    return f"project {entry['project']}" if entry["project"] is not None else ""


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


_TASK_COLUMNS = (
    Column("ID", lambda e, now: str(e["id"]), 10),
    Column("STATE", lambda e, now: state(e), 17),
    Column("QUEUE", lambda e, now: e["queue"], 16, wide=60),
    Column("SUBMITTED", lambda e, now: age(e["created_at"], now), 12, wide=100),
    Column("TOOK", lambda e, now: took(e, now), 6),
    Column("TITLE", lambda e, now: e["title"]),
)
_TASK_DEEDS = (
    Deed("c", "cancel", _selected("task.cancel"), "Cancel task {name}?"),
    Deed("r", "retry", _selected("task.retry"), "Run task {name} again?"),
    Deed("h", "hold", _hold_or_release),
    Deed("w", "why", _why),
)
_TASK_ORDERS = (
    Order("state", _urgency),
    Order("time taken", lambda e, now: -(seconds(e, now) or 0.0)),
    Order("queue", lambda e, now: str(e["queue"])),
)

TASKS = View("tasks", "task.list", "tasks", _TASK_COLUMNS, _TASK_DEEDS, _TASK_ORDERS, enter="log")
OF_MISSION = TASKS._replace(name="tasks of a mission", method="mission.get")
QUEUES = View(
    "queues", "queue.list", "queues",
    (
        Column("QUEUE", lambda e, now: e["name"], 40),
        Column("SLOTS", lambda e, now: "-" if e["slots"] is None else str(e["slots"])),
        Column("BUSY", lambda e, now: str(e["busy"])),
        Column("READY", lambda e, now: str(e["ready"])),
        Column("STATE", lambda e, now: state(e)),
    ),
    (Deed("p", "pause", _open_or_pause),),
    paged=False,
)  # fmt: skip
MISSIONS = View(
    "missions", "mission.list", "missions",
    (
        Column("ID", lambda e, now: str(e["id"]), 10),
        Column("STATUS", lambda e, now: e["status"], 12),
        Column("UPDATED", lambda e, now: age(e["updated_at"], now), 12, wide=80),
        Column("TASKS", lambda e, now: " ".join(f"{n} {stage}" for stage, n in e["tasks"].items()), 40, wide=60),
        Column("NAME", lambda e, now: e["name"]),
    ),
    (
        Deed("p", "pause", _pause_or_resume),
        Deed("x", "abort", _one("mission.abort", "mission {name}: aborted"), "Abort mission {name}?"),
    ),
    enter="tasks",
)  # fmt: skip
APPROVALS = View(
    "approvals", "approval.list", "approvals",
    (
        Column("ID", lambda e, now: e["id"], 8),
        Column("ABOUT", lambda e, now: _about(e), 14),
        Column("KIND", lambda e, now: e["kind"] or "", 12, wide=80),
        Column("ASKED", lambda e, now: age(e["requested_at"], now), 12, wide=60),
        Column("WHAT", lambda e, now: _line(e["message"] or e["gate_name"] or e["kind"])),
    ),
    (
        Deed("a", "approve", _one("approval.approve", "{name}: approved"), "Approve {name}?"),
        Deed("x", "reject", _one("approval.reject", "{name}: rejected"), "Reject {name}?"),
        Deed("w", "show", _show_request),
    ),
    enter="show",
)  # fmt: skip

VIEWS = (TASKS, QUEUES, MISSIONS, APPROVALS)
"""By the keys 1 to 4, in this order."""
