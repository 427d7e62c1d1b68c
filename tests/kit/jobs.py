"""Shell texts of jobs that tests hold in their hands."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

POLPOCTL = f"{shlex.quote(sys.executable)} -m polpoctl"

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
"""Ignores SIGTERM, and says `ready` once it does."""


def waits_for(go: Path, then: str = "exit 0") -> str:
    """Goes on with `then` once the file is there."""
    return f"while [ ! -e {go} ]; do sleep 0.02; done; {then}"


def tells_token(to: Path) -> str:
    """Writes the run's id and token into the file."""
    return f'printf "%s %s" "$POLPO_RUN_ID" "$POLPO_TOKEN" > {to}.part; mv {to}.part {to}'


def nest(cgroup: str) -> None:
    """What a job may do that may write its cgroup: cgroups in cgroups, more than a stack of Python has frames."""
    for _ in range(sys.getrecursionlimit() + 100):
        cgroup += "/n"
        os.mkdir(cgroup)
