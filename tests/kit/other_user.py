"""Calls by somebody else: another user, where root may become one, or a process in another place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

NOBODY = 65534

SCRIPT = """
import json, os, socket, sys
path, uid, calls = json.loads(sys.argv[1])
if uid is not None:
    os.setgroups([]), os.setgid(uid), os.setuid(uid)
client = socket.socket(socket.AF_UNIX)
client.connect(path)
answers, lines = [], client.makefile("rb")
for number, (method, params) in enumerate(calls):
    client.sendall(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\\n")
    answers.append(json.loads(lines.readline()))
print(json.dumps(answers))
"""

Calls = list[tuple[str, dict[str, Any]]]


def command(socket: str, calls: Calls, uid: int | None = None) -> list[str]:
    """The command that makes these calls on one connection, as that user, and prints the list of answers as JSON."""
    return [sys.executable, "-c", SCRIPT, json.dumps([socket, uid, calls])]


def call_as(uid: int, socket: str, calls: Calls) -> list[dict[str, Any]]:
    """The answers that this user gets; for a uid other than the caller's own, only root can."""
    other = uid if uid != os.geteuid() else None
    ended = subprocess.run(command(socket, calls, other), capture_output=True, check=True, timeout=60)
    answers: list[dict[str, Any]] = json.loads(ended.stdout)
    return answers


def let_in(state: str, socket: str) -> None:
    """Let other users reach the socket, as an administrator does for a group."""
    os.chmod(os.path.dirname(state), 0o755)
    os.chmod(state, 0o755)
    os.chmod(socket, 0o666)
