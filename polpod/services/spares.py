"""Run directories that wait for other runs: see `runner/directory.py` for why."""

from __future__ import annotations

import os
import shutil
from collections import deque
from itertools import count

from polpod.paths import RunDirectory, StateDirectory
from polpod.runner import directory


class Spares:
    """Run directories that are kept for other runs; used by several threads.  Those of an earlier daemon are removed."""

    MOST = 64

    def __init__(self, paths: StateDirectory) -> None:
        self._paths = paths
        self._kept: deque[RunDirectory] = deque()
        self._numbers = count(1)
        for name in os.listdir(paths.run_directories):
            if name.startswith("spare-"):  # with whatever else its job made there
                shutil.rmtree(os.path.join(paths.run_directories, name), ignore_errors=True)

    def keep(self, run: RunDirectory) -> None:
        """Keep the directory of a run whose runner ended in order, or remove it where enough are kept.  Raises OSError."""
        # Without exit.tmp, which became exit.json, or with a runner that still ends, it is no good for another run.
        if len(self._kept) >= self.MOST or not os.path.exists(run.exit_tmp) or directory.held(run.lock):
            directory.remove(run)
            return
        spare = self._paths.spare(next(self._numbers))
        directory.retire(run, spare)
        self._kept.append(spare)

    def take(self) -> RunDirectory | None:
        while True:
            try:
                spare = self._kept.popleft()
            except IndexError:
                return None
            if os.path.exists(spare.exit_tmp):  # nobody has cleaned up behind our back (F61)
                return spare
