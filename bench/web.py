"""200 WebSocket clients that follow the journal while tasks run: what each waits for an answer, and what the daemon keeps.

The floor is the same with none that is deaf: ten that subscribe to everything, ask for more, and never read must cost the
others nothing, and the daemon no more than what bounds them.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from http.client import HTTPConnection

import trio
from trio_websocket import WebSocketConnection, connect_websocket_url

from bench.daemon import Daemon, daemon, submit_many, until
from bench.figures import Figure, latency, most
from bench.memory import rollup

CLIENTS, DEAF = 200, 10
ROUNDS = 10
TASKS = 1_000
"""That run meanwhile, each with its events."""

SLOWER = 1.5
ALIKE = 1.2
REFUSALS = 500
GROWTH = 100.0
"""MB that the deaf may cost."""


def run() -> Iterator[Figure]:
    port = _free_port()
    with daemon(maxConcurrency=4, web={"listen": f"127.0.0.1:{port}"}) as polpod:
        polpod.client().call("user.add", username="bench")
        key = polpod.client().call("key.add", user="bench", name="bench", role="observer")["secret"]
        until(lambda: _listens(port), 30, "it listens")
        alone, kept_alone = trio.run(_measured, polpod, port, key, 0)
        beside, kept_beside = trio.run(_measured, polpod, port, key, DEAF)
        made = polpod.client().call("key.add", user="bench", name="gone")
        polpod.client().call("key.revoke", id=made["key"]["id"])
        refusals = _refusals(port, made["secret"])
    yield latency(f"answer to one of {CLIENTS} clients that all read", alone)
    figure = latency(f"answer to one of {CLIENTS - DEAF} clients beside {DEAF} that never read", beside)
    yield figure
    ratio = Figure(name="  of that, beside all that read", value=_median(beside) / _median(alone), unit="×")
    yield most(ratio, SLOWER, f"at most {SLOWER}×")
    yield Figure(name=f"daemon with {CLIENTS} clients that all read, RSS", value=kept_alone, unit="MB")
    grown = Figure(name=f"  more with {DEAF} that never read", value=kept_beside - kept_alone, unit="MB")
    yield most(grown, GROWTH, f"at most {GROWTH:g} MB more")
    yield most(refusals, ALIKE, f"at most {ALIKE}×")


async def _measured(polpod: Daemon, port: int, key: str, deaf: int) -> tuple[list[float], float]:
    """Seconds that answers took, and the daemon's memory at the end in MB."""
    headers = [(b"authorization", f"Bearer {key}".encode())]
    taken: list[float] = []
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:

        async def opened(after: int | None) -> WebSocketConnection:
            url = f"ws://127.0.0.1:{port}/rpc"
            websocket = await connect_websocket_url(nursery, url, extra_headers=headers)
            stack.push_async_callback(websocket.aclose)
            await websocket.send_message(_call("event.subscribe", 0, after=after))
            return websocket

        for _ in range(deaf):
            websocket = await opened(0)
            for number in range(1, 50):
                await websocket.send_message(_call("rpc.discover", number))
        readers = [await opened(None) for _ in range(CLIENTS - deaf)]
        work = [{"command": ["true"]}] * TASKS
        await trio.to_thread.run_sync(lambda: submit_many(polpod.client(), work, cwd="/"))
        async with trio.open_nursery() as asking:
            for websocket in readers:
                asking.start_soon(_ask, websocket, taken)
        kept = rollup(polpod.pid)["Rss"]
        with trio.move_on_after(0):
            await stack.aclose()
        nursery.cancel_scope.cancel()
    return taken, kept


async def _ask(websocket: WebSocketConnection, taken: list[float]) -> None:
    for number in range(1, ROUNDS + 1):
        began = time.perf_counter()
        await websocket.send_message(_call("daemon.health", number))
        while json.loads(await websocket.get_message()).get("id") != number:
            pass
        taken.append(time.perf_counter() - began)
        await trio.sleep(0.5)


def _refusals(port: int, revoked: str) -> Figure:
    """What refusing it takes, beside refusing what never was a key, whichever takes longer; each is first as often."""
    unknown = revoked[:-8] + "unknown_"
    taken: dict[str, list[float]] = {revoked: [], unknown: []}
    for number in range(REFUSALS):
        for key in (revoked, unknown)[:: 1 if number % 2 else -1]:
            with closing(HTTPConnection("127.0.0.1", port)) as http:
                began = time.perf_counter()
                http.request("GET", "/session", headers={"Authorization": f"Bearer {key}"})
                http.getresponse().read()
                taken[key].append(time.perf_counter() - began)
    first, second = (_median(samples) for samples in taken.values())
    slower = max(first, second) / min(first, second)
    return Figure(name="refusing a revoked key, beside one that never was", value=slower, unit="×", n=REFUSALS)


def _call(method: str, number: int, **params: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def _median(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 2]


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
