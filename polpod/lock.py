"""The state directory belongs to one process at a time: a daemon, or what repairs its files without one.

Programs that use the store as a library share it among themselves (`lock_shared`), and with no daemon.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from polpod.errors import OTHER_DAEMON, AnothersDirectory, StartError, StoreError
from polpod.paths import StateDirectory


@dataclass(frozen=True, slots=True)
class Held:
    """The state directory, locked for this process: its lock file and, since that can be removed (F61), itself."""

    path: str
    directory: int
    lock: int

    def require(self) -> None:
        """Raises StoreError when the path leads elsewhere: what would be acknowledged now, nobody would find again."""
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self.directory))
        except OSError as exc:
            raise StoreError(f"{self.path}: {exc.strerror}") from exc
        if not there:
            raise StoreError(f"{self.path}: another directory was put in its place")

    def take(self, how: int) -> bool:
        """Whether the lock could be had, `fcntl.LOCK_EX` or `LOCK_SH`."""
        return _locked(self.directory, how) and _locked(self.lock, how)

    def close(self) -> None:
        os.close(self.lock)
        os.close(self.directory)


def require_own(path: str) -> None:
    """Raises AnothersDirectory where this directory is another user's, also for root: its daemon could not open what we make."""
    owner = os.stat(path).st_uid
    if owner != os.geteuid():
        raise AnothersDirectory(
            f"{path} belongs to uid {owner}, not to uid {os.geteuid()}; be that user: sudo -u '#{owner}' …"
        )


def lock(paths: StateDirectory) -> Held:
    """Take the state directory for this process; the lock ends with it.

    Raises StartError: it is another user's, or (75) another process has it.
    """
    held = _opened(paths)
    if not held.take(fcntl.LOCK_EX):
        who = f"another polpod (pid {_signed(held.lock) or 'unknown'}) has this state directory"
        if held.take(fcntl.LOCK_SH):
            who = "a program that uses the store as a library has this state directory"
        held.close()
        raise StartError(f"{paths.path}: {who}", OTHER_DAEMON)
    text = f"{os.getpid()}\n".encode()
    with suppress(OSError):  # for people to read; a full disk has room only for what is written in place (F49)
        os.pwrite(held.lock, text, 0)
        os.ftruncate(held.lock, len(text))
    return held


def lock_shared(paths: StateDirectory) -> Held:
    """Keep daemons from the state directory, for as long as this process uses its store as a library.

    Raises StartError: it is another user's, or (75) a daemon has it.
    """
    held = _opened(paths)
    if not held.take(fcntl.LOCK_SH):
        pid = _signed(held.lock) or "unknown"
        held.close()
        raise StartError(
            f"{paths.path}: polpod (pid {pid}) has this state directory: ask it over its socket, or stop it",
            OTHER_DAEMON,
        )
    return held


def _opened(paths: StateDirectory) -> Held:
    try:
        require_own(paths.path)
        directory = os.open(paths.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StartError(f"{exc.filename}: {exc.strerror}") from exc
    return Held(paths.path, directory, fd)


def holder(paths: StateDirectory) -> int | None:
    """The pid of the process that has the state directory; None: nobody has it.  0: somebody who did not say who.

    Raises StartError where that cannot be told.
    """
    for path in (paths.lock, paths.path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StartError(f"{path}: {exc.strerror}") from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            said = "" if path == paths.path else _signed(fd)
            return int(said) if said.isdecimal() else 0
        finally:
            os.close(fd)
    return None


def _signed(fd: int) -> str:
    return os.pread(fd, 20, 0).decode(errors="replace").strip()


def _locked(fd: int, how: int) -> bool:
    # A runner without a daemon asks now and then, for a moment, whether there is one: that is no other daemon.
    for _ in range(10):
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False
