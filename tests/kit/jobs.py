"""Shell texts of jobs that tests hold in their hands."""

from __future__ import annotations

from pathlib import Path

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
"""Ignores SIGTERM, and says `ready` once it does."""


def waits_for(go: Path, then: str = "exit 0") -> str:
    """Goes on with `then` once the file is there."""
    return f"while [ ! -e {go} ]; do sleep 0.02; done; {then}"
