"""What can be found of a job that has no cgroup, or has left it: by looking at all processes (DESIGN §6, level `session`).

The job's processes are the union of the descendants of its living runner, of the sessions and groups that the job leads,
of processes of our uid with the run's marks in their environment, and of those that hold its log open for appending.
Complete while the runner lives, which is their subreaper; best effort after its SIGKILL.

Rules:

1. A process is told of as soon as it is found, before its own children are looked for: who is stopped at once cannot
   fork behind the look's back.
2. Who died before it was read may have been followed by another, as in a chain of forks: then who is new is looked at
   (F36).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from polpod.runner import contract, identity
from polpod.runner.identity import Process

LISTINGS = 50
"""How often, at most, one look lists who is new: on a host where somebody always dies meanwhile, it has to end."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Session:
    """What can be found of a job that has no cgroup."""

    level = "session"

    def __init__(self, run_id: int, nonce: str, log_path: str, leaders: Mapping[int, int], parent: int | None) -> None:
        """`leaders`: start ticks by pid of those whose sessions and groups are the job's: runner and main process.

        `parent`: pid of the living runner; None if it is dead.
        """
        self._marks = (f"POLPO_RUN_ID={run_id}".encode(), f"POLPO_RUN_MARK={contract.run_mark(nonce)}".encode())
        self._log_path = log_path
        self._leaders = dict(leaders)
        self._parent = parent
        self._parent_ticks = None if parent is None else identity.start_ticks(parent)

    def processes(self) -> list[Process]:
        return list({p.pid: p for p in self._found()}.values())

    def _found(self) -> Iterator[Process]:
        """Each as soon as it is found (rule 1); some more than once."""
        parent = self._parent
        if parent is not None and identity.start_ticks(parent) != self._parent_ticks:  # it died meanwhile
            parent = None
        spared = {1, os.getpid(), parent}
        found: set[int] = set()
        for process in descendants(parent) if parent is not None else ():
            found.add(process.pid)
            yield process
        log = _file_id(self._log_path)
        table: dict[int, Process] = {}
        for process, ours in _living(identity.pids, lambda pid: self._marked(pid) or _appends(pid, log)):
            table[process.pid] = process
            if (ours or process.parent == parent) and process.pid not in spared:
                found.add(process.pid)
                yield process
        found &= table.keys()
        while True:
            led = self._led(table, found)
            more = {p.pid for p in table.values() if p.parent in found or p.group in led or p.session in led}
            more -= spared | found
            if not more:
                return
            yield from (table[pid] for pid in more)
            found |= more

    def _led(self, table: Mapping[int, Process], found: set[int]) -> set[int]:
        """The sessions and groups that are the job's.

        The number of a session is its own while anybody is in it, also without its leader; so a process of ours makes
        its session ours if the leader is ours too, or gone.  Not where the leader lives and is a stranger: a process
        that was only given our marks, in somebody's terminal, does not make that terminal ours.
        """
        ids = {n for pid in found for n in (table[pid].group, table[pid].session)}
        led = {n for n in ids if n in found or n not in table or n == self._parent}
        led |= {pid for pid, ticks in self._leaders.items() if pid in table and table[pid].start_ticks == ticks}
        # 0: the leader is outside our pid namespace.  Our own are a job's only to its runner (F40).
        return led - {0, 1} - (set() if self._parent == os.getpid() else {os.getpgrp(), os.getsid(0)})

    def empty(self) -> bool:
        return not self.processes() and not self.processes()

    def wait_empty(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        pause = 0.01
        while not self.empty():
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        return True

    def kill(self) -> None:
        # Stopped first, until a look finds nobody new (F36).
        stopped: set[tuple[int, int]] = set()
        before = -1
        while before < len(stopped):
            before = len(stopped)
            for process in self._found():
                if (process.pid, process.start_ticks) not in stopped:
                    identity.signal_all([process], signal.SIGSTOP)
                    stopped.add((process.pid, process.start_ticks))
        identity.signal_all(self.processes(), signal.SIGKILL)

    def cpu_seconds(self) -> float | None:
        return sum(p.cpu_ticks for p in self.processes()) / TICKS_PER_SECOND

    def _marked(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
                return os.fstat(file.fileno()).st_uid == os.getuid() and all(mark in variables for mark in self._marks)
        except OSError:  # it is gone, or not ours
            return False


def descendants(parent: int) -> Iterator[Process]:
    """Who descends from a process, each before its own children are looked for: all of them, if it is a subreaper."""
    parents = [parent]
    while parents:
        for child, _ in _living(partial(identity.children, parents.pop()), bool):
            yield child
            parents.append(child.pid)


def _living(listed: Callable[[], list[int]], sign: Callable[[int], bool]) -> Iterator[tuple[Process, bool]]:
    """Those of a listing that live, each as soon as it is read, and whether it had the sign, which is looked for first.

    The listing is made again, for those who are new on it, where somebody was dead by then (rule 2).
    """
    known: set[int] = set()
    for _ in range(LISTINGS):
        new = [pid for pid in listed() if pid not in known]
        known.update(new)
        died = False
        for pid in new:
            signed = sign(pid)
            process = identity.read(pid)
            if process is not None and process.alive:
                yield process, signed
            else:
                died = True
        if not died:
            return


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _appends(pid: int, log: tuple[int, int] | None) -> bool:
    """Whether the process has this file open as a job has its log; who only reads it is none of ours."""
    if log is None:
        return False
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if _file_id(f"/proc/{pid}/fd/{fd}") == log:
                with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                    flags = int(next(line for line in file if line.startswith("flags:")).split()[1], 8)
                if flags & os.O_APPEND and flags & os.O_ACCMODE == os.O_WRONLY:
                    return True
    except OSError:  # it is gone, or not ours
        return False
    return False
