"""What the host gives: cgroups, descriptors, and versions of what polpod stands on."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import sys
from collections.abc import Iterator

from polpod import __version__
from polpod.doctor.checkup import Diagnosis, Patient, ok, problem, warning
from polpod.runner import containment as containments

OLDEST_KERNEL = (5, 3)
"""pidfd_open(2)."""
CGROUP_KILL = (5, 14)
OLDEST_SQLITE = (3, 37, 0)
"""STRICT tables."""
PER_RUN = 2
"""Descriptors of the daemon for each live run, at most (F86)."""
OF_ITS_OWN = 64


def containment(patient: Patient) -> Iterator[Diagnosis]:
    """The level that runs have, and why it is not `cgroup`."""
    if patient.config.settings.containment == "session":
        yield ok("containment", "session, as polpo.json says")
        return
    why = containments.why_no_cgroup(patient.paths.path, patient.holder or os.getpid())
    level = patient.status["containment"] if patient.status is not None else "session" if why else "cgroup"
    if level == "cgroup":
        yield ok("containment", "cgroup")
    else:
        reason = why or "it could not when the daemon started; a restart may change that"
        yield warning(
            "containment",
            f"session: {reason}; a job that hides from its session can outlive a kill of its runner",
            "run polpod where a cgroup is delegated to it, such as a systemd unit with Delegate=yes",
        )


def limits(patient: Patient) -> Iterator[Diagnosis]:
    """Those that tasks may ask for, as the daemon says: where it puts its runs, it knows alone."""
    if patient.status is None or "limits" not in patient.status:  # none runs, or one of before
        return
    found = patient.status["limits"]
    lacks = {name: lack for name, lack in found.items() if isinstance(lack, dict)}
    may = ", ".join(name for name in ("memory_max", "cpus", "tasks_max", "nice") if name not in lacks)
    yield ok("limits", f"tasks may ask for {may} (from {found['nice_from']} on)")
    for name, lack in lacks.items():
        yield warning("limits", f"{name} {lack['why']}", lack["next"])


def descriptors(patient: Patient) -> Iterator[Diagnosis]:
    """Each live run costs the daemon some (F86)."""
    pid = patient.holder
    hard = _hard_limit(pid) if pid else resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = PER_RUN * patient.config.settings.max_concurrency + OF_ITS_OWN
    used = _count(pid) if pid else 0
    said = f"{used} of {hard} are in use" if pid else f"at most {hard}"
    if hard is not None and used > hard * 0.9:
        yield problem("descriptors", f"{said}: soon nothing can start", "raise LimitNOFILE= or `ulimit -n`")
    elif hard is not None and hard < needed:
        yield warning(
            "descriptors",
            f"{said}, and {patient.config.settings.max_concurrency} runs at once may need {needed}",
            "raise LimitNOFILE= or `ulimit -n`",
        )
    else:
        yield ok("descriptors", said)


def versions(patient: Patient) -> Iterator[Diagnosis]:
    kernel = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2] if n.isdecimal())
    said = f"polpod {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Linux {platform.release()}"
    if kernel < OLDEST_KERNEL or sqlite3.sqlite_version_info < OLDEST_SQLITE or sys.version_info < (3, 11):
        yield problem("versions", f"{said}: too old", "Linux 5.3, SQLite 3.37 and Python 3.11 are needed at least")
    elif kernel < CGROUP_KILL:
        yield warning("versions", f"{said}: no cgroup.kill", "Linux 5.14 gives each run a cgroup")
    else:
        yield ok("versions", said)


def _hard_limit(pid: int) -> int | None:
    """None: unlimited, or not ours to see."""
    try:
        with open(f"/proc/{pid}/limits") as file:
            line = next(line for line in file if line.startswith("Max open files"))
    except OSError:
        return None
    return int(line.split()[4]) if line.split()[4].isdecimal() else None


def _count(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # it ended, or is another user's
        return 0
