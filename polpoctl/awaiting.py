"""Waiting for tasks to end, by long polls that may be made again (DESIGN §9)."""

from __future__ import annotations

import time

from polpoctl.follow import LONG_POLL

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def wait_for(
    call: Callable[[str, dict[str, Any]], Any],
    ids: list[str],
    *,
    any_of_them: bool = False,
    keep_waiting: bool = False,
    timeout: float | None = None,
) -> tuple[bool, list[dict[str, Any]]]:
    """Wait until all, or any, of the tasks ended, at most `timeout` seconds: whether they did, and task.wait's entries."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        left = LONG_POLL if until is None else max(0.0, min(LONG_POLL, until - time.monotonic()))
        asked = {"ids": ids, "any": any_of_them, "keep_waiting": keep_waiting, "timeout": left}
        answer = call("task.wait", asked)
        if answer["finished"] or (until is not None and time.monotonic() >= until):
            return answer["finished"], answer["tasks"]
