"""daemon.*: the daemon about itself."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from polpod import __version__
from polpod.config import load
from polpod.errors import Conflict, DiskFull, Unavailable
from polpod.services import limits
from polpod.services.ballast import ROOM
from polpod.services.desk import Desk
from polpod.services.instance import Instance, now
from polpod.services.reload import attempt
from polpod.services.rpc.method import Call, Method, Nothing, Right
from polpod.services.rpc.methods.queue import overview
from polpod.store.copy import copied_to
from polpod.store.tables import Quarantine


def _state(instance: Instance) -> str:
    if instance.stopping.is_set():
        return "stopping"
    return "running" if instance.recovered.is_set() else "recovering"


async def status(call: Call, params: Nothing) -> dict[str, object]:
    instance = call.desk.instance
    queues: list[dict[str, Any]] = []
    quarantined, went = 0, None
    with suppress(Unavailable):  # then the store's own trouble is what there is to say
        queues, quarantined, went = await instance.tasks.read(
            lambda tx: (overview(instance, tx), tx[Quarantine].count(), copied_to(tx))
        )
    live = await instance.runs.read(lambda tx: tx.live())
    runs = dict(instance.ended)
    for run in live:
        runs[run.status] = runs.get(run.status, 0) + 1
    return {
        "version": __version__,
        "pid": os.getpid(),
        "started_at": instance.started_at,
        "uptime": (now() - instance.started_at).total_seconds(),
        "state": _state(instance),
        "root": instance.paths.root,
        "socket": instance.socket,
        "storage": instance.config.settings.storage,
        "store": {"where": instance.tasks.where, "trouble": instance.tasks.trouble, "copied_to": went},
        "containment": "session" if instance.base is None else "cgroup",
        "limits": limits.available(instance),
        "tasks": {str(k): n for k, n in sorted(instance.journal.tasks.items()) if n},
        "runs": {str(k): n for k, n in sorted(runs.items()) if n},
        "queues": {q["name"]: q for q in queues},
        "max_concurrency": instance.config.settings.max_concurrency,
        "launcher": {"paused": instance.launcher_paused},
        "stuck": sorted(call.desk.killer.stuck),
        "quarantined": quarantined,
    }


async def health(call: Call, params: Nothing) -> dict[str, object]:
    return await checks(call.desk)


async def checks(desk: Desk) -> dict[str, object]:
    """Whether work is taken in, started and kept, and what of that is not."""
    instance = desk.instance
    with suppress(Unavailable):
        await instance.tasks.read(lambda tx: None)
    found = {
        "store": instance.tasks.trouble is None,
        "recovered": instance.recovered.is_set(),
        "accepting": not instance.stopping.is_set(),
        "disk": not instance.disk_is_full(),
        "wal": not instance.wal_is_long(),
        "launcher": instance.launcher_paused is None,
        "stuck": not desk.killer.stuck,
    }
    return {"ok": all(found.values()), "checks": found}


async def shutdown(call: Call, params: Nothing) -> dict[str, object]:
    call.desk.instance.stopping.set()
    return {"pid": os.getpid()}


async def reload(call: Call, params: Nothing) -> dict[str, object]:
    _require_lasting_store(call.desk.instance)
    if call.desk.instance.free_space() < ROOM:
        raise DiskFull(f"a reload needs {ROOM >> 20} MiB of free space: polpod goes on as it is")
    await attempt()
    _require_same_store(call.desk.instance)
    await call.desk.instance.tasks.read(
        lambda tx: None
    )  # a store that is not to be reached would keep it from starting
    if call.desk.instance.stopping.is_set():
        raise Unavailable("polpod is stopping")
    call.desk.reload.ask()
    return {"pid": os.getpid()}


def _require_lasting_store(instance: Instance) -> None:
    """Raises Conflict: the next generation would find nothing, and end what still runs."""
    if instance.config.settings.storage == "memory":
        raise Conflict(
            "the tasks are in memory, and a reload would forget them all, so polpod goes on as it is: polpoctl stop and"
            " polpoctl start, if they may go"
        )


def _require_same_store(instance: Instance) -> None:
    """Raises Conflict: tasks would be looked for elsewhere than runs, which go on meanwhile, have theirs."""
    was, there = instance.config.settings, load(instance.paths.config)[0].settings
    if was.storage != there.storage or (was.storage == "postgres" and was.database_url != there.database_url):
        raise Conflict(
            "storage or databaseUrl is another now, so polpod goes on as it is: polpoctl stop, polpoctl store copy --to"
            " BACKEND if the tasks shall come along, and polpoctl start"
        )


METHODS = (
    Method("daemon.status", Nothing, dict, status, "What it is and does, with counts.", Right.RUN),
    Method("daemon.health", Nothing, dict, health, "Whether all is well, and what is not.", Right.RUN),
    Method(
        "daemon.reload",
        Nothing,
        dict,
        reload,
        "Go on as what is there now, code and configuration, in the same process; the next call is answered by that.",
        Right.OWNER,
    ),
    Method("daemon.shutdown", Nothing, dict, shutdown, "Stop: runs are ended in order first.", Right.OWNER),
)
