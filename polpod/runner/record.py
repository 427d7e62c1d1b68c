"""Makes an outcome last: the row, else exit.json, else the runner stays and tries again (DESIGN §6.3, M7).

Rule: a runner that lives is never lost, so it does not end before one of its witnesses stands.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from typing import Any

from polpod.paths import RunDirectory
from polpod.runner import directory
from polpod.runner.row import Row

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


def record(row: Row, run: RunDirectory, payload: dict[str, Any]) -> bool:
    """Write the payload to the row or to exit.json; returns when it stands, or when there is nobody left to read it.

    True: the row was decided, by us or before us; False: exit.json says it, or nothing can.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            if not row.finish(payload):
                # Somebody decided before us, or the row is not there (an older backup): our word is kept beside it.
                with suppress(OSError):
                    directory.record_exit(run, payload)
            return True
        except (sqlite3.Error, OSError) as exc:
            nowhere = isinstance(exc, FileNotFoundError)
        try:
            directory.record_exit(run, payload)
            return False
        except OSError as exc:
            if nowhere and isinstance(exc, FileNotFoundError):
                return False  # the state directory was removed
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
