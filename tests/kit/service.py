"""polpod as a service of a machine with systemd, as its administrator and its users see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kit.box import PYTHON, TESTS, Box
from kit.waiting import SLOWNESS, until

UNIT = "polpod.service"
SOCKET = "polpod.socket"
STATE = "/var/lib/polpo/.polpo"
JOBS = "/srv/jobs"
"""Where jobs of tests write: their trace, and the file `go`, which lets them end."""
MEMBER, STRANGER = "alice", "mallory"
"""Users of the machine, the one in group polpo."""

JOB = f"echo start $POLPO_TASK_ID $POLPO_RUN_ID | tee -a {JOBS}/trace; while [ ! -e {JOBS}/go ]; do sleep 0.5; done; "
JOB += f"echo end $POLPO_TASK_ID $POLPO_RUN_ID | tee -a {JOBS}/trace; exit $((POLPO_TASK_ID % 3))"

SETTLED = f"""
from kit.invariants import Ledger
from polpod.paths import StateDirectory
Ledger(StateDirectory("{Path(STATE).parent}")).settled()
"""


class Service:
    """Installed when it is made, and not started; `settings` are those of polpo.json."""

    def __init__(self, box: Box, **settings: Any) -> None:
        self.box = box
        box.do("systemd-sysusers", "polpo.conf")
        for user, groups in ((MEMBER, "polpo"), (STRANGER, "")):
            box.do("useradd", "--no-create-home", "--groups", groups, user)
        box.do("install", "-d", "-m", "1777", JOBS)
        box.do("install", "-d", "-m", "700", "-o", "polpo", "-g", "polpo", str(Path(STATE).parent), STATE)
        self.configure(**settings)
        if SLOWNESS > 1:
            self.override(UNIT, "[Service]\nTimeoutStartSec=infinity\nWatchdogSec=0")

    def configure(self, **settings: Any) -> None:
        """Takes effect at the next start or reload."""
        self.box.put(f"{STATE}/polpo.json", json.dumps({"settings": {"reserve": 0} | settings}))
        self.box.do("chown", "polpo:polpo", f"{STATE}/polpo.json")

    def override(self, unit: str, text: str) -> None:
        """Give the unit a drop-in."""
        self.box.put(f"/etc/systemd/system/{unit}.d/test.conf", text)
        self.systemctl("daemon-reload")

    def systemctl(self, *words: str) -> None:
        """A verb of systemctl that has to succeed."""
        ended = self.box.run("systemctl", *words)
        assert ended.returncode == 0, f"systemctl {' '.join(words)}: {ended.stderr}\n{self.box.journal()}"

    def start(self) -> None:
        """As an administrator does, and a boot once they are enabled."""
        self.systemctl("start", SOCKET, UNIT)

    def show(self, name: str, unit: str = UNIT) -> str:
        """A property of the unit."""
        return self.box.do("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def pid(self) -> int:
        """Of the daemon, in the machine; 0 if there is none."""
        return int(self.show("MainPID"))

    def kill(self, signal: str) -> int:
        """Send the daemon, and nobody else, a signal; the pid that it had."""
        pid = self.pid()
        self.box.do("kill", f"-{signal}", str(pid))
        return pid

    def came_back(self, after: int) -> None:
        """Wait until a daemon answers that is not the one of this pid."""
        until(lambda: self.pid() not in (0, after), f"systemd starts another daemon\n{self.box.journal()}")
        self.healthy()

    def healthy(self) -> None:
        """Wait until the daemon answers and has recovered."""

        def ok() -> bool:
            asked = self.box.run("polpoctl", "rpc", "daemon.health")
            return asked.returncode == 0 and bool(json.loads(asked.stdout)["ok"])

        until(ok, "the daemon is healthy")

    def status(self) -> dict[str, Any]:
        """The answer to `daemon.status`."""
        answer: dict[str, Any] = json.loads(self.box.do("polpoctl", "status", "--json"))
        return answer

    def submit(self, number: int, shell: str = JOB, **fields: Any) -> list[str]:
        """The ids of so many tasks that a member of the group has submitted."""
        line = json.dumps({"shell": shell, "cwd": "/", **fields}) + "\n"
        return self.box.do("polpoctl", "submit", "--batch", "-", user=MEMBER, input=line * number).split()

    def tasks(self) -> dict[str, dict[str, Any]]:
        """All tasks by id."""
        listed = json.loads(self.box.do("polpoctl", "list", "--all", "--limit", "1000", "--json"))
        return {task["id"]: task for task in listed}

    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """The runs of each task, the oldest first."""
        found: dict[str, list[dict[str, Any]]] = {}
        for run in reversed(json.loads(self.box.do("polpoctl", "runs", "--limit", "1000", "--json"))):
            found.setdefault(run["task_id"], []).append(run)
        return found

    def trace(self) -> list[tuple[str, str, int]]:
        """What the jobs wrote: start or end, the task, the run."""
        trace = self.box.path(f"{JOBS}/trace")
        lines = trace.read_text().splitlines() if trace.exists() else []
        return [(what, task, int(run)) for what, task, run in (line.split() for line in lines)]

    def release(self) -> None:
        """Let the jobs go that wait for it."""
        self.box.put(f"{JOBS}/go", "")

    def groups(self) -> list[str]:
        """The cgroups of runs, anywhere in the machine."""
        return sorted(str(path) for path in self.box.path("/sys/fs/cgroup").rglob("run-*"))

    def settled(self) -> None:
        """While the daemon is stopped: both databases are in order and nothing is left over."""
        self.box.do("env", f"PYTHONPATH={TESTS}", PYTHON, "-c", SETTLED, user="polpo")
        assert self.groups() == []


class Crowd:
    """Tasks that all run, until they are let go."""

    SAME = ("id", "attempt", "pid", "job_pid", "started_at", "log_path")

    def __init__(self, service: Service, number: int, **fields: Any) -> None:
        self.service = service
        self.ids = service.submit(number, **fields)
        assert len(self.ids) == number
        until(self._all_started, f"{number} jobs run")
        self.before = self._facts()

    def _all_started(self) -> bool:
        return sorted(task for what, task, _ in self.service.trace() if what == "start") == sorted(self.ids)

    def _facts(self) -> dict[str, list[tuple[Any, ...]]]:
        runs = self.service.runs()
        return {i: [tuple(run[name] for name in (*self.SAME, "status")) for run in runs[i]] for i in self.ids}

    def processes(self) -> list[int]:
        """The runners and main processes that live."""
        pids = [pid for facts in self.before.values() for fact in facts for pid in fact[2:4]]
        return [pid for pid in pids if self.service.box.path(f"/proc/{pid}").exists()]

    def places(self) -> dict[int, str]:
        """The cgroup of each of them."""
        return {pid: self.service.box.path(f"/proc/{pid}/cgroup").read_text() for pid in self.processes()}

    def unharmed(self) -> None:
        """Each is in the same run as before, whose processes live."""
        now = self._facts()
        changed = {i: (self.before[i], now[i]) for i in self.ids if now[i] != self.before[i]}
        assert not changed, f"before and now: {changed}"
        assert len(self.processes()) == 2 * len(self.ids), "a process is gone, and no row says so"

    def finish(self) -> None:
        """Let them go: each ends with its own exit code after one run, whose log is whole."""
        service = self.service
        service.release()
        until(self._all_over, "every task is over")
        tasks, runs = service.tasks(), service.runs()
        for i in self.ids:
            (run,) = runs[i]
            task, code = tasks[i], int(i) % 3
            assert (run["status"], run["reason"], run["exit_code"]) == (
                "failed" if code else "completed",
                "exited",
                code,
            )
            assert (task["status"], task["retries"], task["recoveries"]) == ("failed" if code else "done", 0, 0)
            said = service.box.path(run["log_path"]).read_text()
            assert said == f"start {i} {run['id']}\nend {i} {run['id']}\n"
        lines = [(what, i, runs[i][0]["id"]) for i in self.ids for what in ("start", "end")]
        assert sorted(service.trace()) == sorted(lines)

    def _all_over(self) -> bool:
        tasks = self.service.tasks()
        return all(tasks[i]["status"] in ("done", "failed") for i in self.ids)
