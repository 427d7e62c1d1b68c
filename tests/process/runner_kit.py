"""Real runners for tests: a state directory with a runs.db, a zygote, and the ends of both.

Rules: every wait has a condition and a bound; what a test starts is ended by `State`, each process by its pidfd.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kit.waiting import BOUND, until

from polpod.paths import RunDirectory, StateDirectory
from polpod.runner import contract, directory, identity
from polpod.runner.containment import Cgroup, choose_base
from polpod.runner.session import Session

LEVELS = (pytest.param("cgroup", marks=pytest.mark.root), "session")


def ended(pidfd: int, seconds: float = BOUND) -> bool:
    """Whether the process ends in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Zygote:
    """A zygote and our end of its socket."""

    def __init__(self, env: Mapping[str, str] | None = None, command: list[str] | None = None) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(BOUND)
        with theirs:
            self.process = subprocess.Popen(
                [*(command or [sys.executable, "-I", "-m", "polpod.runner.zygote"]), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=dict(os.environ) | dict(env or {}),
            )
        assert self.answer()[0]["pid"] == self.process.pid

    def ask(self, run_id: int, path: str, go: int) -> None:
        socket.send_fds(self.socket, [json.dumps({"run_id": run_id, "directory": path}).encode()], [go])

    def answer(self) -> tuple[dict[str, Any], int | None]:
        data, passed, _, _ = socket.recv_fds(self.socket, 65536, 1)
        return json.loads(data), (passed[0] if passed else None)

    def close(self) -> None:
        self.socket.close()
        self.process.wait(BOUND)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Run:
    """One run: its row, its directory, and once started the pidfd of its runner and the daemon's end of the go pipe."""

    def __init__(self, state: State, spec: contract.RunSpec) -> None:
        self.state = state
        self.id = spec["run_id"]
        self.spec = spec
        self.directory: RunDirectory = state.paths.run(self.id)
        self.pid = 0
        self.pidfd = -1
        self.go = -1

    @property
    def row(self) -> dict[str, Any]:
        found = self.state.db.execute("SELECT * FROM runs WHERE id = ?", (self.id,)).fetchone()
        return dict(found)

    @property
    def log(self) -> bytes:
        return Path(self.spec["log_path"]).read_bytes()

    @property
    def cgroup(self) -> Cgroup | None:
        return None if self.spec["cgroup"] is None else Cgroup(self.spec["cgroup"])

    def start(self, zygote: Zygote | None = None, *, go: bool = True) -> Run:
        """Have the runner forked; with `go` it is told to go on, before anything that takes its time."""
        told, self.go = os.pipe2(os.O_CLOEXEC)
        if go:
            self.tell()
        used = zygote or self.state.zygote
        used.ask(self.id, self.directory.path, told)
        os.close(told)
        reply, pidfd = used.answer()
        assert reply["run_id"] == self.id, reply
        assert pidfd is not None, reply
        self.pid, self.pidfd = reply["pid"], pidfd
        return self

    def tell(self) -> None:
        with suppress(BrokenPipeError):
            os.write(self.go, b"!")

    def let_go(self) -> None:
        """Close the go pipe, as the daemon's death does."""
        os.close(self.go)
        self.go = -1

    def finish(self) -> dict[str, Any]:
        """Wait for the runner to end; the row that it left."""
        assert ended(self.pidfd), f"the runner of {self.id} still lives: {self.row}"
        return self.row

    def running(self) -> Run:
        """Wait until the run is claimed."""
        until(lambda: self.row["status"] != "starting", f"run {self.id} is claimed")
        return self

    def said(self, word: bytes) -> Run:
        """Wait until the job has written this."""
        until(lambda: os.path.exists(self.spec["log_path"]) and word in self.log, f"{word!r} in its log")
        return self

    @property
    def signed(self) -> bool:
        """Whether the runner is about to claim."""
        return os.path.exists(self.directory.lock) and os.path.getsize(self.directory.lock) > 0

    @property
    def trouble(self) -> str | None:
        return directory.read_trouble(self.directory)

    @property
    def recorded(self) -> dict[str, Any]:
        """The payload of exit.json."""
        return directory.read_exit(self.directory.exit)

    def terminate(self) -> None:
        """SIGTERM to the runner, unless it has ended."""
        identity.send(self.pidfd, signal.SIGTERM)

    def kill_row(self, reason: str, grace: float) -> None:
        self.state.db.execute(
            contract.REQUEST_KILL,
            {
                "id": self.id,
                "kill_reason": reason,
                "kill_by": "test",
                "kill_at": contract.timestamp(),
                "kill_mono": time.monotonic_ns(),
                "kill_boot": identity.boot_id(),
                "kill_grace": grace,
            },
        )

    def containment(self) -> Cgroup | Session:
        """As the daemon finds it from the row alone."""
        row = self.row
        leaders = {row["pid"]: row["start_ticks"], row["job_pid"]: row["job_start_ticks"]} if row["job_pid"] else {}
        if self.cgroup is not None and os.path.isdir(self.cgroup.path):
            return self.cgroup
        return Session(self.id, row["nonce"], row["log_path"], leaders, None)

    def close(self) -> None:
        if self.go >= 0:
            os.close(self.go)
        if self.pidfd >= 0:
            identity.send(self.pidfd, signal.SIGKILL)
            assert ended(self.pidfd)
            os.close(self.pidfd)
        found = self.containment()
        found.kill()
        assert found.wait_empty(BOUND)
        if self.cgroup is not None:
            self.cgroup.remove()


class State:
    """A state directory with runs.db, and the runs that were made in it."""

    def __init__(self, root: Path) -> None:
        self.paths = StateDirectory(str(root))
        os.makedirs(self.paths.run_directories)
        os.makedirs(self.paths.logs)
        self.open()
        self.db.execute("PRAGMA journal_mode = WAL")
        for script in contract.MIGRATIONS:
            self.db.executescript(script)
        self.base = choose_base(self.paths.path)
        self._zygote: Zygote | None = None
        self.runs: list[Run] = []

    def open(self) -> None:
        """Open runs.db, as the daemon does."""
        self.db = sqlite3.connect(self.paths.runs_db, isolation_level=None, timeout=5)
        self.db.row_factory = sqlite3.Row

    @property
    def zygote(self) -> Zygote:
        if self._zygote is None:
            self._zygote = Zygote()
        return self._zygote

    def add(self, *argv: str, level: str = "session", **changes: Any) -> Run:
        """A `starting` row with its directory, spec and, at that level, cgroup."""
        number = len(self.runs) + 1
        cgroup = None
        if level == "cgroup":
            assert self.base is not None, "no cgroup2 that we may write in"
            cgroup = self.base.run(number)
            cgroup.make()
        spec = contract.RunSpec(
            version=contract.VERSION,
            run_id=number,
            task_id=f"task-{number}",
            attempt=1,
            nonce=secrets.token_hex(16),
            token="the job's secret",
            runs_db=self.paths.runs_db,
            socket=os.path.join(self.paths.path, "polpod.sock"),
            daemon_lock=self.paths.lock,
            argv=list(argv),
            cwd="/",
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            umask=0o022,
            stdin=None,
            log_path=self.paths.log(number),
            log_limit=contract.LOG_LIMIT,
            log_head=contract.LOG_HEAD,
            containment="cgroup" if cgroup else "session",
            cgroup=cgroup.path if cgroup else None,
            claim_until_mono=time.monotonic_ns() + 30 * 10**9,
            kill_grace=contract.KILL_GRACE,
            leftovers="kill",
            max_duration=None,
            rlimits={},
            nice=0,
            oom_score_adj=0,
        )
        spec.update({k: v for k, v in changes.items() if k != "nonce"})  # type: ignore[typeddict-item]
        self.db.execute(
            "INSERT INTO runs (id, task_id, attempt, queue, nonce, token_hash, status, created_at, boot_id, "
            "claim_until_mono, containment, cgroup, log_path) VALUES (?,?,1,'default',?,'-','starting',?,?,?,?,?,?)",
            (
                *(
                    number,
                    spec["task_id"],
                    spec["nonce"],
                    contract.timestamp(),
                    identity.boot_id(),
                    spec["claim_until_mono"],
                ),
                *(spec["containment"], spec["cgroup"], spec["log_path"]),
            ),
        )
        spec.update(changes)  # type: ignore[typeddict-item]
        directory.prepare(self.paths.run(number), spec)
        run = Run(self, spec)
        self.runs.append(run)
        return run

    def shell(self, text: str, **changes: Any) -> Run:
        return self.add("/bin/sh", "-c", text, **changes)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.runs:
            run.close()
        if self._zygote is not None:
            self._zygote.close()
        if self.base is not None:
            os.rmdir(self.base.path)
        self.db.close()
