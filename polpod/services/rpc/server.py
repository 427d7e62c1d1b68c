"""The socket: accepts connections, as many as leave descriptors for the runs (DESIGN §9, F86)."""

from __future__ import annotations

import errno
import logging
import resource
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


async def serve(listener: trio.socket.SocketType, desk: Desk) -> None:
    """Accept and answer until cancelled; those for whom there is no room wait until somebody leaves."""
    room = trio.Semaphore(most_connections())
    decoding, kept = trio.CapacityLimiter(1), Kept()
    async with trio.open_nursery() as nursery:
        while desk.reload.given:
            given = desk.reload.given.pop()
            await room.acquire()
            client = trio.socket.from_stdlib_socket(given.socket)
            nursery.start_soon(_serve_connection, client, desk, decoding, kept, room, given.first, given.run_id)
        with desk.reload.accepting():
            while True:
                if not room.value:
                    log.warning("%d clients are connected: others wait until one of them leaves", most_connections())
                await room.acquire()
                client = await _accept(listener)
                nursery.start_soon(_serve_connection, client, desk, decoding, kept, room)
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
    decoding: trio.CapacityLimiter,
    kept: Kept,
    room: trio.Semaphore,
    first: bytes = b"",
    run_id: int | None = None,
) -> None:
    """`run_id`: what it said already that it is."""
    scope, reload = trio.CancelScope(), desk.reload
    try:
        with client, scope, desk.instance.meter.connected():
            who = caller(client, desk.instance.base_name)
            if run_id is not None:
                who = of_run(who, run_id)
            async with trio.open_nursery() as nursery:
                connection = Connection(client, Call(desk, who), nursery, decoding, partial(kept.set, scope))
                with reload.knowing(connection):
                    goes_on = await connection.serve(first)
            if goes_on:
                reload.keep(client, connection.unread, connection.run_id)
    except* OSError:
        pass  # the client went away: nobody is left to be told
    except* Exception:
        log.exception("a connection was ended by a defect")
    finally:
        kept.set(scope, 0)
        room.release()
