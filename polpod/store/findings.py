"""What a check finds: a sentence, and the remedy that helps."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Remedy = Literal["repair", "restore", "upgrade", "start", "restart", "remove", "none"]
"""repair: restore a backup, else salvage.  restore: nothing is left to be salvaged.  upgrade: a newer polpod, else a backup.
start, restart: the daemon settles it when it starts.  remove: the task that is named cannot run.  none: it passes."""


class Finding(Struct, frozen=True):
    """A problem needs somebody; a note does not."""

    level: Literal["problem", "note"]
    file: str
    says: str
    remedy: Remedy
    task_id: str | None = None


def problem(file: str, says: str, remedy: Remedy, task_id: str | None = None) -> Finding:
    return Finding("problem", file, says, remedy, task_id)


def note(file: str, says: str, remedy: Remedy = "none") -> Finding:
    return Finding("note", file, says, remedy)
