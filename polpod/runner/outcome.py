"""How a run ended: a pure function of what was observed (DESIGN §6).

Rules:

1. completed is exit 0 of a job that nobody ended; failed another exit code, a signal, memory, or no exec at all.
2. Whom the ladder met before it was reaped ends as its kill says; exit code or signal stay as a fact.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from polpod.runner import contract


def judge(wait_status: int | None, *, kill: str | None, complaint: str, oom: bool) -> dict[str, Any]:
    """The columns status, reason, exit_code, signal and error.

    `wait_status`: of the main process, None if none was forked; `kill`: reason of the kill that met it alive;
    `complaint`: why nothing was executed; `oom`: whether the kernel killed one of its processes for want of memory.
    """
    code = None if wait_status is None else os.waitstatus_to_exitcode(wait_status)
    exit_code = code if code is not None and code >= 0 else None
    number = -code if code is not None and code < 0 else None
    if kill is not None:
        status, reason = contract.STATUS_OF_KILL[kill], kill
    elif complaint:
        status, reason = "failed", "spawn_failed"
    elif number is not None:
        status, reason = "failed", "oom" if oom and number == signal.SIGKILL else "signalled"
    else:
        status, reason = "completed" if exit_code == 0 else "failed", "exited"
    return {
        "status": status,
        "reason": reason,
        "exit_code": exit_code,
        "signal": number,
        "error": complaint or None,
    }


def out_of_memory(peak: int | None, limit: str | None) -> str:
    """In words, for a job that the kernel ended: its peak in bytes, if known, and what was written to memory.max."""
    used = "" if peak is None else f" at a peak of {peak / 2**20:.1f} MiB"
    own = (
        f"the limit is {int(limit) / 2**20:.1f} MiB" if limit else "it has no limit of its own, so the host had no more"
    )
    return f"the kernel ended it for want of memory{used}; {own}"
