"""A polpod that says what it is told to: for tests of the client alone.

`answers` maps a method to its result, to a function of the params that returns one, or to a list of these, of which
each call takes the first until one is left.  A `Refusal` in the place of a result is an error response; `HANG_UP` closes
the connection without one; `SILENCE` says nothing and leaves it open.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kit.waiting import until

HANG_UP = object()
SILENCE = object()


class Refusal:
    def __init__(self, word: str | None, message: str = "no", code: int = -32000) -> None:
        self.error = {"code": code, "message": message} | ({"data": {"type": word}} if word else {})


class Scripted:
    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.directory = tempfile.mkdtemp(prefix="polpoctl-")
        self.path = os.path.join(self.directory, "sock")
        self.answers = dict(answers or {})
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen; also again, after `stop`."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(50)
        self._run(self._accept, self._listener)

    def stop(self) -> None:
        """Be gone, with every connection."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            accepting, *serving = self._threads
            accepting.join(10)  # now no connection is added any more
            for connection in list(self._connections):
                with suppress(OSError):  # the client closed it, or its thread did
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in serving:
                thread.join(10)
            self._threads.clear()
            self._listener.close()
            self._listener = None
            os.unlink(self.path)

    def called(self, method: str, times: int = 1) -> dict[str, Any]:
        """The params of a call, once it was made; with `times` of the call of that number."""

        def seen() -> list[dict[str, Any]] | None:
            found = [params for name, params in list(self.calls) if name == method]
            return found if len(found) >= times else None

        return until(seen, f"{times} × {method}")[times - 1]

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def _run(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(sock,))
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    if not self._answer(connection, json.loads(line)):
                        break
            except OSError:
                pass  # the client went away
            finally:
                self._connections.remove(connection)

    def _answer(self, connection: socket.socket, request: dict[str, Any]) -> bool:
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        answer = self.answers[method]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(params)
        if method == "task.logs" and params.get("after", 0) >= RUN["id"]:  # that was the only one
            answer = {"run_id": None, "offset": 0, "data": "", "next_offset": 0, "end": True}
        if answer is HANG_UP:
            return False
        if answer is not SILENCE:
            outcome = {"error": answer.error} if isinstance(answer, Refusal) else {"result": answer}
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": request["id"]} | outcome).encode() + b"\n")
        return True

    def __enter__(self) -> Scripted:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


TASK: dict[str, Any] = {
    "id": "5", "seq": 5, "title": "make check", "description": "", "project": None, "queue": "default", "labels": {},
    "assigned_to": None, "depends_on": [], "priority": 0, "status": "pending", "state": "ready", "retries": 0,
    "max_retries": None, "max_duration": None, "stale_threshold": None, "not_before": None, "deadline": None, "version": 3,
    "memory_max": None, "cpus": None, "tasks_max": None, "nice": None,
    "created_at": "2026-01-02T03:04:05.678901Z", "started_at": None, "finished_at": None, "result": None,
    "spec": {"command": ["make", "check"], "shell": None, "cwd": "/src", "env": ["HOME"], "umask": 18, "stdin": None},
}  # fmt: skip

RUN: dict[str, Any] = {
    "id": 17, "task_id": "5", "attempt": 1, "status": "failed", "reason": "exited", "exit_code": 3, "signal": None,
    "started_at": "2026-01-02T03:04:06.000000Z", "duration": 1.5, "error": None,
    "containment": "cgroup", "cgroup": "/sys/fs/cgroup/polpo/run-17",
}  # fmt: skip

STATUS: dict[str, Any] = {
    "version": "0.1.0", "pid": 4242, "started_at": "2026-01-02T03:04:05.000000Z", "uptime": 3725.0, "state": "running",
    "root": "/srv", "socket": "/srv/.polpo/polpod.sock", "storage": "sqlite", "containment": "cgroup",
    "tasks": {"pending": 2, "done": 40}, "runs": {"running": 1},
    "queues": {"default": {"slots": None, "paused": False, "busy": 1, "ready": 2}},
    "max_concurrency": 4, "launcher": {"paused": None},
}  # fmt: skip


def ending(task_id: str = "5", outcome: str | None = "done", **members: Any) -> dict[str, Any]:
    """An entry of task.wait."""
    entry = {"id": task_id, "status": "?", "outcome": outcome, "reason": None, "exit_code": None, "signal": None}
    return entry | {"message": None} | members
