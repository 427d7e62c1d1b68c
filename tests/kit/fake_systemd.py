"""What systemd does for a daemon that it started: listens for it, hears what it says, and tells it so.

Executed as a program, it is the launcher of such a daemon: `python fake_systemd.py FD PYTHON -m polpod …` passes the listening
socket FD (or none: -1) as sd_listen_fds(3) says, names the process in $WATCHDOG_PID, and goes on as polpod.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

sys.path.append(os.path.dirname(os.path.dirname(__file__)))  # where it is executed as a program

from kit.host import Host
from kit.waiting import until

Message = dict[str, str]


class FakeSystemd:
    """`listen_at`: the path of the socket that it listens on, as polpod.socket does.

    A thread takes in what is said, since no more than a few messages wait until they are.
    """

    def __init__(self, listen_at: str | None = None, mode: int = 0o600, group: int = -1) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="polpod-")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = os.path.join(self._directory.name, "notify")
        self._notify.bind(self.path)
        self._notify.setblocking(False)
        self.heard: list[Message] = []
        self._said = threading.Condition()
        self._over, over = socket.socketpair()
        self._thread = threading.Thread(target=self._hear, args=(over,), daemon=True)
        self._thread.start()
        self.listener: socket.socket | None = None
        if listen_at is not None:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(listen_at)
            os.chown(listen_at, -1, group)
            os.chmod(listen_at, mode)
            self.listener.listen(100)

    def start(self, host: Host, *, wait: bool = True, watchdog: float | None = None, **env: str) -> None:
        """Start this host's daemon; returns when it said that it is ready, unless told not to wait."""
        fds = [] if self.listener is None else [self.listener.fileno()]
        if watchdog is not None:
            env["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        self.heard.clear()
        under = [sys.executable, __file__, *map(str, fds or [-1])]
        host.start(wait=False, under=under, pass_fds=fds, NOTIFY_SOCKET=self.path, **env)
        if wait:
            self.hears(f"READY\n{host.log()}", lambda message: message.get("READY") == "1")

    def listen(self) -> None:
        """Take in what was said."""
        with self._said:
            while True:
                try:
                    data = self._notify.recv(65536)
                except BlockingIOError:
                    return
                self.heard.append(dict(line.split("=", 1) for line in data.decode().split("\n")))
                self._said.notify_all()

    def _hear(self, over: socket.socket) -> None:
        with over:
            while over not in select.select([self._notify, over], [], [])[0]:
                self.listen()

    def hears(self, what: str, wanted: Callable[[Message], bool]) -> Message:
        """The first message like this that was said since the start, or since `forget`."""

        def heard() -> Message | None:
            self.listen()
            return next(filter(wanted, self.heard), None)

        try:
            return until(heard, f"systemd hears {what}")
        except AssertionError as exc:
            exc.add_note(f"it heard {self.heard}")
            raise

    def status(self, *parts: str) -> str:
        """The first status line with all these parts, once it is said."""
        found = self.hears(f"a status with {parts}", lambda m: "STATUS" in m and all(p in m["STATUS"] for p in parts))
        return found["STATUS"]

    def forget(self) -> None:
        """What was said until now."""
        with self._said:
            self.listen()
            self.heard.clear()

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing more is said for so long."""
        with self._said:
            self.forget()
            return not self._said.wait_for(lambda: self.heard, seconds)

    def close(self) -> None:
        self._over.close()
        self._thread.join()
        self._notify.close()
        if self.listener is not None:
            self.listener.close()
        self._directory.cleanup()

    def __enter__(self) -> FakeSystemd:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()


def _become(listener: int, command: list[str]) -> None:
    mine = {"WATCHDOG_PID": str(os.getpid())}
    if listener >= 0:
        os.dup2(listener, 3)
        mine |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "polpod"}
    os.execve(command[0], command, os.environ | mine)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
