"""The runner's hold on its row in runs.db: each method is one statement of the contract.

Rules:

1. The connection is never closed: closing the last one would make a checkpoint.  The job's process, forked beside it,
   does not touch it before exec.
2. A runs.db that was put in the old one's place (a restored backup) is noticed before a statement and after it, so that
   nothing is said to a file alone that nobody reads any more (store/replace.py waits for us, and we for it).
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

from polpod.runner import contract, identity

RETRY_PAUSE = 0.05


class Row:
    """One run's row.  Every method raises sqlite3.Error, and OSError where runs.db is gone."""

    def __init__(self, spec: contract.RunSpec) -> None:
        self._path = spec["runs_db"]
        self._key = {"id": spec["run_id"], "nonce": spec["nonce"]}
        self._connections: list[sqlite3.Connection] = []
        self._file = (0, 0)

    def claim(self, marks: dict[str, Any], deadline: float) -> bool:
        """Make the run ours; False: somebody else decided, and nothing may be executed.

        What passes (a locked database, a full disk) is tried again until `deadline`, in seconds of CLOCK_MONOTONIC.
        """
        while True:
            try:
                return self._execute(contract.CLAIM, marks).rowcount == 1
            except (sqlite3.Error, OSError):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_PAUSE)

    def finish(self, payload: dict[str, Any]) -> bool:
        """Write the outcome; False: the row is not ours any more, or not there."""
        return self._execute(contract.FINISH, payload).rowcount == 1

    def kill_request(self) -> tuple[str, float] | None:
        """Reason and grace (seconds) of the kill row, if there is one."""
        found = self._execute(contract.KILL_REQUEST, {}).fetchone()
        if found is None or found[0] is None:
            return None
        return found[0], contract.KILL_GRACE if found[1] is None else found[1]

    def request_kill(self, reason: str, grace: float) -> None:
        """Set the kill row in our own name, unless there is one."""
        self._execute(
            contract.REQUEST_KILL,
            {
                "kill_reason": reason,
                "kill_by": "runner",
                "kill_at": contract.timestamp(),
                "kill_mono": time.monotonic_ns(),
                "kill_boot": identity.boot_id(),
                "kill_grace": grace,
            },
        )

    def heartbeat(self) -> None:
        """Say that we live."""
        self._execute(contract.HEARTBEAT, {"heartbeat_at": contract.timestamp()})

    def open(self) -> sqlite3.Connection:
        """The connection to the file that is at its place now.  Raises OSError beside sqlite3.Error."""
        if not self._in_place():
            status = os.stat(self._path)
            try:
                self._connections.append(contract.connect(self._path))
            except RuntimeError as exc:  # a restored copy that no daemon has opened yet is not in WAL mode
                raise sqlite3.OperationalError(str(exc)) from exc
            self._file = status.st_dev, status.st_ino
        return self._connections[-1]

    def _execute(self, statement: str, values: dict[str, Any]) -> sqlite3.Cursor:
        while True:
            cursor = self.open().execute(statement, self._key | values)
            if self._in_place():
                return cursor

    def _in_place(self) -> bool:
        status = os.stat(self._path)
        return self._file == (status.st_dev, status.st_ino)
