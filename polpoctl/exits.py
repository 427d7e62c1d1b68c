"""Exit codes: one table, the same for every command (DESIGN §10).

With `run` and `--exit-status` the job's own code takes the place of 0 and 1, and any error of polpoctl's own is
OWN_ERROR, so that the two cannot be confused.
"""

from __future__ import annotations

from polpod.wire import errors
from polpod.wire.jsonrpc import RemoteError

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

OK = 0
FAILED = 1
"""Failed, cancelled or refused."""
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
"""No daemon answers, or contact was lost."""
UNKNOWN = 5
"""The outcome is unknown: lost, or waiting for approval."""
NOT_ALLOWED = 6
TRY_AGAIN = 75
TIMED_OUT = 124
OWN_ERROR = 125
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell shows for a program that SIGPIPE ended."""

BY_WORD = {
    errors.INVALID: USAGE,
    errors.NOT_FOUND: NOT_FOUND,
    errors.INVALID_TRANSITION: FAILED,
    errors.CONFLICT: FAILED,
    errors.PERMISSION_DENIED: NOT_ALLOWED,
    errors.UNAVAILABLE: TRY_AGAIN,
    errors.DISK_FULL: TRY_AGAIN,
    errors.TOO_LARGE: FAILED,
    errors.UNSUPPORTED: FAILED,
    errors.REFUSED: FAILED,
}

BY_OUTCOME = {"done": OK, "failed": FAILED, "cancelled": FAILED, "blocked": FAILED, "unknown": UNKNOWN}
"""Of task.wait's outcomes."""


class Failure(Exception):
    """Ends the command with this message on stderr and this code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def usage(message: str) -> Failure:
    return Failure(message, USAGE)


def of_error(error: RemoteError) -> int:
    """The code for an error response."""
    if error.code in (errors.INVALID_PARAMS, errors.METHOD_NOT_FOUND):
        return USAGE
    return BY_WORD.get(error.type or "", FAILED)


def of_errors(found: Iterable[RemoteError], asked: int) -> int:
    """The code for a command on `asked` things of which these were refused: the error's own where there was one thing."""
    codes = [of_error(error) for error in found]
    if not codes:
        return OK
    return codes[0] if asked == 1 else FAILED


def worst(codes: Iterable[int]) -> int:
    """Of several ids' codes: 5 before 1 before 0."""
    return max(codes, default=OK)


def of_job(task: dict[str, Any]) -> int:
    """The job's own code from an entry of task.wait: 128+N for signal N; as BY_OUTCOME where the job has none."""
    if task["outcome"] in ("done", "unknown"):
        return BY_OUTCOME[task["outcome"]]
    if task["signal"]:
        return 128 + int(task["signal"])
    return int(task["exit_code"] or FAILED)
