"""Processes as tests see them: by pid, read from /proc."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process of this pid does anything; a zombie does not, unless others of its threads still do."""
    fields = _status(pid)
    return fields != [] and (fields[0] not in "ZX" or int(fields[17]) > 1)


def state(pid: int) -> str:
    """The letter of /proc/<pid>/stat; empty where there is no such process."""
    return "".join(_status(pid)[:1])


def _status(pid: int) -> list[str]:
    """What /proc/<pid>/stat says after the name, the state first; nothing where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def environment(pid: int) -> bytes:
    """The variables that it was executed with; empty of a zombie and where there is no such process."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def thread_states(pid: int) -> set[str]:
    """The letters of its threads."""
    return {state(int(thread)) for thread in os.listdir(f"/proc/{pid}/task")}


def children(pid: int) -> list[int]:
    """Those whose parent this is."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if _status(int(name))[1:2] == [str(pid)]:
            found.append(int(name))
    return found


def zygote(daemon: int) -> int | None:
    """The zygote of this daemon, if it has one just now."""
    for pid in children(daemon):
        try:
            if b"polpod.runner.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def holders(path: str) -> list[int]:
    """Those that have this file open."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            open_files = [os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if path in open_files:
            found.append(int(name))
    return found


def with_env(entry: str) -> list[int]:
    """Those alive that were given this variable, as `NAME=value`, and what they were forked to since."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if entry.encode() in variables and alive(int(name)):
            found.append(int(name))
    return found


@contextmanager
def ended_at_last(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which is killed and reaped at the end, however that comes."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
