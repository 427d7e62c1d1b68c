"""A wall clock of its own for a daemon: the real one, and as many seconds as a file says at that moment.

Executed as a program, it is the launcher of such a daemon: `python clock.py FILE PYTHON -m polpod …` replaces what gives
Python the wall clock (`time.time`, `time.time_ns`, `datetime.now`) and goes on as polpod.  The monotonic clocks stay true,
as they do when a clock is set; runners and jobs are processes of their own, whose wall clock stays true as well.
"""

from __future__ import annotations

import ctypes
import gc
import runpy
import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path


class Clock:
    """What a daemon's clock shows beside the true time; `under` is for `Host.start`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.under = (sys.executable, __file__, str(file))
        self.shift(0)

    def shift(self, seconds: float) -> None:
        """From now on the clock differs from the true time by so much."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)


def _replace_clock(file: Path) -> None:
    true_time, true_time_ns, true_now = time.time, time.time_ns, datetime.now

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        return true_now(tz) + timedelta(seconds=float(file.read_text()))

    time.time = lambda: true_time() + float(file.read_text())
    time.time_ns = lambda: true_time_ns() + int(float(file.read_text()) * 1e9)
    # A class written in C: its attributes are replaced in the dictionary behind the read-only view of it.
    gc.get_referents(datetime.__dict__)[0]["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


if __name__ == "__main__":
    _replace_clock(Path(sys.argv[1]))
    sys.path[0] = ""  # this directory is the tests', and no place to import from
    module = sys.argv[sys.argv.index("-m") + 1]
    sys.argv = sys.argv[sys.argv.index("-m") + 1 :]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
