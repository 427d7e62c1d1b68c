"""Whether all is well with this daemon: for people, for alerts, and for who decides where to send work.

Rule: nobody who asks waits for a disk or a store that hangs.  They are asked in threads, and no answer is a trouble.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import trio

from polpod.errors import StoreError, Unavailable
from polpod.services.instance import Instance
from polpod.store.sqlite import JOURNAL_SIZE_LIMIT

ANSWER_WITHIN = 1.0
"""Seconds for the disk."""

STORE_WITHIN = 3.0
"""For the store, where others read too."""

READY = ("store", "recovered", "accepting", "disk")
"""Those of the checks without which no work should be sent here."""

_ONE_ASKS = trio.CapacityLimiter(1)


class Disk(NamedTuple):
    """What the state directory's file system says.  Bytes."""

    free: int
    wals: Mapping[str, int]
    """By store; 0 where there is none."""


async def disk(instance: Instance) -> Disk | None:
    """None: it does not answer."""
    with trio.move_on_after(ANSWER_WITHIN), suppress(StoreError):
        return await trio.to_thread.run_sync(_look, instance, abandon_on_cancel=True, limiter=_ONE_ASKS)
    return None


async def checks(instance: Instance, found: Disk | None) -> dict[str, bool]:
    """What is to be well, and whether it is; `found`: what `disk` says."""
    answered = False
    with suppress(Unavailable), trio.move_on_after(STORE_WITHIN):
        await instance.tasks.read(lambda tx: None, abandon=True)
        answered = True
    return {
        "store": answered and instance.tasks.trouble is None,
        "recovered": instance.recovered.is_set(),
        "accepting": not instance.stopping.is_set(),
        "disk": found is not None and found.free >= instance.config.settings.reserve,
        "wal": found is None or max(found.wals.values()) <= JOURNAL_SIZE_LIMIT,
        "launcher": instance.launcher_paused is None,
        "stuck": not instance.stuck,
    }


async def health(instance: Instance) -> dict[str, object]:
    """`ok`: all is well.  `ready`: whoever has work may send it here."""
    found = await checks(instance, await disk(instance))
    return {"ok": all(found.values()), "ready": all(found[name] for name in READY), "checks": found}


def _look(instance: Instance) -> Disk:
    paths = {"tasks": instance.paths.tasks_db, "runs": instance.paths.runs_db}
    return Disk(instance.free_space(), {store: _size(f"{path}-wal") for store, path in paths.items()})


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
