"""The daemon: who has the lock, whether the socket answers, and what it says of its work."""

from __future__ import annotations

import json
import os
import socket as sockets
from collections.abc import Iterator
from typing import Any

from polpod import __version__, remedies
from polpod.doctor.checkup import Diagnosis, Patient, copied, ok, problem, warning
from polpod.wire import frames, jsonrpc

PATIENCE = 5.0
"""Seconds to wait for an answer: a daemon that takes longer is one of the things to be told."""


def ask(path: str) -> dict[str, Any] | None:
    """The answer to `daemon.status` of whoever listens at `path`; None: no answer."""
    decoder = frames.Decoder()
    with sockets.socket(sockets.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(path)
            client.sendall(frames.encode(json.dumps(jsonrpc.request("daemon.status", {}, 1)).encode()))
            while data := client.recv(2**16):
                for frame in decoder.feed(data):
                    _, answer = jsonrpc.response(json.loads(frame))
                    return answer if isinstance(answer, dict) else None
        except (OSError, ValueError, frames.FrameTooLong, jsonrpc.NotAResponse):
            return None
    return None


def lock_and_socket(patient: Patient) -> Iterator[Diagnosis]:
    """They must be of the same daemon."""
    root, holder, status = patient.paths.root, patient.holder, patient.status
    if holder is None and status is None:
        yield warning("daemon", "none runs", remedies.command(root, "start"))
    elif holder is None:
        yield problem("daemon", f"{patient.socket} is another directory's: {status and status['root']}", "use --socket")
    elif status is None:
        state = _state(holder)
        what_next = f"kill -CONT {holder}" if state == "T" else f"look at {patient.paths.daemon_log}, or at the journal"
        stopped = ", and is stopped" if state == "T" else ""
        yield problem(
            "daemon",
            f"pid {holder} has the lock{stopped}, and nothing answers at {patient.socket} within {PATIENCE:g} s",
            what_next,
        )
    elif holder not in (status["pid"], 0):
        yield problem("daemon", f"pid {holder} has the lock, and pid {status['pid']} answers", "use --socket")
    else:
        yield ok(
            "daemon", f"polpod {status['version']}, pid {status['pid']}, {status['state']}, answers at {patient.socket}"
        )
        if holder == 0:
            yield warning("daemon", f"somebody removed or emptied {patient.paths.lock}", "leave it to polpod")
        if status["version"] != __version__:
            yield warning(
                "daemon",
                f"it is polpod {status['version']}, and {__version__} is installed",
                f"{remedies.command(root, 'stop')}; {remedies.command(root, 'start')}",
            )


def work(patient: Patient) -> Iterator[Diagnosis]:
    """What keeps work from starting or ending."""
    status, root = patient.status, patient.paths.root
    if status is None:
        return
    if status["launcher"]["paused"]:
        yield problem(
            "launcher", f"nothing starts: {status['launcher']['paused']}", remedies.command(root, "events", "--json")
        )
    else:
        yield ok("launcher", "it starts what is ready")
    if status["stuck"]:
        runs = ", ".join(map(str, status["stuck"]))
        yield problem(
            "stuck runs", f"something of runs {runs} survives SIGKILL (uninterruptible?)", "ps -eo pid,stat,wchan"
        )
    else:
        yield ok("stuck runs", "none")
    if went := status["store"].get("copied_to"):
        yield copied(status["storage"], went, root)
    if status.get("quarantined"):
        yield warning(
            "quarantine",
            f"{status['quarantined']} rows could not be read, and are kept in the table quarantine",
            remedies.command(root, "rpc", "event.list", '{"after": 0, "kinds": ["*:quarantined"]}'),
        )
    if paused := sorted(name for name, queue in status["queues"].items() if queue["paused"]):
        yield warning("queues", f"paused: {', '.join(paused)}", remedies.command(root, "resume", paused[0]))


def _state(pid: int) -> str:
    """The letter of /proc/<pid>/stat."""
    if not os.path.exists(f"/proc/{pid}/stat"):
        return ""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()
