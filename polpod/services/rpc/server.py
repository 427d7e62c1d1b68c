"""The socket: accepts connections, as many as leave descriptors for the runs (DESIGN §9, F86)."""

from __future__ import annotations

import errno
import logging
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import trio

from polpod.services.desk import Desk
from polpod.services.rpc.connection import Connection
from polpod.services.rpc.kept import Kept
from polpod.services.rpc.method import Call
from polpod.services.rpc.peers import caller, of_run

KEPT = 64
"""Descriptors that are the daemon's own, whatever the limit: stores, zygote, pipes and pidfds of runs."""

FEWEST = 8
"""Connections that there may be, however low the limit."""

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What bounds all connections of a server together."""

    decoding: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    """How many big frames are decoded at the same time."""
    kept: Kept = field(default_factory=Kept)


async def serve(listener: trio.socket.SocketType, desk: Desk) -> None:
    """Accept and answer until cancelled; those for whom there is no room wait until somebody leaves."""
    room = trio.Semaphore(most_connections())
    shared = Shared()
    async with trio.open_nursery() as nursery:
        while desk.reload.given:
            given = desk.reload.given.pop()
            await room.acquire()
            client = trio.socket.from_stdlib_socket(given.socket)
            nursery.start_soon(_serve_connection, client, desk, shared, room, given.first, given.run_id)
        with desk.reload.accepting():
            while True:
                if not room.value:
                    log.warning("%d clients are connected: others wait until one of them leaves", most_connections())
                await room.acquire()
                client = await _accept(listener)
                nursery.start_soon(_serve_connection, client, desk, shared, room)
    desk.reload.drained.set()  # whoever cancels us otherwise does not come here


def most_connections() -> int:
    """At most half of all descriptors, since each live run needs one, too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(FEWEST, min(limit // 2, limit - KEPT))


async def _accept(listener: trio.socket.SocketType) -> trio.socket.SocketType:
    while True:
        try:
            return (await listener.accept())[0]
        except OSError as exc:
            if exc.errno not in OUT_OF_DESCRIPTORS:
                raise
            log.warning("cannot accept: %s", exc.strerror)
            await trio.sleep(1)


async def _serve_connection(
    client: trio.socket.SocketType,
    desk: Desk,
    shared: Shared,
    room: trio.Semaphore,
    first: bytes = b"",
    run_id: int | None = None,
) -> None:
    """`run_id`: what it said already that it is."""
    try:
        with client:
            who = caller(client, desk.instance.base_name)
            if run_id is not None:
                who = of_run(who, run_id)
            connection = await converse(client, Call(desk, who), shared, desk.reload.knowing, first)
            if connection is not None:
                desk.reload.keep(client, connection.unread, connection.run_id)
    except OSError:
        pass  # the client went away: nobody is left to be told
    finally:
        room.release()


async def converse(
    client: trio.socket.SocketType,
    call: Call,
    shared: Shared,
    knowing: Callable[[Connection], AbstractContextManager[None]],
    first: bytes = b"",
) -> Connection | None:
    """Answer the calls that come, the `first` of which is read already; returns the connection if another goes on there.

    For as long, `knowing` knows of it.
    """
    scope, connection = trio.CancelScope(), None
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                begun = Connection(client, call, nursery, shared.decoding, partial(shared.kept.set, scope))
                with knowing(begun):
                    if await begun.serve(first):
                        connection = begun
    except* OSError:
        pass  # as above
    except* Exception:
        log.exception("a connection was ended by a defect")
    finally:
        shared.kept.set(scope, 0)
    return connection
