"""What the doctor says of one thing, and what all that it looks at share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from polpod import remedies
from polpod.config import Config
from polpod.paths import StateDirectory


class Diagnosis(Struct, frozen=True):
    """`next`: what to do about it, a command where there is one."""

    level: Literal["ok", "warning", "problem"]
    name: str
    says: str
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """What is known before anything is looked at."""

    paths: StateDirectory
    socket: str
    config: Config
    holder: int | None
    """Who has the state directory's lock: a pid; None: nobody."""
    status: dict[str, Any] | None
    """The answer to `daemon.status`; None: no answer."""


def ok(name: str, says: str) -> Diagnosis:
    return Diagnosis("ok", name, says)


def warning(name: str, says: str, what_next: str | None = None) -> Diagnosis:
    return Diagnosis("warning", name, says, what_next)


def copied(storage: str, went: str, root: str) -> Diagnosis:
    """Of a task store that was copied elsewhere."""
    return warning(
        "tasks",
        f"the task store in {storage} was copied to {went}: what was done there since is not here",
        f"config set storage … to go on there; if this one counts again, {remedies.command(root, 'stop')} and"
        f" {remedies.command(root, 'store', 'copy', '--to', storage)}",
    )


def problem(name: str, says: str, what_next: str | None = None) -> Diagnosis:
    return Diagnosis("problem", name, says, what_next)
