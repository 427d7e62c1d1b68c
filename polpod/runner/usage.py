"""What a job uses, kept from time to time beside its log, for who asks later how that came about.

Rules:

1. The file stays small: once it has MOST samples, every other one goes, and from then on half as many are taken.
2. A look takes at most a hundredth of a CPU: the next one waits for as long as that needs.
3. Nothing depends on it: what cannot be written is left out.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import struct
import time
from collections.abc import Iterable

from polpod.runner import directory, small_files
from polpod.runner.containment import Cgroup
from polpod.runner.session import TICKS_PER_SECOND, descendants

SUFFIX = ".usage"
"""Of the file, after the name of the log."""

FIRST_PAUSE = 5.0
"""Seconds; a run that is over by then has no file."""

MOST = 360

MOST_PROCESSES = 1000
"""That one look goes through."""

SHARE = 100

_SAMPLE = struct.Struct("<ddQ")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage:
    """A chore of the runner's."""

    def __init__(self, log_path: str, cgroup: Cgroup | None) -> None:
        self._path = log_path + SUFFIX
        self._cgroup = cgroup
        self._started = time.monotonic()
        self._pause = FIRST_PAUSE
        self._samples = 0
        self.due = self._started + self._pause

    def run(self) -> None:
        """Keep a sample, and decide when the next one is due."""
        now, before = time.monotonic(), time.process_time()
        try:
            data = _SAMPLE.pack(now - self._started, *_look(self._cgroup))
            small_files.write(self._path, data, os.O_CREAT | os.O_APPEND)
            self._samples += 1
            if self._samples == MOST:
                self._thin()
        except (OSError, ValueError):
            pass
        self.due = now + max(self._pause, SHARE * (time.process_time() - before))

    def _thin(self) -> None:
        samples = read(self._path)[1::2]
        small_files.write(f"{self._path}.new", b"".join(_SAMPLE.pack(*s) for s in samples), os.O_CREAT | os.O_TRUNC)
        os.rename(f"{self._path}.new", self._path)
        self._samples = len(samples)
        self._pause *= 2


def read(path: str) -> list[tuple[float, float, int]]:
    """The samples in a file: seconds since the run began, CPU seconds by then, bytes that were resident.

    Raises OSError; ValueError if it is no file.
    """
    fd = directory.open_left(path)  # the job, whose user may be ours, can put anything there
    try:
        data = os.pread(fd, MOST * _SAMPLE.size, 0)
    finally:
        os.close(fd)
    whole = data[: len(data) // _SAMPLE.size * _SAMPLE.size]
    return [s for s in _SAMPLE.iter_unpack(whole) if math.isfinite(s[0]) and math.isfinite(s[1])]


def _look(cgroup: Cgroup | None) -> tuple[float, int]:
    """CPU seconds of our job so far, and the bytes of memory that its processes have resident, each for itself."""
    family = [(p.pid, p.cpu_ticks) for p in itertools.islice(descendants(os.getpid()), MOST_PROCESSES)]
    counted = cgroup.cpu_seconds() if cgroup is not None else None
    if counted is None:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        counted = ended.ru_utime + ended.ru_stime + sum(ticks for _, ticks in family) / TICKS_PER_SECOND
    return counted, _resident(pid for pid, _ in family)


def _resident(pids: Iterable[int]) -> int:
    pages = 0
    for pid in pids:
        try:
            pages += int(small_files.read(f"/proc/{pid}/statm").split()[1])
        except (OSError, IndexError):  # it has ended since
            continue
    return pages * _PAGE
