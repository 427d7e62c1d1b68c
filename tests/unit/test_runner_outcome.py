"""How a run ended, as a table (DESIGN §6)."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from polpod.runner import contract
from polpod.runner.outcome import judge, out_of_memory

EXIT = {code: code << 8 for code in (0, 1, 126, 127)}

TABLE: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    # wait status, and what else was observed → status, reason, exit code, signal
    ({"wait_status": EXIT[0]}, ("completed", "exited", 0, None)),
    ({"wait_status": EXIT[1]}, ("failed", "exited", 1, None)),
    ({"wait_status": int(SIGTERM)}, ("failed", "signalled", None, SIGTERM)),
    ({"wait_status": SIGKILL | 0x80}, ("failed", "signalled", None, SIGKILL)),  # with a core dump
    ({"wait_status": int(SIGKILL), "oom": True}, ("failed", "oom", None, SIGKILL)),
    ({"wait_status": EXIT[1], "oom": True}, ("failed", "exited", 1, None)),  # it survived the death of a child
    ({"wait_status": EXIT[127], "complaint": "no such program"}, ("failed", "spawn_failed", 127, None)),
    ({"wait_status": EXIT[127]}, ("failed", "exited", 127, None)),  # the shell's own word
    ({"wait_status": None, "complaint": "log"}, ("failed", "spawn_failed", None, None)),
    ({"wait_status": EXIT[0], "kill": "cancelled"}, ("killed", "cancelled", 0, None)),
    ({"wait_status": int(SIGTERM), "kill": "timeout"}, ("killed", "timeout", None, SIGTERM)),
    ({"wait_status": int(SIGKILL), "kill": "stale", "oom": True}, ("killed", "stale", None, SIGKILL)),
    ({"wait_status": int(SIGKILL), "kill": "shutdown"}, ("killed", "shutdown", None, SIGKILL)),
    ({"wait_status": int(SIGTERM), "kill": "signalled"}, ("failed", "signalled", None, SIGTERM)),
]


@pytest.mark.parametrize(("observed", "expected"), TABLE)
def test_judge(observed: dict[str, Any], expected: tuple[Any, ...]) -> None:
    verdict = judge(**({"kill": None, "complaint": "", "oom": False} | observed))
    assert (verdict["status"], verdict["reason"], verdict["exit_code"], verdict["signal"]) == expected
    assert verdict["error"] == observed.get("complaint")


def test_every_kill_has_a_status() -> None:
    assert {judge(0, kill=k, complaint="", oom=False)["status"] for k in contract.STATUS_OF_KILL} == {
        "killed",
        "failed",
    }


@pytest.mark.parametrize(
    ("peak", "limit", "says"),
    [
        (2**26, "67108864", "the kernel ended it for want of memory at a peak of 64.0 MiB; the limit is 64.0 MiB"),
        (None, "1572864", "the kernel ended it for want of memory; the limit is 1.5 MiB"),
        (
            2**30,
            None,
            "the kernel ended it for want of memory at a peak of 1024.0 MiB; it has no limit of its own, so the host had no more",
        ),
    ],
)
def test_why_the_kernel_ended_it(peak: int | None, limit: str | None, says: str) -> None:
    assert out_of_memory(peak, limit) == says
