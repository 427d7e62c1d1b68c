"""A runner's sign of life while no daemon lives: a daemon derives it for all runs at once (DESIGN §7, M10)."""

from __future__ import annotations

import sqlite3
import time

from polpod.runner import contract, directory
from polpod.runner.row import Row


class Heartbeat:
    """A chore of the runner's."""

    def __init__(self, row: Row, daemon_lock: str) -> None:
        self._row = row
        self._daemon_lock = daemon_lock
        self.due = time.monotonic() + contract.HEARTBEAT_EVERY

    def run(self) -> None:
        """Write a heartbeat unless a daemon holds its lock."""
        self.due = time.monotonic() + contract.HEARTBEAT_EVERY
        if directory.held(self._daemon_lock):
            return
        try:
            self._row.heartbeat()
        except (sqlite3.Error, OSError):
            pass  # the next one is in a minute
