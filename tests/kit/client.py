"""A client for tests: one connection, blocking, that says what it was told."""

from __future__ import annotations

import json
import select
import socket
from collections import deque
from typing import Any


class Refused(Exception):
    """The daemon answered with an error; `word` is its `data.type`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.data: dict[str, Any] = error.get("data") or {}
        self.word: str | None = self.data.get("type")


class Client:
    def __init__(self, path: str, timeout: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        self._id = 0
        self._told: deque[Any] = deque()
        """Notifications that came before an answer."""

    def call(self, method: str, /, **params: Any) -> Any:
        """The result; what is told before it is left to be received.  Raises Refused; OSError, EOFError: the daemon is gone."""
        self.send(method, **params)
        while "id" not in (answer := self._read()):
            self._told.append(answer)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def send(self, method: str, /, **params: Any) -> None:
        """Ask, and leave the answer to be received."""
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.send_raw(json.dumps(request).encode() + b"\n")

    def error(self, method: str, /, **params: Any) -> str | None:
        """The stable word of the error that this call is answered with.  Raises AssertionError if it is not refused."""
        try:
            result = self.call(method, **params)
        except Refused as refused:
            return refused.word
        raise AssertionError(f"{method} was not refused: {result}")

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> Any:
        return self._told.popleft() if self._told else self._read()

    def _read(self) -> Any:
        line = self._lines.readline()
        if not line:
            raise EOFError("the daemon closed the connection")
        return json.loads(line)

    def readable(self) -> bool:
        """Whether a message, or the end, has come already."""
        return bool(self._told or select.select([self._socket], [], [], 0)[0])

    def shutdown_write(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
