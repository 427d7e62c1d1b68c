"""A real daemon in a temporary root, as a user's would be: started, asked, killed, and taken away again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.client import Client

POLPOCTL = str(Path(sys.executable).with_name("polpoctl"))


class Daemon:
    """One daemon; `settings` are those of polpo.json."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        self.root = root
        self.socket = str(root / ".polpo" / "polpod.sock")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("POLPO")} | {
            "POLPO_ROOT": str(root)
        }
        (root / ".polpo").mkdir(mode=0o700)
        (root / ".polpo" / "polpo.json").write_text(json.dumps({"settings": {"storage": "sqlite", **settings}}))
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.root / "polpod.err", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "polpod", "--root", str(self.root)], env=self.environment, stdout=log, stderr=log
            )
        until(self._answers, 30, "polpod answers", pause=0.002)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"polpod ended with {self._process.returncode}: {self.errors()}")
        try:
            self.client().close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def errors(self) -> str:
        return (self.root / "polpod.err").read_text()[-2000:]

    def client(self) -> Client:
        return Client(self.socket)

    def command(self, *arguments: str) -> list[str]:
        return [POLPOCTL, *arguments]

    def kill(self) -> None:
        """SIGKILL: the daemon dies, its runs do not."""
        self._process.kill()
        self._process.wait()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Stop it, and with it all its runs; if it crashes, by another that finds them."""
        if self._end() != 0:
            self.start()
            self._end()

    def _end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=90)


@contextmanager
def daemon(**settings: Any) -> Iterator[Daemon]:
    """A daemon for a while; its root stays if it could not be stopped, since its runs may still be there."""
    root = Path(tempfile.mkdtemp(prefix="polpo-bench-"))
    one = Daemon(root, settings)
    broken = True
    try:
        yield one
        broken = False
    finally:
        one.stop()
        if broken:
            print(one.errors(), file=sys.stderr)
        shutil.rmtree(root)


def until(condition: Callable[[], bool], bound: float, what: str, pause: float = 0.01) -> None:
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {bound} s")
        time.sleep(pause)


def submit_many(client: Client, tasks: Sequence[dict[str, Any]], **defaults: Any) -> list[str]:
    """Submit in frames of at most 1,000; the ids."""
    ids = []
    for first in range(0, len(tasks), 1000):
        answer = client.call("task.submit_many", defaults=defaults, tasks=tasks[first : first + 1000])
        ids += [result["id"] for result in answer["results"]]
    return ids


def seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """How long a command takes, from before it is launched until it was reaped; it must succeed."""
    started = time.perf_counter()
    ended = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    taken = time.perf_counter() - started
    if ended.returncode:
        raise RuntimeError(f"{command[0]} ended with {ended.returncode}: {ended.stderr.decode()}")
    return taken
