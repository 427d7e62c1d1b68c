"""`python -I -m polpod.runner DIRECTORY [GO_FD]`: a runner without a zygote.

It becomes the leader of a session of its own, so it must not be started as the leader of a process group.  Without
GO_FD it does not wait to be told.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from polpod.runner import runner, syscalls, watch


def main(argv: list[str]) -> NoReturn:
    """Carry out the run whose directory is argv[1]."""
    directory = os.path.abspath(argv[1])
    go = int(argv[2]) if len(argv) > 2 else None
    if os.getsid(0) != os.getpid():
        os.setsid()
    syscalls.close_all_but(*([] if go is None else [go]))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    os.chdir("/")
    watch.settle_signals()
    runner.main(directory, go)


if __name__ == "__main__":
    main(sys.argv)
