"""Who a process is: a pid means nothing alone, since the kernel gives it away again (DESIGN §6).

Rules:

1. A process is named by boot id, pid-namespace inode, pid, start ticks (field 22 of `/proc/<pid>/stat`), and the inode
   of its pidfd where the kernel makes that unique.  Never by a wall clock, never by the pid alone.
2. A pidfd is opened first and compared afterwards, so what was compared is what will be signalled.
3. Signals go through `send` only, and a failed proof means that nothing is signalled.
"""

from __future__ import annotations

import os
import signal
from functools import cache
from typing import NamedTuple

from polpod.runner import small_files


class Process(NamedTuple):
    """One reading of `/proc/<pid>/stat`."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    cpu_ticks: int
    """User and system time of the process and of the children that it reaped, in clock ticks."""
    threads: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """A zombie is dead, unless it is only the first thread that ended and others go on."""
        return self.state not in "ZX" or self.threads > 1


@cache
def boot_id() -> str:
    """The kernel's random name for this boot."""
    return small_files.read("/proc/sys/kernel/random/boot_id").decode().strip()


def pid_namespace() -> int:
    """The inode of our pid namespace: pids of another one mean nothing here."""
    return os.stat("/proc/self/ns/pid").st_ino


def read(pid: int) -> Process | None:
    """The process as it is now, zombies included; None if there is none."""
    try:
        data = small_files.read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return (
            None  # the second: it was reaped between open and read; the third: not ours to see (/proc with hidepid=1)
        )
    # The name, in parentheses, may contain anything, parentheses and blanks included.
    f = data[data.rindex(b")") + 2 :].split()
    cpu_ticks = int(f[11]) + int(f[12]) + int(f[13]) + int(f[14])
    return Process(pid, f[0].decode(), int(f[1]), int(f[2]), int(f[3]), cpu_ticks, int(f[17]), int(f[19]))


def pids() -> list[int]:
    """Of every process that is visible here, zombies included."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def children(pid: int) -> list[int]:
    """Pids of its children, zombies included; none if it is gone, or this kernel does not say (CONFIG_PROC_CHILDREN)."""
    try:
        files = [f"/proc/{pid}/task/{thread}/children" for thread in os.listdir(f"/proc/{pid}/task")]
        return [int(child) for file in files for child in small_files.read(file).split()]
    except OSError:
        return []


def start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of the process; None if there is no such process."""
    process = read(pid)
    return process.start_ticks if process else None


def inode_of(pidfd: int) -> int | None:
    """The inode of a pidfd where it is unique for a boot (pidfs, Linux 6.9); None where all pidfds share one."""
    status = os.fstat(pidfd)
    return status.st_ino if status.st_dev != _anonymous_device() else None


def own_inode() -> int | None:
    """`inode_of` a pidfd of this process."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        return inode_of(pidfd)
    finally:
        os.close(pidfd)


def proven(
    pid: int,
    ticks: int,
    *,
    boot: str | None = None,
    pid_ns: int | None = None,
    pidfd_inode: int | None = None,
) -> int | None:
    """A pidfd of the process that these marks name, owned by the caller; None if it is gone or cannot be proven.

    `ticks` are its start ticks.  A pidfd inode, where one is known and unique here, decides in their stead: ticks
    differ between time namespaces, that inode does not (DESIGN §6).  PID 1, this process, and those that we may not
    signal are never proven (F40).
    """
    if pid <= 1 or pid == os.getpid() or boot not in (None, boot_id()) or pid_ns not in (None, pid_namespace()):
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # gone, or (EINVAL, ENOENT) a thread of another process
        return None
    try:
        inode = inode_of(pidfd) if pidfd_inode is not None else None
        same = start_ticks(pid) == ticks if inode is None else inode == pidfd_inode
    except OSError:  # EMFILE: /proc cannot be asked now
        same = False
    # Signal 0 at last: what was read above was read of this process only if it has not been reaped since.
    if same and send(pidfd, 0):
        return pidfd
    os.close(pidfd)
    return None


def send(pidfd: int, number: int) -> bool:
    """Send a signal; False if the process is gone or not ours to signal."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_all(processes: list[Process], *numbers: int) -> None:
    """Send these signals, in order, to each process that still is the one that was read."""
    for process in processes:
        if (pidfd := proven(process.pid, process.start_ticks)) is not None:
            for number in numbers:
                send(pidfd, number)
            os.close(pidfd)


@cache
def _anonymous_device() -> int:
    """The device of anonymous inodes, to which pidfds belonged before they had a file system of their own."""
    eventfd = os.eventfd(0)
    try:
        return os.fstat(eventfd).st_dev
    finally:
        os.close(eventfd)
