"""Tells the daemon that a run is over: `run.report`, a notification with the payload that was recorded (DESIGN §6.4).

Nothing depends on it: the row is the truth, and the daemon is woken by the runner's end anyway (M8).  So it is given
RING_TIMEOUT in all, and its errors are nobody's business.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

RING_TIMEOUT = 0.2


def ring(path: str, payload: dict[str, Any]) -> None:
    """Send the payload to the socket at `path`, if somebody takes it in time."""
    deadline = time.monotonic() + RING_TIMEOUT
    line = json.dumps({"jsonrpc": "2.0", "method": "run.report", "params": payload}, separators=(",", ":")) + "\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bell:
        bell.settimeout(RING_TIMEOUT)
        try:
            bell.connect(path)  # a full backlog is refused at once, since the socket does not block
            bell.settimeout(max(deadline - time.monotonic(), 0.001))
            bell.sendall(line.encode())
        except OSError:
            pass  # no daemon, or a busy one
