"""What holds all processes of one run's job together: a cgroup, or what can be found by looking (DESIGN §6).

Level `cgroup`: a cgroup2 directory per run, which no process can leave by setsid or a double fork.
Level `session`: no such directory, see polpod.runner.session.

Rules:

1. "Empty" is said only of what was looked at: `populated 0`, or two scans in a row without a living process.
2. Each process is signalled through a pidfd, after it was proven to be the one that was found.
3. A cgroup that vanished is empty to us: then the session is where to look (F44).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from polpod.runner import identity, small_files
from polpod.runner.identity import Process

LEAF = "polpod"
"""Our own leaf below a delegated cgroup: cgroup v2 keeps processes out of inner nodes with controllers."""

VANISHED = (errno.ENOENT, errno.ENODEV)
"""A cgroup that is not there; one that was removed between the opening of its file and the use of it."""

CONTROLLERS = ("memory", "pids", "cpu")
"""Of cgroup2, what runs are measured and limited by."""

WHERE_THERE_IS = ("memory.swap.max", "cpu.weight.nice")
"""Limits that say nothing where the kernel has no swap to count, or the CPU controller is not ours."""


class Containment(Protocol):
    """All processes of one run's job."""

    level: str

    def processes(self) -> list[Process]:
        """Those that live now."""

    def empty(self) -> bool:
        """Whether nothing lives."""

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing lives, at most `timeout` seconds; blocking."""

    def kill(self) -> None:
        """SIGKILL to all that live; `wait_empty` is the proof."""

    def cpu_seconds(self) -> float | None:
        """User and system time so far; None if unknown."""


def terminate(containment: Containment) -> int:
    """SIGTERM to all that live, stopped ones too; returns how many there were."""
    found = containment.processes()
    identity.signal_all(found, signal.SIGTERM, signal.SIGCONT)
    return len(found)


class Cgroup:
    """A run's directory in cgroup2."""

    level = "cgroup"

    def __init__(self, path: str) -> None:
        self.path = path

    def make(self) -> None:
        """Raises OSError."""
        os.mkdir(self.path, 0o755)
        with suppress(
            OSError
        ):  # where the memory controller is ours: the kernel ends this job whole, and no other (F45)
            small_files.write(f"{self.path}/memory.oom.group", b"1")

    def limit(self, file: str, value: str) -> None:
        """Set what the job may use at most, by a file of its controller.  Raises OSError: FileNotFoundError without that."""
        try:
            small_files.write(f"{self.path}/{file}", value.encode())
        except FileNotFoundError:
            if file not in WHERE_THERE_IS:
                raise

    def enter(self, pid: int) -> None:
        """Move a process here; what it forks from now on stays here.  Raises OSError."""
        small_files.write(f"{self.path}/cgroup.procs", b"%d" % pid)

    def processes(self) -> list[Process]:
        # Read the process first, then see that it is a member: so what was read was read of a member.
        read = [p for pid in self._pids() if (p := identity.read(pid))]
        members = set(self._pids())
        return [p for p in read if p.pid in members and p.alive]

    def empty(self) -> bool:
        try:
            return b"populated 0" in small_files.read(f"{self.path}/cgroup.events")
        except OSError:
            return not os.path.isdir(self.path)

    def wait_empty(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        try:
            with open(f"{self.path}/cgroup.events", "rb", buffering=0) as file:
                changes = select.poll()
                changes.register(file, select.POLLPRI)
                # Read through what is polled: until then the kernel calls it changed, and poll returns at once.
                while b"populated 0" not in os.pread(file.fileno(), 4096, 0):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    changes.poll(left * 1000)
        except OSError as exc:
            if exc.errno not in VANISHED:
                raise
        return True

    def kill(self) -> None:
        # cgroup.kill signals first threads alone (seen in Linux 6.18), so it misses who goes on without his; whom
        # he has forked by now it finds.
        identity.signal_all([p for p in self.processes() if p.state == "Z"], signal.SIGKILL)
        try:
            small_files.write(f"{self.path}/cgroup.kill", b"1")
        except OSError as exc:
            if exc.errno not in VANISHED:
                raise

    def cpu_seconds(self) -> float | None:
        for line in self._lines("cpu.stat"):
            if line.startswith(b"usage_usec "):
                return int(line.split()[1]) / 1e6
        return None

    def memory_peak(self) -> int | None:
        """Bytes, page cache included; None where the memory controller is not ours."""
        for line in self._lines("memory.peak"):
            return int(line)
        return None

    def memory(self) -> int | None:
        """Bytes now; as above."""
        for line in self._lines("memory.current"):
            return int(line)
        return None

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed for want of memory."""
        for line in self._lines("memory.events"):
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove the directory and those that the job made below it.  Raises OSError (EBUSY) while anything lives."""
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return
        except OSError:
            for path in self._subtree():
                os.rmdir(path)

    def _pids(self) -> Iterator[int]:
        for path in self._subtree():
            with suppress(OSError):  # it was removed, or it is threaded
                yield from map(int, small_files.read(f"{path}/cgroup.procs").split())

    def _subtree(self) -> list[str]:
        """Our directory and all below it, each before its parent.

        Not by os.walk, which recurses (Python 3.11): a job may make more cgroups in cgroups than a stack has frames.
        """
        paths = [self.path]
        for path in paths:
            with suppress(OSError), os.scandir(path) as entries:  # it was removed
                paths += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        return paths[::-1]

    def _lines(self, name: str) -> list[bytes]:
        try:
            return small_files.read(f"{self.path}/{name}").splitlines()
        except OSError as exc:
            if exc.errno in VANISHED:
                return []
            raise


class RunCgroups(NamedTuple):
    """The cgroup below which the runs of one state directory have theirs."""

    path: str

    def run(self, run_id: int) -> Cgroup:
        return Cgroup(f"{self.path}/run-{run_id}")


def choose_base(state_directory: str, pid: int | None = None) -> RunCgroups | None:
    """Make the base below the cgroup of our zygote `pid`, or ours, if that is delegated; else below the root of cgroup2.

    None: level `session` is what this host allows.
    """
    own = own_cgroup("self" if pid is None else pid)
    for base in bases(state_directory, own):
        parent = os.path.dirname(base.path)
        if _may_make_below(parent) and _make(base.path):
            return base
    return None


def bases(state_directory: str, own: tuple[str, str] | None = None) -> list[RunCgroups]:
    """Where the base of a state directory would be, the best place first; `own` as of `own_cgroup`, ours by default."""
    own = own or own_cgroup()
    if own is None:
        return []
    mount, path = own
    delegated = os.path.dirname(path) if os.path.basename(path) == LEAF else path
    name = base_name(state_directory)
    return [RunCgroups(os.path.join(parent, name)) for parent in dict.fromkeys((delegated, mount))]


def base_name(state_directory: str) -> str:
    """What the base of a state directory is called, wherever it is."""
    import hashlib  # here, since a runner loads this module too and must not carry OpenSSL

    return f"polpo-{hashlib.sha256(os.fsencode(os.path.realpath(state_directory))).hexdigest()[:8]}"


def enter_leaf() -> None:
    """Move this process into a leaf of its cgroup, which is delegated to us.  Raises OSError."""
    own = own_cgroup()
    if own is not None:
        leaf = os.path.join(own[1], LEAF)
        os.makedirs(leaf, exist_ok=True)
        small_files.write(f"{leaf}/cgroup.procs", b"%d" % os.getpid())


def why_no_cgroup(state_directory: str, pid: int) -> str | None:
    """Why the process cannot give its runs cgroups; None: it can, as far as can be seen from here."""
    own = own_cgroup(pid)
    if own is None:
        return "cgroup2 is not mounted here"
    parents = [os.path.dirname(base.path) for base in bases(state_directory, own)]
    if not any(map(_may_make_below, parents)):
        return f"no cgroup is delegated to it: it may not write {' or '.join(f'{p}/cgroup.procs' for p in parents)}"
    # The root has no cgroup.kill; every other cgroup has it, if this kernel knows it.
    if not any(os.path.exists(f"{own[0]}/{name}/cgroup.kill") for name in os.listdir(own[0])):
        return "this kernel has no cgroup.kill (Linux 5.14)"
    return None


def _may_make_below(parent: str) -> bool:
    # To move a process, one must be allowed to write at the nearest common ancestor too (cgroups(7)).
    return os.access(parent, os.W_OK | os.X_OK) and os.access(f"{parent}/cgroup.procs", os.W_OK)


def own_cgroup(process: int | str = "self") -> tuple[str, str] | None:
    """Where cgroup2 is mounted, also on hybrid hosts, and the directory of our own cgroup in it; None without.

    With a pid, of that process: as we see it.
    """
    with open(f"/proc/{process}/cgroup") as file:
        own = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            root, mount = (_unescape(field) for field in before.split()[3:5])
            if after.startswith("cgroup2 ") and own is not None and own.startswith(root.rstrip("/")):
                return mount, os.path.join(mount, own[len(root.rstrip("/")) :].strip("/")).rstrip("/")
    return None


def _make(path: str) -> bool:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError:
        return False
    for directory in (os.path.dirname(path), path):
        for controller in CONTROLLERS:  # one by one, as far as we may: a write of several is refused as a whole
            with suppress(OSError), open(f"{directory}/cgroup.subtree_control", "w") as file:
                file.write(f"+{controller}")
    return os.access(f"{path}/cgroup.kill", os.W_OK)


def _unescape(field: str) -> str:
    """A path in mountinfo, where blanks and backslashes are written in octal."""
    return field.encode().decode("unicode_escape") if "\\" in field else field
