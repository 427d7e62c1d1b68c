"""Where things are: the state directory, its files, and the socket.  The one place that spells a path.

Both sides use it: polpod to make things, polpoctl to find them.  Sources: DESIGN §6 (run directory) and §10 (the order
in which directories and sockets are looked for).  Standard library only, and light: polpoctl loads it at each start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

STATE = ".polpo"
SOCKET_NAME = "polpod.sock"
SUN_PATH_MAX = 107
"""Bytes that fit into a Unix socket's address on Linux, the final NUL not counted (unix(7))."""


def nearest(start: str) -> str | None:
    """The nearest directory at or above `start` that has a `.polpo`, or None."""
    here = os.path.abspath(start)
    while True:
        if os.path.isdir(os.path.join(here, STATE)):
            return here
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def user_root(env: Mapping[str, str]) -> str:
    """`$XDG_STATE_HOME/polpo`, by the XDG base directory rules."""
    base = env.get("XDG_STATE_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "polpo")


def daemon_root(given: str | None, env: Mapping[str, str], cwd: str) -> str:
    """The directory whose `.polpo` the daemon uses: --root, $POLPO_ROOT, $STATE_DIRECTORY, nearest `.polpo`, the user's."""
    found = given or env.get("POLPO_ROOT") or env.get("STATE_DIRECTORY", "").split(":")[0] or nearest(cwd)
    return os.path.abspath(found or user_root(env))


def daemon_socket(given: str | None, env: Mapping[str, str], root: str) -> str:
    """The socket that the daemon listens on: --socket, $POLPO_SOCKET, $RUNTIME_DIRECTORY, else within the state directory."""
    if path := given or env.get("POLPO_SOCKET"):
        return os.path.abspath(path)
    if runtime := env.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return os.path.join(runtime, SOCKET_NAME)
    return os.path.join(root, STATE, SOCKET_NAME)


def client_sockets(socket: str | None, root: str | None, env: Mapping[str, str], cwd: str) -> list[str]:
    """The sockets that a client tries, in order; one alone where the user said which."""
    if path := socket or env.get("POLPO_SOCKET"):
        return [os.path.abspath(path)]
    if found := root or env.get("POLPO_ROOT") or nearest(cwd):
        return [os.path.join(os.path.abspath(found), STATE, SOCKET_NAME)]
    tried = [os.path.join("/run/polpo", SOCKET_NAME), os.path.join(user_root(env), STATE, SOCKET_NAME)]
    if runtime := env.get("XDG_RUNTIME_DIR"):
        tried.insert(0, os.path.join(runtime, "polpo", SOCKET_NAME))
    return tried


def numbers_of_runs(directory: str, name: str = "run-*") -> set[int]:
    """The runs of which something lies in this directory, under `name` with the number in place of its star.

    None where there is no such directory.  Anybody may put other names there, of numbers that fit nowhere, or of digits
    that are none.
    """
    pattern = re.compile(re.escape(name).replace(r"\*", "([1-9][0-9]{0,17})"))
    try:
        entries = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {int(match[1]) for entry in entries if (match := pattern.fullmatch(entry))}


class StateDirectory:
    """The files of one `.polpo`; `root` is the directory that contains it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = os.path.join(root, STATE)
        self.config = os.path.join(self.path, "polpo.json")
        self.lock = os.path.join(self.path, "polpod.lock")
        self.ballast = os.path.join(self.path, "ballast")
        self.key_secret = os.path.join(self.path, "key.secret")
        self.tasks_db = os.path.join(self.path, "state.db")
        self.runs_db = os.path.join(self.path, "runs.db")
        self.run_directories = os.path.join(self.path, "tmp")
        self.logs = os.path.join(self.path, "logs")
        self.content = os.path.join(self.path, "content")
        """Of artifacts; a store of files has their records in `artifacts`."""
        self.daemon_log = os.path.join(self.logs, "polpod.log")

    def run(self, run_id: int) -> RunDirectory:
        return RunDirectory(os.path.join(self.run_directories, f"run-{run_id}"))

    def spare(self, number: int) -> RunDirectory:
        """A run directory that waits for another run."""
        return RunDirectory(os.path.join(self.run_directories, f"spare-{number}"))

    def notification_log(self, name: str) -> str:
        return os.path.join(self.logs, f"notification-{name}.log")

    def log(self, run_id: int) -> str:
        return os.path.join(self.logs, f"{run_id}.log")

    def last_run(self) -> int:
        """The last run that has a directory or a log here, whatever the databases know: they may be older (F54)."""
        return max(numbers_of_runs(self.run_directories) | numbers_of_runs(self.logs, "*.log"), default=0)

    def damaged_exit(self, run_id: int) -> str:
        """Where an exit.json that nobody can read is kept: its run directory is removed."""
        return os.path.join(self.logs, f"{run_id}.exit.json")


class RunDirectory:
    """The files by which one run's runner and the daemon meet, beside its row."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.spec = os.path.join(path, "spec.json")
        self.lock = os.path.join(path, "lock")
        self.exit_tmp = os.path.join(path, "exit.tmp")
        self.exit = os.path.join(path, "exit.json")
        self.trouble = os.path.join(path, "trouble")
        self.prompt = os.path.join(path, "prompt")
        self.context = os.path.join(path, "context")
        self.parked = os.path.join(path, "parked.json")
        self.review = os.path.join(path, "review.json")
        self.assessment = os.path.join(path, "assessment.json")
