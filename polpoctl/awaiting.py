"""Waiting for tasks to end, by long polls that may be made again (DESIGN §9)."""

from __future__ import annotations

import time

from polpoctl.conversation import FOR_EVER
from polpoctl.follow import LONG_POLL
from polpoctl.render import notice
from polpoctl.steps import Ask, take

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from polpoctl.steps import Call, Steps


def ends(
    ids: list[str],
    *,
    any_of_them: bool = False,
    keep_waiting: bool = False,
    timeout: float | None = None,
    patience: float = LONG_POLL,
) -> Steps[tuple[bool, list[dict[str, Any]]]]:
    """As steps, what `wait_for` does."""
    until = FOR_EVER if timeout is None else time.monotonic() + timeout
    while True:
        left = max(0.0, min(patience, until - time.monotonic()))
        asked = {"ids": ids, "any": any_of_them, "keep_waiting": keep_waiting, "timeout": left}
        answer = yield Ask("task.wait", asked, until)
        if answer["finished"] or time.monotonic() >= until:
            yield answer["finished"], answer["tasks"]
            return


def over(end: tuple[bool, list[dict[str, Any]]], ids: Iterable[str], timeout: float | None) -> list[dict[str, Any]]:
    """The entries of what has ended.  Raises TimeoutError."""
    finished, entries = end
    if not finished:
        raise TimeoutError(f"not over after {timeout:g} s: {', '.join(ids)}")
    return entries


def wait_for(
    call: Call,
    ids: list[str],
    *,
    any_of_them: bool = False,
    keep_waiting: bool = False,
    timeout: float | None = None,
    patience: float = LONG_POLL,
) -> tuple[bool, list[dict[str, Any]]]:
    """Wait until all, or any, of the tasks ended, at most `timeout` seconds: whether they did, and task.wait's entries.

    `patience`: seconds to wait for that with one call.
    Raises TimeRanOut if nobody could be asked at the end; RemoteError, ContactLost.
    """
    steps = ends(ids, any_of_them=any_of_them, keep_waiting=keep_waiting, timeout=timeout, patience=patience)
    return next(take(steps, call, notice))
