"""store.*: copies of the databases of a daemon that runs, and what is kept in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Annotated

import trio
from msgspec import Meta, Struct

from polpod.errors import InvalidRequest, Unavailable
from polpod.services import retention
from polpod.services.instance import Instance
from polpod.services.retention import Pruned
from polpod.services.rpc.method import Call, Method, Right
from polpod.store.backup import Pair, check_target, open_pair, write_backup
from polpod.store.copy import Within
from polpod.store.export import export
from polpod.store.records import Tx
from polpod.store.replace import SCRATCH

LONGEST = 30.0
"""Seconds of one call of `store.prune`: a client asks again where there is more."""


class Prune(Struct, frozen=True, forbid_unknown_fields=True):
    dry_run: bool = False


class Backup(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    """The directory to make: absolute, and not there yet."""


async def prune(call: Call, params: Prune) -> Pruned:
    """What the hourly pass does, now."""
    return await retention.prune(call.desk.instance, dry_run=params.dry_run, seconds=LONGEST)


async def backup(call: Call, params: Backup) -> dict[str, object]:
    """Copies that belong together, made beside the writers; the answer comes when they are on disk."""
    instance, target = call.desk.instance, params.path.rstrip("/")
    if not target.startswith("/"):
        raise InvalidRequest("must be absolute: polpod has a working directory of its own", "$.path")

    def go_on() -> None:
        if instance.stopping.is_set():
            raise Unavailable("polpod is stopping")

    def write() -> int:
        return write_backup(pair, target, leave=_reserve(instance, target), go_on=go_on)

    await trio.to_thread.run_sync(check_target, target)
    with ExitStack() as until_copied:
        pair = await _pinned(instance, until_copied, go_on)
        size = await trio.to_thread.run_sync(write)
    return {"path": target, "bytes": size}


async def _pinned(instance: Instance, until_copied: ExitStack, go_on: Callable[[], None]) -> Pair:
    """Both databases as of one moment: a body is alone with the task store, so meanwhile no task can change.

    What is not in SQLite's files is copied into such first, beside runs.db, as long as there is room and `go_on` lets it.
    """
    if instance.config.settings.storage == "sqlite":
        pair = until_copied.enter_context(closing(await trio.to_thread.run_sync(open_pair, instance.paths.path)))
        await instance.tasks.write(lambda tx: pair.pin(), durable=False)
        return pair
    scratch = until_copied.enter_context(tempfile.TemporaryDirectory(prefix=SCRATCH, dir=instance.paths.path))

    def go_on_with_room() -> None:
        go_on()
        instance.refuse_when_full()

    def copied(tx: Tx) -> Pair:
        into = tempfile.mkdtemp(dir=scratch)
        export(Within(tx, go_on_with_room), instance.tasks.where, instance.paths.path, into)
        pair = open_pair(into)
        pair.pin()
        return pair

    return until_copied.enter_context(closing(await instance.tasks.write(copied, durable=False)))


def _reserve(instance: Instance, target: str) -> int:
    """A backup on the disk that polpod works on leaves what polpod needs to go on (F49)."""
    same = os.stat(os.path.dirname(target)).st_dev == os.stat(instance.paths.path).st_dev
    return instance.config.settings.reserve if same else 0


METHODS = (
    Method("store.prune", Prune, Pruned, prune, "Forget what retention lets go.", Right.OWNER, writes=True, waits=True),
    Method(
        "store.backup",
        Backup,
        {"path": str, "bytes": int},
        backup,
        "Copy both databases, as of one moment.",
        Right.OWNER,
        writes=True,
        waits=True,
    ),
)
