"""The state directory belongs to one process at a time: a daemon, or what repairs its files without one."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

from polpod.errors import OTHER_DAEMON, StartError
from polpod.paths import StateDirectory


def lock(paths: StateDirectory) -> int:
    """Take the state directory for this process; the lock ends with it.  Raises StartError (75) if another has it."""
    try:
        fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StartError(f"{paths.lock}: {exc.strerror}") from exc
    if not _locked(fd):
        holder = os.pread(fd, 20, 0).decode().strip() or "unknown"
        os.close(fd)
        raise StartError(f"{paths.path}: another polpod (pid {holder}) has this state directory", OTHER_DAEMON)
    text = f"{os.getpid()}\n".encode()
    with suppress(OSError):  # for people to read; a full disk has room only for what is written in place (F49)
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
    return fd


def holder(paths: StateDirectory) -> int | None:
    """The pid of the process that has the state directory; None: nobody has it.  0: somebody who did not say who."""
    try:
        fd = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(fd, 20, 0).decode(errors="replace").strip()
        return int(said) if said.isdecimal() else 0
    finally:
        os.close(fd)
    return None


def _locked(fd: int) -> bool:
    # A runner without a daemon asks now and then, for a moment, whether there is one: that is no other daemon.
    for _ in range(10):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False
