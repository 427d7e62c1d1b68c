"""Runs as a table, for `runs` and `show`."""

from __future__ import annotations

import time

from polpoctl.times import ago, short

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from polpoctl.render import Screen


def print_runs(screen: Screen, runs: Iterable[dict[str, Any]]) -> None:
    """One row a run; empty where something is not known."""
    now = time.time()
    heads = ("RUN", "TASK", "ATTEMPT", "STATUS", "REASON", "EXIT", "STARTED", "TOOK", "FOR")
    screen.table(heads, [_row(run, now, screen.terminal) for run in runs], state=3, flexible=4)


def _row(run: dict[str, Any], now: float, terminal: bool) -> tuple[str, ...]:
    started, duration = run["started_at"], run["duration"]
    code = f"signal {run['signal']}" if run["signal"] else "" if run["exit_code"] is None else str(run["exit_code"])
    return (
        str(run["id"]),
        run["task_id"],
        str(run["attempt"]),
        run["status"],
        run["reason"] or "",
        code,
        ago(started, now) if terminal else started or "",
        short(duration) if terminal else "" if duration is None else f"{duration:.3f}",
        "checks" if run.get("phase") == "review" else "work",
    )
