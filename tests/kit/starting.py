"""Daemons that are not to start: what they say, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from kit.waiting import BOUND

WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""A command that executes another for which permissions bind, as they do for everybody but root."""


def polpod(*arguments: str, under: Sequence[str] = (), bound: float = BOUND) -> tuple[int, str]:
    """Run a polpod that ends by itself: its exit status, and what it said."""
    ended = subprocess.run(
        [*under, sys.executable, "-m", "polpod", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=bound,
        cwd="/",
        text=True,
    )
    return ended.returncode, ended.stdout
