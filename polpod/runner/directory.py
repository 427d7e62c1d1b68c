"""The run directory: the files by which a runner and the daemon meet, beside the run's row (DESIGN §6).

    spec.json   by the daemon, taken by the runner: it holds secrets
    lock        flock held by the runner from before its `go` to its end: proof of life that needs no /proc; and in it
                who that is, for those who find the directory without its row (F54)
    exit.tmp    preallocated before anything is executed, so that a full disk cannot refuse the second witness
    exit.json   the second witness: the outcome, where the row could not be written
    trouble     one line: why a runner gave up
    prompt      what an agent is to do, where that comes by stdin or from a file; by the daemon, for the job
    context     what an agent may want to know beside it, where its command names that file; as prompt
    parked.json what it needs to go on where an earlier run stopped to ask, if one did
    review.json, assessment.json
                of a run that carries out checks: which, and what they found

The daemon makes the directory (`prepare`), and keeps it for another run (`retire`) or removes it (`remove`) after
collection.  Files are few on purpose: to make
one costs a run more than its row does.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from polpod.paths import RunDirectory
from polpod.runner import contract, small_files

ERROR_KEPT = 400


def prepare(
    run: RunDirectory,
    spec: contract.RunSpec,
    spare: RunDirectory | None = None,
    texts: Mapping[str, bytes] | None = None,
) -> None:
    """Make the directory and spec.json, out of a spare one where there is one; and `texts`, files for the job by path.

    Not synced: after a power cut there is no runner to read it.  Raises FileExistsError if there is one already, OSError
    otherwise.
    """
    if spare is None:
        os.mkdir(run.path, 0o700)
    else:
        os.rename(spare.path, run.path)
        os.rename(run.exit_tmp, run.spec)
    for path, text in (texts or {}).items():
        small_files.write(path, text, os.O_CREAT | os.O_EXCL)
    small_files.write(run.spec, json.dumps(spec).encode(), os.O_CREAT | os.O_TRUNC)


def retire(run: RunDirectory, spare: RunDirectory) -> None:
    """Keep the directory of a run that is over, with its files, for another.

    A file system that makes and removes files at this rate spends more on finding free inodes than the run on anything
    else: ext4 passes over those that were freed in the last seconds one by one.  Raises OSError.
    """
    for path in (run.prompt, run.context, run.parked):  # they say what that run was about, and are no other's matter
        with suppress(FileNotFoundError):
            os.unlink(path)
    os.rename(run.path, spare.path)


def take_spec(run: RunDirectory) -> contract.RunSpec:
    """Read spec.json, empty it, and make it the preallocated exit.tmp.

    Raises FileNotFoundError if another runner took it; ValueError if it is broken or of a version we do not know; OSError,
    ENOSPC above all, if there is no room for the second witness: then nothing must be started.
    """
    spec = json.loads(small_files.read(run.spec))
    fd = os.open(run.spec, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, 0)
        os.posix_fallocate(fd, 0, contract.EXIT_SIZE)
    finally:
        os.close(fd)
    os.rename(run.spec, run.exit_tmp)
    if spec["version"] != contract.VERSION:
        raise ValueError(f"spec.json is of version {spec['version']}, this runner knows {contract.VERSION}")
    return cast("contract.RunSpec", spec)


def lock(path: str) -> int:
    """Take the runner's lock for the life of this process; waits for the moment that somebody's `held` may take."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def held(path: str) -> bool:
    """Whether a living process holds this lock; False also where there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def has_lock(pid: int, run_id: int) -> bool:
    """Whether the process has the lock of this run open, also where that was removed; False where we may not ask."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    # The end of the path alone: it is written as the runner saw it, and we may see it elsewhere (another mount).
    return any(link.removesuffix(" (deleted)").endswith(f"/run-{run_id}/lock") for link in links)


def record_exit(run: RunDirectory, payload: dict[str, Any]) -> None:
    """Make exit.json durable: in the blocks that were reserved, then by its name.  Raises OSError."""
    data = contract.encode_exit(payload)
    if len(data) > contract.EXIT_SIZE:
        data = contract.encode_exit(payload | {"error": str(payload["error"])[:ERROR_KEPT]})
    fd = os.open(run.exit_tmp, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data, 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    os.rename(run.exit_tmp, run.exit)


def open_left(path: str) -> int:
    """A descriptor to read what lies where a job could put anything, without waiting for it.

    Raises FileNotFoundError, NotADirectoryError; ValueError if it is no file; OSError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as exc:
        if exc.errno in _NO_FILE:
            raise ValueError(f"{path}: {exc.strerror}") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{path}: not a file")
    return fd


_NO_FILE = (errno.ELOOP, errno.ENXIO)
"""What open(2) says of a symbolic link, and of a socket."""


def _left(path: str, most: int) -> bytes:
    """The first `most` bytes of it.  Raises as `open_left`."""
    fd = open_left(path)
    try:
        return os.pread(fd, most, 0)
    finally:
        os.close(fd)


def read_exit(path: str) -> dict[str, Any]:
    """The payload of exit.json.  Raises FileNotFoundError; ValueError if it is damaged (F25)."""
    return contract.decode_exit(_left(path, contract.EXIT_SIZE))


def set_aside(run: RunDirectory, kept: str) -> str | None:
    """Move exit.json to `kept` if it is damaged; what became of it, or None if it is sound or not there (F25)."""
    try:
        read_exit(run.exit)
    except OSError:
        return None
    except ValueError as damage:
        try:
            os.rename(run.exit, kept)
        except OSError as exc:
            return f"exit.json is damaged ({damage}), and could not be kept: {exc.strerror}"
        return f"exit.json is damaged ({damage}), and kept as {kept}"
    return None


def sign_lock(fd: int, facts: dict[str, Any]) -> None:
    """Write into the lock who holds it.  Raises OSError."""
    os.pwrite(fd, json.dumps(facts).encode(), 0)


def read_lock(path: str) -> dict[str, Any]:
    """Who holds, or held, the lock.  Raises FileNotFoundError; ValueError if it was not signed."""
    facts = json.loads(_left(path, contract.EXIT_SIZE))
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: not an object")
    return facts


def hand_over(run: RunDirectory, spec: contract.ReviewSpec) -> None:
    """Leave the checks that the run's job carries out.  Raises OSError."""
    small_files.write(run.review, json.dumps(spec).encode(), os.O_CREAT | os.O_TRUNC)


def read_assessment(run: RunDirectory, most: int) -> bytes | None:
    """What the checks found, or the first `most` bytes of it; None: no file that may be read.  Raises OSError."""
    try:
        return _left(run.assessment, most)
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return None


def write_trouble(run: RunDirectory, text: str) -> None:
    """Leave the reason why this runner gave up.  Raises OSError."""
    small_files.write(run.trouble, text.encode(errors="replace"), os.O_CREAT | os.O_TRUNC)


def read_trouble(run: RunDirectory) -> str | None:
    """Why the runner gave up, or None if it left no word."""
    try:
        return _left(run.trouble, contract.EXIT_SIZE).decode(errors="replace")
    except (FileNotFoundError, ValueError):
        return None


def remove(run: RunDirectory) -> None:
    """Remove the directory with all its files; one that is not there is no error.  Raises OSError."""
    while True:
        try:
            names = os.listdir(run.path)
        except FileNotFoundError:
            return
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(run.path, name))
        try:
            os.rmdir(run.path)
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:  # a runner that was given up still makes a file or two
                raise
