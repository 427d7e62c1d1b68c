"""`status`: how polpod is, its queues, and how much of what there is."""

from __future__ import annotations

from polpoctl import queues
from polpoctl.client import connect
from polpoctl.render import Screen
from polpoctl.times import short

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    connection = connect(args)
    status = connection.call("daemon.status")
    screen = Screen(args)
    if screen.json:
        screen.value(status)
        return 0
    screen.fields(_facts(status, connection.path, connection.tried))
    rows = [queues.row({"name": name} | queue) for name, queue in sorted(status["queues"].items())]
    if screen.terminal:
        screen.line("")
        screen.table(queues.HEADS, rows, state=4, flexible=0)
    else:
        screen.table((), [("queue", *row) for row in rows])
    return 0


def _facts(status: dict[str, Any], socket: str, tried: list[str]) -> list[tuple[str, str]]:
    facts = [
        ("polpod", f"{status['version']}, {status['state']}, pid {status['pid']}, up {short(status['uptime'])}"),
        ("root", status["root"]),
        ("socket", socket),
        ("storage", status["storage"]),
        ("containment", status["containment"]),
        ("tasks", _counts(status["tasks"])),
        ("runs", _counts(status["runs"])),
        ("slots", str(status["max_concurrency"])),
    ]
    if len(tried) > 1:
        facts.insert(3, ("tried", ", ".join(tried)))
    if trouble := status.get("store", {}).get("trouble"):  # a polpod of before does not say
        facts.append(("trouble", f"the task store cannot be reached: {trouble}"))
    if went := status.get("store", {}).get("copied_to"):
        facts.append(("copied", f"the task store was copied to {went}: what was done there since is not here"))
    if paused := status["launcher"]["paused"]:
        facts.append(("paused", f"nothing starts: {paused}"))
    if quarantined := status.get("quarantined"):  # a polpod of before does not say
        facts.append(("quarantined", f"{quarantined} rows could not be read and are kept in the table quarantine"))
    return facts


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "none"
