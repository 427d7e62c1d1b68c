"""`make demo`: polpod builds and tests itself, and its daemon is killed in the middle.

A throw-away daemon gets three dependent tasks: build this project's wheel; make an empty environment with that wheel;
run the unit tests there, against the installed wheel.  While the wheel is built the daemon dies by SIGKILL and is
started again.  Exit 0 when every task is done and each ran exactly once; everything is taken away again, also after
Ctrl-C.

It uses polpoctl as a user would: the commands, their `--json`, and nothing else of this project.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
LOCK = REPOSITORY / "requirements-dev.lock"
TEST_TOOLS = ("pytest", "pytest-trio", "pytest-timeout", "hypothesis", "jsonschema")
REDRAW = 0.2
FINISHED = {"done", "failed", "cancelled"}

BUILD = '"$1" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$2" .'
INSTALL = """
python=$1 scratch=$2 lock=$3; shift 3
"$python" -m venv --without-pip "$scratch/env"
"$python" -m pip --python "$scratch/env/bin/python" install --constraint "$lock" "$(echo "$scratch"/wheels/polpod-*.whl)[top]" "$@"
"""
TEST = """
"$1" -c 'import polpod, sys; print(polpod.__file__); sys.exit(not polpod.__file__.startswith(sys.prefix))'
exec "$1" -m pytest -q -p no:cacheprovider -c "$2/pyproject.toml" "$2/tests/unit"
"""


class Failure(Exception):
    """The demo did not show what it promises; the message says where."""


class Screen:
    """The table of tasks: redrawn in place on a terminal, a line for each change when piped."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._last: dict[str, str] = {}

    def say(self, text: str) -> None:
        self._erase()
        print(text, flush=True)

    def show(self, tasks: list[dict[str, Any]]) -> None:
        if self._live:
            self._erase()
            width = shutil.get_terminal_size().columns
            lines = [line[:width] for line in table(tasks)]
            print("\n".join(lines), flush=True)
            self._drawn = len(lines)
            return
        for task in tasks:
            if self._last.get(task["id"]) != task["state"]:
                self._last[task["id"]] = task["state"]
                print(f"  task {task['id']} ({task['title']}): {task['state']}", flush=True)

    def final(self, tasks: list[dict[str, Any]]) -> None:
        self._erase()
        print("\n".join(table(tasks)), flush=True)

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="")
            self._drawn = 0


def table(tasks: list[dict[str, Any]]) -> list[str]:
    lines = [f"  {'id':>3}  {'task':<34} {'state':<10} {'attempts':>8}  {'seconds':>7}"]
    for task in tasks:
        lines.append(
            f"  {task['id']:>3}  {task['title']:<34} {task['state']:<10} {task['attempts']:>8}  {seconds(task):>7}"
        )
    return lines


def seconds(task: dict[str, Any]) -> str:
    if not task.get("started_at"):
        return ""
    until = datetime.fromisoformat(task["finished_at"]) if task.get("finished_at") else datetime.now(UTC)
    return f"{(until - datetime.fromisoformat(task['started_at'])).total_seconds():.1f}"


class Demo:
    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.screen = Screen()
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("POLPO")} | {"POLPO_ROOT": str(scratch)}

    def polpoctl(self, *arguments: str, check: bool = True) -> str:
        call = subprocess.run(
            [BIN / "polpoctl", *arguments], cwd=self.scratch, env=self._env, capture_output=True, text=True, timeout=120
        )
        if check and call.returncode:
            raise Failure(f"`polpoctl {' '.join(arguments)}` ended with {call.returncode}: {call.stderr.strip()}")
        return call.stdout

    def ask(self, command: str, *arguments: str) -> Any:
        return json.loads(self.polpoctl(command, "--json", *arguments))

    def submit(self, title: str, cwd: Path, script: str, *arguments: object, after: str | None = None) -> str:
        """Submit a shell script with its arguments; the task's id."""
        chain = ("--after", after) if after else ()
        words = ("sh", "-ec", script, "sh", *map(str, arguments))
        return str(self.ask("submit", "--title", title, "--cwd", str(cwd), *chain, "--", *words)["id"])

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("list", "--all")
        return sorted(found, key=lambda t: int(t["id"]))

    def until(self, what: str, condition: Callable[[], bool], bound: float) -> None:
        deadline = time.monotonic() + bound
        while not condition():
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not within {bound:.0f} s")
            time.sleep(0.02)

    def run(self) -> None:
        say = self.screen.say
        self.polpoctl("start")
        pid = self.ask("status")["pid"]
        say(f"polpod runs as pid {pid} in {self.scratch}")

        empty = self.scratch / "empty"
        empty.mkdir()
        wheels = self.scratch / "wheels"
        wheel = self.submit("build the wheel", REPOSITORY, BUILD, sys.executable, wheels)
        env = self.submit(
            *("install it in an empty environment", empty, INSTALL, sys.executable, self.scratch, LOCK, *TEST_TOOLS),
            after=wheel,
        )
        tests = self.submit(
            "run the unit tests against it", empty, TEST, self.scratch / "env/bin/python", REPOSITORY, after=env
        )
        ids = [wheel, env, tests]
        say(f"submitted tasks {', '.join(ids)}, each after the one before")

        self.until("the wheel is being built", lambda: bool(self.ask("show", wheel)["task"]["state"] == "running"), 30)
        os.kill(pid, signal.SIGKILL)
        self.until("the daemon is dead", lambda: not alive(pid), 10)
        killed = datetime.now(UTC)
        say(f"kill -9 {pid}: the daemon is dead; the build goes on without it")
        self.polpoctl("start")
        say(f"polpod runs again, as pid {self.ask('status')['pid']}")

        self.watch(ids)
        self.judge(ids, killed)

    def watch(self, ids: list[str], bound: float = 900) -> None:
        deadline = time.monotonic() + bound
        while True:
            tasks = self.tasks()
            self.screen.show(tasks)
            if all(t["status"] in FINISHED or t["state"] == "blocked" for t in tasks):
                return
            if time.monotonic() > deadline:
                raise Failure(f"tasks {', '.join(ids)} are not finished after {bound:.0f} s")
            time.sleep(REDRAW)

    def judge(self, ids: list[str], killed: datetime) -> None:
        shown = {key: self.ask("show", key) for key in ids}
        self.screen.final([s["task"] for s in shown.values()])
        for key, found in shown.items():
            if found["task"]["status"] != "done":
                self.screen.say(
                    self.polpoctl("why", key, check=False) + self.polpoctl("logs", key, "-n", "40", check=False)
                )
                raise Failure(f"task {key} is {found['task']['state']}")
            if found["task"]["attempts"] != 1 or len(found["runs"]) != 1:
                raise Failure(f"task {key} ran {len(found['runs'])} times")
        if datetime.fromisoformat(shown[ids[0]]["runs"][0]["ended_at"]) < killed:
            raise Failure("the wheel was built before the daemon was dead, so nothing was shown")
        self.screen.say(self.polpoctl("logs", ids[-1], "-n", "1").strip())
        self.screen.say("every task is done, and each ran exactly once")

    def clear(self) -> None:
        """Stop the daemon and with it everything that it started, then remove every trace.

        It is started first: an interruption may have come while it was dead and its runner was not.
        """
        self.polpoctl("start", check=False)
        status = self.polpoctl("status", "--json", check=False)
        if status:
            pid = json.loads(status)["pid"]
            self.polpoctl("stop", check=False)
            try:
                self.until("the daemon has stopped", lambda: not alive(pid), 60)
            except Failure:
                os.kill(pid, signal.SIGKILL)
                raise
        shutil.rmtree(self.scratch)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo = Demo(Path(tempfile.mkdtemp(prefix="polpo-demo-")))
    code = 0
    try:
        demo.run()
    except Failure as exc:
        demo.screen.say(f"the demo failed: {exc}")
        code = 1
    except KeyboardInterrupt:
        demo.screen.say("interrupted: stopping the daemon")
        code = 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        demo.clear()
    return code


if __name__ == "__main__":
    sys.exit(main())
