"""Waiting for tasks to end, by long polls that may be made again (DESIGN §9)."""

from __future__ import annotations

import time

from polpoctl.client import FOR_EVER
from polpoctl.follow import LONG_POLL
from polpoctl.outlook import EVERY

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from typing import Any

    from polpoctl.client import Lasting
    from polpoctl.outlook import Outlook


def wait_for(
    daemon: Lasting,
    ids: list[str],
    *,
    any_of_them: bool = False,
    keep_waiting: bool = False,
    timeout: float | None = None,
    outlook: Outlook | None = None,
) -> tuple[bool, list[dict[str, Any]]]:
    """Wait until all, or any, of the tasks ended, at most `timeout` seconds: whether they did, and task.wait's entries.

    `outlook` is shown meanwhile.

    Raises TimeRanOut if nobody could be asked at the end; RemoteError, ContactLost.
    """
    until = FOR_EVER if timeout is None else time.monotonic() + timeout
    patience = EVERY if outlook is not None and outlook.shown else LONG_POLL
    while True:
        left = max(0.0, min(patience, until - time.monotonic()))
        asked = {"ids": ids, "any": any_of_them, "keep_waiting": keep_waiting, "timeout": left}
        answer = daemon.call("task.wait", asked, until)
        if answer["finished"] or time.monotonic() >= until:
            return answer["finished"], answer["tasks"]
        if outlook is not None:
            outlook.look(until)
