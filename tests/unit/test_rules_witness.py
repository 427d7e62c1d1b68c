"""What the kernel's word about a job's main process proves (DESIGN §6, §14.10)."""

from __future__ import annotations

import signal

import pytest

from polpod.model.runs import Reason, RunStatus
from polpod.rules.outcome import MEANING
from polpod.rules.witness import Ending, ending_of


@pytest.mark.parametrize(
    ("wait_status", "ending"),
    [
        (0, Ending(RunStatus.COMPLETED, Reason.EXITED, 0)),
        (7 << 8, Ending(RunStatus.FAILED, Reason.EXITED, 7)),
        (255 << 8, Ending(RunStatus.FAILED, Reason.EXITED, 255)),
        (signal.SIGTERM, Ending(RunStatus.FAILED, Reason.SIGNALLED, None, signal.SIGTERM)),
        (signal.SIGSEGV | 0x80, Ending(RunStatus.FAILED, Reason.SIGNALLED, None, signal.SIGSEGV)),  # with a core dump
        (signal.SIGKILL, None),
        (126 << 8, None),
        (127 << 8, None),
    ],
)
def test_only_what_cannot_come_of_the_runners_death_is_testimony(wait_status: int, ending: Ending | None) -> None:
    assert ending_of(wait_status) == ending
    assert ending is None or (ending.status, ending.reason) in MEANING
