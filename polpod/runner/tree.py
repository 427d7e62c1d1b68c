"""The job's processes as its living runner sees them: its children by subreaping, and its containment.

"Gone" is proven, never assumed: no child is left to reap, and no process is left in the cgroup (DESIGN §6, F35).
"""

from __future__ import annotations

import time

from polpod.runner import containment
from polpod.runner.containment import Cgroup
from polpod.runner.session import Session
from polpod.runner.watch import Watch

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 1.0


class Tree:
    """All that descends from the job, or sits in its cgroup."""

    def __init__(self, watch: Watch, cgroup: Cgroup | None, session: Session) -> None:
        self._watch = watch
        self._cgroup = cgroup
        self._session = session

    def gone(self) -> bool:
        """Whether nothing is left.  What left its cgroup (root may) is still our descendant, and the reverse."""
        self._watch.reap()
        return not self._watch.children and (self._cgroup is None or self._cgroup.empty())

    def terminate(self) -> int:
        """SIGTERM to all; returns how many there were."""
        return containment.terminate(self._nearest())

    def count(self) -> int:
        return len(self._nearest().processes())

    def wait_gone(self, until: float) -> bool:
        """Wait until nothing is left, at the longest `until`; cut short, False, by SIGTERM."""
        pause = FIRST_PAUSE
        while not self.gone():
            if time.monotonic() >= until or self._watch.wait(min(until, time.monotonic() + pause)):
                return False
            pause = min(2 * pause, LONGEST_PAUSE)
        return True

    def kill(self) -> None:
        """SIGKILL until nothing is left.  Returns only then: what cannot be killed keeps its runner (F39)."""
        pause = FIRST_PAUSE
        while not self.gone():
            self._nearest().kill()
            self._watch.wait(time.monotonic() + pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _nearest(self) -> Cgroup | Session:
        """The cgroup while anything is in it; then by looking, for what got out of it."""
        return self._session if self._cgroup is None or self._cgroup.empty() else self._cgroup
