"""What the kernel's word about a job's main process is worth, where its runner did not live to say how the job ended.

Rule 1: what may have come of the runner's own death is no testimony.  SIGKILL is what the kernel sends to the job of a
runner that dies (PDEATHSIG), and what ends both together (F20); with 126 and 127 our own process ends before it becomes
the program, also when its runner dies before it lets it go.  Rule 2: what is not testified is unknown (DESIGN §14.10).
"""

from __future__ import annotations

import os
import signal

from msgspec import Struct

from polpod.model.runs import Reason, RunStatus

AMBIGUOUS = frozenset({-signal.SIGKILL, 126, 127})


class Ending(Struct, frozen=True):
    """Outcome columns of a run."""

    status: RunStatus
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None


def ending_of(wait_status: int) -> Ending | None:
    """How the run ended, by the wait(2) status of its job's main process; None if that proves nothing."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code in AMBIGUOUS:
        return None
    if code < 0:
        return Ending(RunStatus.FAILED, Reason.SIGNALLED, signal=-code)
    return Ending(RunStatus.FAILED if code else RunStatus.COMPLETED, Reason.EXITED, exit_code=code)
