"""A state directory with a real daemon on it, which tests start, kill and start again.

Everything it started is gone when it is closed: the daemon, the runners, and what the runs left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

from kit.client import Client
from kit.processes import alive, environment, holders, zygote
from kit.waiting import until
from polpod.paths import StateDirectory
from polpod.runner.containment import Cgroup, choose_base

FINISHED = ("done", "failed", "cancelled", "awaiting_approval")


class Host:
    """`settings` are those of polpo.json."""

    def __init__(self, **settings: Any) -> None:
        # Short, since a socket's path has 107 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="polpod-"))
        self.paths = StateDirectory(str(self.root))
        self.socket = os.path.join(self.paths.path, "polpod.sock")
        os.makedirs(self.paths.path, mode=0o700)
        self.configure(**settings)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.output = self.root / "daemon.log"

    def configure(self, **settings: Any) -> None:
        """Takes effect at the next start."""
        Path(self.paths.config).write_text(json.dumps({"settings": {"reserve": 0} | settings}))

    def start(
        self, *, wait: bool = True, under: Sequence[str] = (), pass_fds: Sequence[int] = (), **env: str
    ) -> subprocess.Popen[bytes]:
        """Start a daemon with these additional environment variables; returns when it answers, unless told not to wait.

        `under`: a command that executes it, such as `prlimit --nofile=64`; `pass_fds`: descriptors that it inherits.
        """
        with self.output.open("ab") as output:
            self.daemon = subprocess.Popen(
                [*under, sys.executable, "-m", "polpod", "--root", str(self.root)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | env,
                cwd="/",
                pass_fds=pass_fds,
            )
        if wait:
            until(self._answers, f"the daemon answers\n{self.log()}")
        return self.daemon

    def _answers(self) -> bool:
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.daemon.returncode}:\n{self.log()}")
        try:
            with self.client() as client:
                return bool(client.call("daemon.status")["pid"] == self.daemon.pid)
        except (OSError, EOFError):
            return False

    def survive(self) -> bool:
        """Start a daemon again if the last one died; whether it had."""
        assert self.daemon is not None
        if self.daemon.poll() is None:
            return False
        assert self.daemon.returncode == -signal.SIGKILL, f"the daemon ended by itself:\n{self.log()}"
        self.start()
        return True

    def kill(self) -> None:
        """SIGKILL the daemon."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def stop(self, number: int = signal.SIGTERM, bound: float = 60.0) -> int:
        """Ask the daemon to end; its exit status."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return self.daemon.wait(bound)

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run polpod to its end with these arguments and options of `subprocess.run`."""
        argv = [sys.executable, "-m", "polpod", *arguments]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)

    def maintain(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`polpod --maintenance` on this state directory."""
        return self.command("--root", str(self.root), "--maintenance", *words)

    def client(self) -> Client:
        return Client(self.socket)

    def call(self, method: str, /, **params: Any) -> Any:
        with self.client() as client:
            return client.call(method, **params)

    def surely(self, method: str, /, **params: Any) -> Any:
        """As `call`, again and again through deaths of the daemon, which is started anew."""
        while True:
            with suppress(OSError, EOFError):
                return self.call(method, **params)
            until(self.survive, f"the daemon that did not answer {method} is dead")

    def submit(self, *command: str, **fields: Any) -> str:
        """The id of a new task: of this command, or of `shell=`."""
        if command:
            fields["command"] = list(command)
        fields.setdefault("cwd", str(self.root))
        return str(self.call("task.submit", **fields)["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("task.get", id=task_id)["task"]
        return found

    def runs(self, task_id: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found: list[dict[str, Any]] = self.call("task.get", id=task_id)["runs"]
        return found

    def finished(self, task_id: str, bound: float = 60.0) -> dict[str, Any]:
        """The task, once nothing but a person moves it any more."""

        def over() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in FINISHED else None

        return until(over, f"task {task_id} is over", bound)

    def claimed(self, task_id: str) -> dict[str, Any]:
        """The task's run, once its runner has claimed it, whose job may not have been let go yet."""

        def last() -> dict[str, Any] | None:
            found = self.runs(task_id)
            return found[-1] if found and found[-1]["status"] == "running" else None

        return until(last, f"the run of task {task_id} is claimed")

    def running(self, task_id: str) -> dict[str, Any]:
        """The task's run, once its job was executed, or died before that."""
        run = self.claimed(task_id)
        runner, job = run["pid"], run["job_pid"]
        until(lambda: environment(job) != environment(runner) or not alive(job), f"task {task_id} has its job executed")
        return run

    def cgroup(self, run_id: int) -> Cgroup | None:
        """Where the run with this id has its processes; None where this host has no cgroups for us."""
        base = choose_base(self.paths.path)
        return None if base is None else base.run(run_id)

    def cgroups(self) -> list[Cgroup]:
        """Those of the runs that have one."""
        base = choose_base(self.paths.path)
        return [] if base is None else [Cgroup(str(group)) for group in Path(base.path).glob("run-*")]

    @contextmanager
    def without_runs_db(self) -> Iterator[None]:
        """The run store cannot be reached: runners write their results into exit.json."""
        away = self.paths.runs_db + ".away"
        os.rename(self.paths.runs_db, away)
        yield
        os.rename(away, self.paths.runs_db)

    def log(self) -> str:
        """What the daemons said so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def close(self) -> None:
        """End everything and remove the directory."""
        if self.daemon is not None and self.daemon.poll() is None:
            stopped = zygote(self.daemon.pid)  # by a test that failed; else it ends by itself
            self.daemon.kill()
            self.daemon.wait()
            with suppress(ProcessLookupError):
                if stopped is not None:
                    os.kill(stopped, signal.SIGKILL)
        until(self.end_runners, "nothing of any run is left")
        self._remove_cgroups()
        shutil.rmtree(self.root)

    def end_runners(self) -> bool:
        """Runners outlive their daemon on purpose; they and their jobs are found by their locks and cgroups.

        False: look again, since one that was only just forked may take its lock yet.
        """
        runners = [pid for lock in glob(f"{self.paths.run_directories}/run-*/lock") for pid in holders(lock)]
        for pid in runners:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # of session level, the job dies with it
        for cgroup in self.cgroups():
            cgroup.kill()
            assert cgroup.wait_empty(60), f"{cgroup.path} is not empty"
        return not runners

    def _remove_cgroups(self) -> None:
        base = choose_base(self.paths.path)
        if base is not None:
            for group in Path(base.path).glob("run-*"):
                until(partial(_removed, group), f"{group} is removed")
            with suppress(OSError):
                os.rmdir(base.path)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def recovered() -> Iterator[Host]:
    """A host whose daemon answers and has recovered, for tests that share one; its log shows no defect in the end."""
    with Host() as host:
        host.start()
        until(lambda: host.call("daemon.health")["ok"], "it has recovered")
        yield host
        assert "Traceback" not in host.log(), host.log()


def _removed(group: Path) -> bool:
    with suppress(FileNotFoundError, OSError):
        Cgroup(str(group)).remove()
    return not group.exists()
