"""The composition root: opens the state directory, recovers, and runs the services in one nursery until asked to stop."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from polpod import __version__, config, filesystem
from polpod.config import Config
from polpod.errors import DiskFull, PolpodError, StartError, StoreError, Unavailable
from polpod.lock import Held, lock, require_own
from polpod.paths import StateDirectory
from polpod.runner import identity
from polpod.runner.containment import choose_base
from polpod.services import approvals, assignments, deadlines, notifier, recovery, reload, retention, shutdown
from polpod.services.artifacts import Uploads
from polpod.services.audit import Audit
from polpod.services.ballast import LOOK_EVERY, ROOM, Ballast
from polpod.services.collector import Collector
from polpod.services.desk import Desk
from polpod.services.health import Health
from polpod.services.inbox import Inbox
from polpod.services.instance import Instance
from polpod.services.journal import Journal
from polpod.services.keys import Keys
from polpod.services.killer import Killer
from polpod.services.launcher import Forks, Launcher
from polpod.services.meter import Meter
from polpod.services.missions import firing, settling
from polpod.services.reload import Handover, Reload
from polpod.services.rpc import server
from polpod.services.scheduler import schedule
from polpod.services.socket import ListeningSocket, adopt, listen, require_utf8
from polpod.services.spares import Spares
from polpod.services.supervision import Supervision
from polpod.services.watcher import Watcher
from polpod.services.witness import Witness
from polpod.services.zygote import Zygote
from polpod.storage import locate
from polpod.store import copy, queries, replace
from polpod.store.check import refuse_half
from polpod.store.databases import RUNS, TASKS
from polpod.store.gate import Gate, open_gate
from polpod.store.location import Location, Sqlite
from polpod.store.records import Tx
from polpod.store.runs import RunTx
from polpod.systemd import Systemd

SOCKET_LOOK_EVERY = 5.0

SQLITE_NEEDS = 2**17
"""Bytes: two shared-memory files of 32 KiB, and the first pages of two WALs."""

LEVEL_OF = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}
"""What the words of polpo.json mean."""

log = logging.getLogger("polpod")


@dataclass(frozen=True, slots=True)
class Options:
    root: str
    socket: str
    zygote_socket: str | None
    """Where systemd starts zygotes for us; None: they are our children."""
    log_as_configured: bool
    """By `logLevel` of polpo.json."""


def prepare(root: str) -> StateDirectory:
    """Make the state directory and what belongs in it.  Raises StartError where that cannot be, or is not ours."""
    require_utf8(root, "--root")
    paths = StateDirectory(root)
    try:
        os.makedirs(paths.path, mode=0o700, exist_ok=True)
        require_own(paths.path)
        for directory in (paths.run_directories, paths.logs):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        if not os.path.exists(paths.config):
            config.write(paths.config, config.DEFAULT_TEXT)
    except OSError as exc:
        raise StartError(f"{exc.filename or paths.path}: {exc.strerror}") from exc
    return paths


async def main(options: Options, manager: Systemd) -> Handover | None:
    """Run until a signal or `daemon.shutdown` asks to stop, or `daemon.reload` to go on as another generation.

    Raises StartError, StoreError, CommitInDoubt.
    """
    handover = None
    with shutdown.signals() as received:  # first of all, so that one that comes early is obeyed in order, too (F14)
        supervision = Supervision(manager)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervision.serve)
            handover = await _open(options, received, supervision, manager)
            nursery.cancel_scope.cancel()
    log.info("stopped" if handover is None else "reloading")
    return handover


async def _open(
    options: Options, received: AsyncIterator[int], supervision: Supervision, manager: Systemd
) -> Handover | None:
    before = reload.take()
    listener = before.listening() if before else _adopt(manager.listening(), options.socket)
    try:
        paths, settings, held = _claim(options.root, before)
        if options.log_as_configured:
            logging.getLogger().setLevel(LEVEL_OF[settings.settings.log_level])
        replace.finish(paths.path)
        if settings.settings.storage == "sqlite":
            refuse_half(paths.path)
        ballast = Ballast(paths.ballast)
        tasks, runs = await _open_stores(locate(settings, paths, os.environ), paths, ballast)
    except PolpodError as exc:
        if listener is not None and listener.systemds:
            listener.turn_away(str(exc))
        raise
    await _refuse_strange(settings, tasks, runs)
    found = _raise_descriptor_limit()
    counts, last = await tasks.read(lambda tx: (queries.count_by_queue(tx), queries.last_seq(tx)))
    instance = Instance(
        paths=paths,
        socket=options.socket if listener is None else listener.path,
        config=settings,
        tasks=tasks,
        runs=runs,
        journal=Journal(counts, last),
        meter=Meter(sorted({*settings.queues(), *(queue for queue, _ in counts)}), settings.settings.told.channels),
        ended=await runs.read(RunTx.count_collected),
        boot_id=identity.boot_id(),
        descriptors=before.descriptors if before else found,
        spares=Spares(paths),
        base=choose_base(paths.path) if settings.settings.containment == "auto" else None,
    )
    tasks.subscribe(instance.journal.absorb)
    _measure(instance)
    listener = listener or listen(options.socket)
    handover = None
    try:
        zygote = Zygote(instance.place, options.zygote_socket)
        reloading = Reload(before.clients() if before else [])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(zygote.serve)  # longer than the rest: what is being started at the end needs it
            handover = await _serve(instance, zygote, listener, held, ballast, received, supervision, reloading)
            nursery.cancel_scope.cancel()
    finally:
        if handover is None:
            listener.close()
        await tasks.close()
        await runs.close()
        if handover is None:
            if instance.base is not None:
                with suppress(OSError):  # a run lives on in it
                    os.rmdir(instance.base.path)
            held.close()
    return handover


def _measure(instance: Instance) -> None:
    meter = instance.meter
    instance.tasks.subscribe(meter.absorb)
    instance.tasks.watch(partial(meter.committed, "tasks"))
    instance.runs.watch(partial(meter.committed, "runs"))
    trio.lowlevel.add_instrument(meter.loop)


def _claim(root: str, before: Handover | None) -> tuple[StateDirectory, Config, Held]:
    """The state directory, and what is to be done in it.  Raises StartError."""
    paths = prepare(root)
    settings, unknown = config.load(paths.config)
    for path in unknown:
        log.warning("%s: %s means nothing to this version", paths.config, path)
    filesystem.refuse_unfit(paths.path)
    return paths, settings, before.held(paths.path) if before else lock(paths)


def _adopt(given: int | None, path: str) -> ListeningSocket | None:
    """The socket that systemd listens on for us, if it does: `given` is its descriptor."""
    if given is None:
        return None
    listener = adopt(given)
    if os.path.realpath(path) != os.path.realpath(listener.path):
        log.warning("%s is what systemd listens on: nobody listens on %s", listener.path, path)
    return listener


async def _open_stores(location: Location, paths: StateDirectory, ballast: Ballast) -> tuple[Gate[Tx], Gate[RunTx]]:
    """Both stores; on a disk that has no room for SQLite's own files, with the room that the ballast gives.

    Raises StoreError, DiskFull, Unavailable.
    """
    try:
        tasks: Gate[Tx] = await open_gate(location, TASKS)
        try:
            return tasks, await open_gate(Sqlite(paths.runs_db), RUNS)
        except BaseException:
            await tasks.close()
            raise
    except (StoreError, DiskFull) as exc:
        if not _is_full(paths.path):
            raise
        if not ballast.drop():
            raise DiskFull(f"{paths.path}: no space left") from exc
        log.warning("%s has no space left: %s was given up to start", paths.path, paths.ballast)
    return await _open_stores(location, paths, ballast)


async def _refuse_strange(settings: Config, tasks: Gate[Tx], runs: Gate[RunTx]) -> None:
    """Raises StartError for a task store that is a copy cut off, or not the one that the live runs belong to."""
    if (source := await tasks.read(copy.unfinished)) is not None:
        raise StartError(f"{tasks.where} is not yet a whole copy of {source}: polpoctl store copy goes on with it")
    if (went := await tasks.read(copy.copied_to)) is not None:
        log.warning(
            "%s was copied to %s: what was done there since is not here; set storage in polpo.json to go on there, or, if"
            " this one counts again, polpoctl stop and polpoctl store copy --to %s",
            tasks.where, went, settings.settings.storage,
        )  # fmt: skip
    if settings.settings.storage == "memory":  # always new
        return
    last = await tasks.read(queries.last_run_id)
    if settings.settings.storage == "sqlite" and not last:  # see refuse_half
        return
    newest = await runs.read(RunTx.newest_open)
    if newest > last and await tasks.read(queries.was_stopped):
        raise StartError(
            f"{tasks.where} knows nothing of run {newest}, which is not over yet, so it belongs to another task store:"
            " polpoctl store copy moves that, or set storage in polpo.json as it was"
        )


def _is_full(path: str) -> bool:
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize < SQLITE_NEEDS


def assemble(instance: Instance, forks: Forks, reloading: Reload, nursery: trio.Nursery) -> Desk:
    """Start the services of an instance, recovery first of all; runners come from `forks`."""
    inbox, audit = Inbox(), Audit(instance.tasks)
    uploads = Uploads(instance.paths, instance.config.settings.artifacts, instance.tasks)
    witness = Witness(instance)
    watcher = Watcher(instance.paths, nursery, inbox, witness)
    killer = Killer(instance, watcher, witness, inbox, nursery)
    health = Health(instance, inbox, killer.request)
    collector = Collector(instance, inbox, killer, witness, nursery)
    launcher = Launcher(instance, forks, watcher, health, inbox)
    nursery.start_soon(recovery.recover, instance, inbox, collector, watcher, killer, health)
    nursery.start_soon(schedule, instance, launcher)
    nursery.start_soon(settling.serve, instance)
    nursery.start_soon(approvals.serve, instance)
    nursery.start_soon(firing.serve, instance)
    nursery.start_soon(deadlines.serve, instance, killer)
    nursery.start_soon(assignments.serve, instance)
    nursery.start_soon(retention.serve, instance)
    nursery.start_soon(notifier.serve, instance)
    for service in (
        collector.serve,
        health.serve,
        health.heartbeats,
        witness.serve,
        audit.serve,
        uploads.serve,
        instance.tasks.truncate_when_idle,
        instance.runs.truncate_when_idle,
    ):
        nursery.start_soon(service)
    nursery.start_soon(_stop_when_in_doubt, instance)
    return Desk(instance, inbox, killer, health, reloading, audit, uploads, Keys(instance))


async def _serve(
    instance: Instance,
    zygote: Zygote,
    listener: ListeningSocket,
    held: Held,
    ballast: Ballast,
    received: AsyncIterator[int],
    supervision: Supervision,
    reloading: Reload,
) -> Handover | None:
    at_once = trio.Event()
    handover = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_ballast, instance, ballast)
        desk = assemble(instance, zygote, reloading, nursery)
        nursery.start_soon(_listen, listener, held, desk)
        nursery.start_soon(shutdown.obey, received, instance, at_once)
        if (settings := instance.config.settings.web) is not None:
            from polpod.services.web import server as web  # a start without it is spared what it imports

            nursery.start_soon(web.serve, settings, desk)
        supervision.ready(desk)
        log.info("polpod %s listens on %s (pid %d)", __version__, listener.path, os.getpid())
        await _first_of(instance.stopping, reloading.asked)
        if reloading.asked.is_set():
            supervision.reloading()
            handover = await reloading.handover(listener, held, instance.descriptors)
        else:
            await shutdown.stop(instance, desk.killer, at_once)
            if instance.config.settings.on_shutdown != "keep":  # else what is being started still gets its runner
                zygote.give_up()
        with suppress(DiskFull, Unavailable):  # the next start takes it for a crash, and rather asks than acts
            await desk.audit.flush()
            await instance.tasks.write(queries.end_work)
        nursery.cancel_scope.cancel()
    if handover is not None and instance.stopping.is_set():  # somebody asked for it meanwhile
        signal.raise_signal(signal.SIGTERM)  # which waits for the next generation
    return handover


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(_end_with, event, nursery)


async def _end_with(event: trio.Event, nursery: trio.Nursery) -> None:
    await event.wait()
    nursery.cancel_scope.cancel()


async def _listen(listener: ListeningSocket, held: Held, desk: Desk) -> None:
    """Answer on the socket, and on a new one in its place if somebody removed it (F61).  Raises StoreError (Held)."""
    while True:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, trio.socket.from_stdlib_socket(listener.socket.dup()), desk)
            while not _listens_anew(listener):
                await trio.sleep(SOCKET_LOOK_EVERY)
                held.require()
            nursery.cancel_scope.cancel()


def _listens_anew(listener: ListeningSocket) -> bool:
    if listener.in_place():
        return False
    try:
        listener.renew()
    except StartError as exc:  # what is in our place may go again, and a full disk have room for a socket
        log.warning("nobody can reach this daemon: %s", exc)
        return False
    log.warning("%s was gone: listening anew", listener.path)
    return True


async def _keep_ballast(instance: Instance, ballast: Ballast) -> None:
    while True:
        if instance.free_space() >= instance.config.settings.reserve + ROOM:
            await trio.to_thread.run_sync(ballast.load)
        await trio.sleep(LOOK_EVERY)


async def _stop_when_in_doubt(instance: Instance) -> None:
    """A commit that nobody can vouch for: answer nobody, end, and recover at the next start (DESIGN §8)."""
    async with trio.open_nursery() as nursery:
        for gate in (instance.tasks, instance.runs):
            nursery.start_soon(_raise_when_broken, gate)


async def _raise_when_broken(gate: Gate[Tx] | Gate[RunTx]) -> None:
    raise await gate.broken.wait()


def _raise_descriptor_limit() -> tuple[int, int]:
    """Each live run costs a descriptor here; returns the limit that was found."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard
