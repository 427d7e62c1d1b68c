"""What the services of one daemon share: its paths, its configuration, its two stores, and the marks of this host."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import trio

from polpod.config import Config
from polpod.errors import DiskFull, StoreError
from polpod.model.agents import Agent, Queue
from polpod.paths import StateDirectory
from polpod.rules.pick import Capacity
from polpod.runner.containment import RunCgroups, base_name, choose_base
from polpod.services import agents
from polpod.services.journal import Journal
from polpod.services.meter import Meter
from polpod.services.spares import Spares
from polpod.store.gate import Gate
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.store.tables import Queues


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Progress:
    """How far something is that may take long."""

    done: int = 0
    total: int = 0


@dataclass(kw_only=True, eq=False)
class Instance:
    paths: StateDirectory
    socket: str
    config: Config
    tasks: Gate[Tx]
    runs: Gate[RunTx]
    journal: Journal
    meter: Meter = field(default_factory=Meter)
    ended: Counter[str]
    """Runs that are over and collected, by status."""
    boot_id: str
    descriptors: tuple[int, int]
    """RLIMIT_NOFILE as it was when polpod started, for the jobs: polpod raises its own (DESIGN §6, job environment)."""
    base: RunCgroups | None
    """Where the cgroups of runs are made; None: containment `session`."""
    nice_from: int = 0
    """The lowest niceness that a job may have."""
    placed: trio.Event = field(default_factory=trio.Event)
    """Set when these are as the zygote has them: until then, what a task may ask for is not known."""
    spares: Spares
    """Run directories that wait for other runs."""
    started_at: datetime = field(default_factory=now)
    recovered: trio.Event = field(default_factory=trio.Event)
    """Set when recovery's first pass is over: writes of clients wait for it, reads do not."""
    recovery: Progress = field(default_factory=Progress)
    """Of its first pass, in runs."""
    stopping: trio.Event = field(default_factory=trio.Event)
    """Set when the daemon was asked to stop: from then on nothing starts."""
    launcher_paused: str | None = None
    """Why the launcher starts nothing at the moment."""
    stuck: set[int] = field(default_factory=set)
    """Runs that cannot be ended, even by SIGKILL."""
    told: dict[str, int] = field(default_factory=dict)
    """The last event of the journal that each channel of notifications has seen."""

    @cached_property
    def base_name(self) -> str:
        """What the directory is called that holds the runs' cgroups, wherever it is."""
        return base_name(self.paths.path)

    def place(self, zygote: int, nice_from: int) -> None:
        """From now on runs have their cgroups where this zygote has its own, and jobs a niceness from this on."""
        self.nice_from = nice_from
        if self.config.settings.containment == "auto":
            self.base = choose_base(self.paths.path, zygote)
        self.placed.set()

    def queues(self, tx: Tx) -> dict[str, Queue]:
        """Queues by name: those of polpo.json, overruled by what was set at run time."""
        return self.config.queues() | {q.name: q for q in tx[Queues].find()}

    def agents(self, tx: Tx) -> dict[str, Agent]:
        """All agents by name, those of polpo.json first."""
        return agents.known(tx, self.config)

    def capacity(self, tx: Tx, names: Iterable[str] = ()) -> Capacity:
        """How much may run at once, with the limits of these agents."""
        limits = agents.limits(tx, self.config, names)
        return Capacity(self.config.settings.max_concurrency, self.queues(tx), limits)

    def free_space(self) -> int:
        """Bytes free for us on the state directory's file system.  Raises StoreError when that cannot be asked."""
        try:
            space = os.statvfs(self.paths.path)
        except OSError as exc:
            raise StoreError(f"{self.paths.path}: {exc.strerror}") from exc
        return space.f_bavail * space.f_frsize

    def disk_is_full(self) -> bool:
        """Whether free space is below the reserve: then nothing starts and nothing is accepted (F49)."""
        return self.free_space() < self.config.settings.reserve

    def refuse_when_full(self) -> None:
        """Raises DiskFull where `disk_is_full`."""
        if self.disk_is_full():
            raise DiskFull(f"less than {self.config.settings.reserve >> 20} MiB free on {self.paths.path}")
