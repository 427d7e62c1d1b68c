"""A small client of its own: JSON-RPC over the Unix socket, blocking; and a load of many connections at once."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

import orjson


class CallFailed(Exception):
    """The daemon answered with an error."""


class Client:
    """One connection, one call at a time."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(120)
        self._socket.connect(path)
        self._buffer = b""
        self._id = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, method: str, **params: Any) -> None:
        self._id += 1
        self._socket.sendall(frame(method, params, self._id))

    def receive(self) -> Any:
        while b"\n" not in self._buffer:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = orjson.loads(line)
        if "error" in answer:
            raise CallFailed(answer["error"])
        return answer["result"]

    def call(self, method: str, **params: Any) -> Any:
        self.send(method, **params)
        return self.receive()


def frame(method: str, params: dict[str, Any], number: int) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + b"\n"


def calls_per_second(path: str, method: str, params: dict[str, Any], clients: int, calls: int) -> float:
    """Calls a second over `clients` connections, each with one call under way, until `calls` were answered."""
    request = frame(method, params, 1)
    connections = {}
    poll = select.epoll()
    for _ in range(clients):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        connections[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    started = time.perf_counter()
    sent = answered = 0
    for connection in connections.values():
        connection.sendall(request)
        sent += 1
    while answered < sent:
        for number, _ in poll.poll(60):
            answer = connections[number].recv(1 << 16)
            if not answer.endswith(b"\n") or b'"error"' in answer:
                raise CallFailed(answer)
            answered += 1
            if sent < calls:
                connections[number].sendall(request)
                sent += 1
    elapsed = time.perf_counter() - started
    poll.close()
    for connection in connections.values():
        connection.close()
    return answered / elapsed
