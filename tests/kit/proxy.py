"""The way to a PostgreSQL server: it forwards, and breaks at the statement that it is told."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

from kit.waiting import BOUND

SOCKET = ".s.PGSQL.5432"

READY = b"Z\x00\x00\x00\x05I"
"""How an answer ends outside of a transaction (ReadyForQuery)."""

Moment = Literal["before", "sent", "done", "silent"]
"""Of the statement at which the connection breaks: it is never forwarded; it is forwarded, and nobody waits for what
becomes of it; it is answered, and the answer is lost; the same, but both sides go on believing in the connection."""


class Proxy:
    def __init__(self, directory: Path, server: str) -> None:
        """Listens in `directory` for what is sent on to the server's directory."""
        self.directory = str(directory)
        self.cut = threading.Event()
        """Set once it broke."""
        self.closed = threading.Event()
        """While it is set, nobody gets through."""
        self._server = f"{server}/{SOCKET}"
        self._breaks: tuple[bytes, Moment, bool] | None = None
        self._over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{directory}/{SOCKET}")
        self._listener.listen()
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def break_at(self, statement: bytes, moment: Moment, *, stay_closed: bool = False) -> None:
        """Break the connection that next carries this text; `stay_closed`: and let nobody through from then on."""
        self.cut.clear()
        self._breaks = statement, moment, stay_closed

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(BOUND)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                thread = threading.Thread(target=self._connect, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            if not self.closed.is_set():
                server.connect(self._server)
                self._carry(client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if server in ready:
                if not (answer := server.recv(65536)):
                    return
                client.sendall(answer)
            if client in ready:
                if not (asked := client.recv(65536)):
                    return
                if self._breaks is not None and self._breaks[0] in asked:
                    self._break(server, asked)
                    return
                server.sendall(asked)

    def _break(self, server: socket.socket, asked: bytes) -> None:
        assert self._breaks is not None
        _, moment, stay_closed = self._breaks
        self._breaks = None
        if stay_closed:
            self.closed.set()
        if moment != "before":
            server.sendall(asked)
        if moment in ("done", "silent"):
            answer = more = server.recv(65536)
            while more and not answer.endswith(READY):
                answer += (more := server.recv(65536))
        self.cut.set()
        if moment == "silent":
            self._over.wait(BOUND)
