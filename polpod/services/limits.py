"""What a task may use at most: which limits can be set for runs here, and how (DESIGN §12).

Rules:

1. A limit that was asked for holds, or nothing is executed: what cannot be set is refused when it is asked for, and where
   that changed since, the run ends as spawn_failed.
2. Whether it can is looked up each time: the place of runs may change while the daemon lives.
3. It is no wall.  A job runs as polpod's user, who owns its cgroup, and may write there as polpod does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypedDict

import trio
from msgspec import UNSET, Struct

from polpod.errors import PermissionDenied, Unsupported
from polpod.model.runs import Run
from polpod.model.submissions import Edit, Submission
from polpod.model.tasks import Task
from polpod.runner import containment
from polpod.services.instance import Instance

CONTROLLERS = {"memory_max": "memory", "cpus": "cpu", "tasks_max": "pids"}
"""Fields of a task, and the controller of cgroup2 that each needs."""

PERIOD = 100_000
"""Microseconds, the kernel's own default, in which a job gets `cpus` times as much of the CPUs' time."""


DELEGATE = "run polpod by its systemd units, or in a cgroup with Delegate=yes"

PATIENCE = 5.0
"""Seconds that a request for a limit waits, after the daemon's start, until it is known where runs are placed."""


class Limited(TypedDict, total=False):
    """The keys of contract.RunSpec by which a runner limits its job."""

    limits: dict[str, str]
    own_nice: int


class Lack(Struct, frozen=True):
    """Why a limit cannot be set, and what to do about it."""

    why: str
    next: str

    def __str__(self) -> str:
        return f"{self.why}: {self.next}"


class Available(TypedDict):
    """Which limits a task may ask for: by the name of the field null, or what is missing."""

    memory_max: Lack | None
    cpus: Lack | None
    tasks_max: Lack | None
    nice_from: int
    """The lowest niceness that a job may have."""


def of(task: Task, run: Run) -> Limited:
    """What the runner is told of the task's limits; nothing where it has none."""
    limits: dict[str, str] = {}
    if task.memory_max is not None:
        # Without swap: else a job at its limit does not end, but swaps, and everybody waits for the disk.
        limits |= {"memory.max": str(task.memory_max), "memory.swap.max": "0"}
    if task.cpus is not None:
        limits["cpu.max"] = f"{round(task.cpus * PERIOD)} {PERIOD}"
    if task.tasks_max is not None:
        limits["pids.max"] = str(task.tasks_max)
    if task.nice is not None and run.cgroup is not None:
        # With the CPU controller, niceness counts within a cgroup only; between runs, it is this.
        limits["cpu.weight.nice"] = str(task.nice)
    told = Limited()
    if limits:
        told["limits"] = limits
    if task.nice is not None:
        told["own_nice"] = task.nice
    return told


async def refuse(instance: Instance, said: Submission | Edit) -> None:
    """Raises Unsupported or PermissionDenied for a limit that cannot be had, with the reason and the remedy."""
    asked = [field for field in (*CONTROLLERS, "nice") if getattr(said, field) not in (None, UNSET)]
    if asked and not instance.placed.is_set():
        with trio.move_on_after(PATIENCE):
            await instance.placed.wait()
        instance.placed.set()  # without a zygote, nobody else is to wait for one
    for field in asked:
        if field in CONTROLLERS and (lack := _lack(instance, CONTROLLERS[field])):
            raise Unsupported(f"{field} {lack}")
    if isinstance(said.nice, int) and said.nice < instance.nice_from:
        raise PermissionDenied(
            f"nice {said.nice}: jobs may have {instance.nice_from} and above, "
            "unless polpod is root's, or the unit that runs are in has LimitNICE="
        )


def available(instance: Instance) -> Available:
    """Which limits a task may ask for at the moment."""
    return Available(
        memory_max=_lack(instance, "memory"),
        cpus=_lack(instance, "cpu"),
        tasks_max=_lack(instance, "pids"),
        nice_from=instance.nice_from,
    )


def _lack(instance: Instance, controller: str) -> Lack | None:
    place = containment.own_cgroup()
    if instance.base is not None and place is not None:
        return lack_below(place[0], instance.base.path, controller)
    if instance.config.settings.containment == "session":
        return Lack(f"{_needs(controller)}, and polpo.json sets containment to session", "set it to auto")
    because = containment.why_no_cgroup(instance.paths.path, os.getpid())
    why = f"{_needs(controller)}, and runs have no cgroup"
    return Lack(f"{why} ({because})", DELEGATE) if because else Lack(why, "restart polpod: now they could have one")


def lack_below(mount: str, base: str, controller: str) -> Lack | None:
    """What keeps a cgroup that is made below `base` from having the controller; None: it has it.

    `mount`: where cgroup2 is mounted.
    """
    if controller in _words(f"{base}/cgroup.subtree_control"):
        return None
    if controller not in _words(f"{mount}/cgroup.controllers"):
        return _lack_of_host(mount, controller)
    withholds = next(d for d in _line(mount, base) if controller not in _words(f"{d}/cgroup.subtree_control"))
    if withholds not in (base, os.path.dirname(base)):
        return Lack(f"{_needs(controller)}, which {withholds} does not pass on", DELEGATE)
    if _words(f"{withholds}/cgroup.procs"):
        return Lack(
            f"{_needs(controller)}, which {withholds} cannot pass on, since processes are in it",
            f"start polpod in a cgroup named {containment.LEAF} below that, as DelegateSubgroup={containment.LEAF} does",
        )
    return Lack(f"{_needs(controller)}, which polpod may not enable in {withholds}", DELEGATE)


def _lack_of_host(mount: str, controller: str) -> Lack:
    for name, hierarchy, _, enabled in map(str.split, _lines("/proc/cgroups")):
        if name == controller and enabled == "0":
            why = f"{_needs(controller)}, which this kernel was told to leave out"
            return Lack(why, f"boot it with cgroup_enable={controller}")
        if name == controller and hierarchy != "0":
            why = f"{_needs(controller)}, and here it is one of cgroup version 1"
            return Lack(why, "boot with systemd.unified_cgroup_hierarchy=1")
    why = f"{_needs(controller)}, which {mount} has not"
    return Lack(why, "have it delegated to this container, or boot a kernel that has it")


def _needs(controller: str) -> str:
    return f"needs the {controller} controller of cgroup2"


def _line(mount: str, base: str) -> Iterator[str]:
    """The directories from the mount down to the base."""
    at = mount
    yield at
    for name in os.path.relpath(base, mount).split("/"):
        at = os.path.join(at, name)
        yield at


def _words(path: str) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: str) -> list[str]:
    """Of a file that the kernel may not have, or may have removed."""
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []
