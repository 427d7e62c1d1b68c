"""`start`: a polpod of one's own, detached from this terminal; returns when it answers."""

from __future__ import annotations

import os
import time

from polpoctl import exits
from polpoctl.client import Connection, ContactLost, Unreachable
from polpoctl.conversation import sockets
from polpoctl.executable import polpod
from polpoctl.render import Screen, notice
from polpod import paths

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

BOUND = 30.0
"""Seconds until it must answer."""

LOCKED = 75
"""polpod's exit code when another one has the state directory (DESIGN §10)."""

_LAST_LINES = 10


def options(parser: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    root = paths.daemon_root(args.root, os.environ, os.getcwd())
    socket = paths.daemon_socket(args.socket, os.environ, root)
    meant = next(filter(os.path.exists, sockets(args.socket, args.root)), socket)
    if meant != socket:
        notice(f"without --root {root}, polpoctl means another polpod: the one at {meant}")
    args.root = root
    status = _status(socket)
    if status is not None:
        return _tell(args, status, started=False)
    log = paths.StateDirectory(root).daemon_log
    os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    size = os.path.getsize(log) if os.path.exists(log) else 0
    child = _spawn(polpod(args), log)
    until = time.monotonic() + BOUND
    ended: int | None = None
    while (status := _status(socket)) is None:
        if ended is None:
            pid, wait_status = os.waitpid(child, os.WNOHANG)
            ended = os.waitstatus_to_exitcode(wait_status) if pid else None
        # One that found the state directory locked may have met another that is starting, and that will do as well.
        if ended not in (None, LOCKED) or time.monotonic() > until:
            return _failed(log, size, child, ended)
        time.sleep(0.02)
    return _tell(args, status, started=status["pid"] == child)


def _spawn(command: list[str], log: str) -> int:
    """polpod in a session of its own; what it says goes to its log."""
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, log, write, 0o600)]
    return os.posix_spawn(
        command[0], command, os.environ, file_actions=[*files, (os.POSIX_SPAWN_DUP2, 1, 2)], setsid=True
    )  # fmt: skip


def _status(socket: str) -> dict[str, Any] | None:
    try:
        connection = Connection(socket)
        status: dict[str, Any] = connection.call("daemon.status")
        connection.close()
    except (Unreachable, ContactLost):
        return None
    return status


def _tell(args: Namespace, status: dict[str, Any], *, started: bool) -> int:
    screen = Screen(args)
    if screen.json:
        screen.value({"pid": status["pid"], "started": started, "root": status["root"], "socket": status["socket"]})
    else:
        screen.line(f"polpod {'running' if started else 'was running already'}, pid {status['pid']}")
    return exits.OK


def _failed(log: str, size: int, child: int, ended: int | None) -> int:
    with open(log, "rb") as file:
        file.seek(size)
        lines = file.read().decode(errors="backslashreplace").splitlines()[-_LAST_LINES:]
    if ended is None:
        notice(f"polpod (pid {child}) does not answer after {BOUND:g} s; its log, {log}, ends:")
    else:
        notice(f"polpod did not start (exit code {ended}); its log, {log}, ends:")
    for line in lines or ["(nothing)"]:
        notice(f"  {line}")
    if ended is None:
        return exits.UNREACHABLE
    return ended if ended in (exits.USAGE, LOCKED) else exits.FAILED
